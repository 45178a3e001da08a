//! Who may depend on whom. Dependencies point one way, and core's list is closed: nothing in it can
//! block, sleep, spawn or read a clock.

use super::Finding;
use super::tree::Tree;
use toml::{Table, Value};

/// Each package of the workspace, its folder, and which of the others it may depend on.
const PACKAGES: &[(&str, &str, &[&str])] = &[
    ("core", "ironseed-core", &[]),
    ("sim", "ironseed-sim", &["ironseed-core"]),
    ("s3gw", "ironseed-s3gw", &["ironseed-core"]),
    ("runtime", "ironseed", &["ironseed-core", "ironseed-s3gw"]),
    ("tests", "ironseed-tests", &["ironseed-core", "ironseed-sim", "ironseed-s3gw", "ironseed"]),
    (
        "tests/fuzz",
        "ironseed-fuzz",
        &["ironseed-core", "ironseed-sim", "ironseed-s3gw", "ironseed"],
    ),
    ("xtask", "ironseed-xtask", &[]),
];

/// A workspace of its own, which may depend on everything.
const SIMULATED: &str = "tests/madsim";

/// The whole list of what core is built from: byte buffers, checksums, hashes, the codec and the
/// seeded generator.
const CORE_ALLOWED: &[&str] =
    &["bincode", "blake3", "bytes", "crc32fast", "md-5", "rand_chacha", "serde", "thiserror"];

const TABLES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

/// The feature that must never reach the node binary.
const PLANTED: &str = "planted-bugs";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let documented = tree.text("docs/dependencies.md").unwrap_or_default();
    for (folder, name, allowed) in PACKAGES {
        let file = format!("{folder}/Cargo.toml");
        let mut package = Package { file, name, allowed, documented, findings: Vec::new() };
        match tree.text(&package.file).map(str::parse::<Table>) {
            Some(Ok(manifest)) => package.check(&manifest),
            Some(Err(error)) => package.find(format!("no TOML: {error}")),
            None => package.find("is missing"),
        }
        findings.append(&mut package.findings);
    }
    findings.extend(unknown_members(tree));
    findings.extend(unneeded_rows(tree));
    findings
}

/// A row about a crate that no manifest names any more.
fn unneeded_rows(tree: &Tree) -> Vec<Finding> {
    let page = "docs/dependencies.md";
    let folders = PACKAGES.iter().map(|(folder, ..)| *folder).chain([SIMULATED]);
    let used: Vec<&str> = folders
        .filter_map(|folder| tree.text(&format!("{folder}/Cargo.toml")))
        .flat_map(|manifest| manifest.lines().map(|line| line.trim_start_matches("dependencies.")))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .collect();
    let rows = tree.text(page).unwrap_or_default().lines().enumerate();
    rows.filter_map(|(index, row)| {
        let name = row.strip_prefix("| `")?.split('`').next()?;
        let what = format!("nothing depends on `{name}` any more");
        (!used.contains(&name)).then(|| Finding::new(page, index + 1, what))
    })
    .collect()
}

/// A package that the table above does not know would escape every rule.
fn unknown_members(tree: &Tree) -> Vec<Finding> {
    let workspace = tree.text("Cargo.toml").and_then(|text| text.parse::<Table>().ok());
    let members = workspace.as_ref().and_then(|w| w.get("workspace")?.get("members")?.as_array());
    let unknown = members
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|member| !PACKAGES.iter().any(|(folder, ..)| folder == member));
    unknown
        .map(|member| {
            let what =
                format!("`{member}` needs a row in xtask/src/tidy/crates.rs: what may it use?");
            Finding::new("Cargo.toml", 0, what)
        })
        .collect()
}

struct Package<'a> {
    file: String,
    name: &'a str,
    allowed: &'a [&'a str],
    documented: &'a str,
    findings: Vec<Finding>,
}

impl Package<'_> {
    fn find(&mut self, what: impl Into<String>) {
        self.findings.push(Finding::new(self.file.clone(), 0, what));
    }

    fn check(&mut self, manifest: &Table) {
        let name = manifest.get("package").and_then(|package| package.get("name"));
        if name.and_then(Value::as_str) != Some(self.name) {
            self.find(format!("the package here is called `{}`", self.name));
        }
        if manifest.get("lints").and_then(|lints| lints.get("workspace")) != Some(&true.into()) {
            self.find("takes the shared lints: [lints] workspace = true");
        }
        for table in TABLES {
            self.check_table(table, manifest.get(*table));
        }
        let targets = manifest.get("target").and_then(Value::as_table);
        for (target, tables) in targets.into_iter().flatten() {
            for table in TABLES {
                self.check_table(&format!("target.{target}.{table}"), tables.get(*table));
            }
        }
        let default = manifest.get("features").and_then(|features| features.get("default"));
        if default.is_some_and(|default| mentions(default, PLANTED)) {
            self.find(format!("`{PLANTED}` must never be a default feature"));
        }
    }

    fn check_table(&mut self, table: &str, entries: Option<&Value>) {
        for (dependency, spec) in entries.and_then(Value::as_table).into_iter().flatten() {
            if dependency.starts_with("ironseed") {
                if !self.allowed.contains(&dependency.as_str()) {
                    self.find(format!("`{}` must not depend on `{dependency}`", self.name));
                }
            } else {
                self.check_foreign(table, dependency);
            }
            let shared = spec.get("workspace") == Some(&true.into());
            if !shared && dependency.starts_with("ironseed") {
                self.find(format!("{table}.{dependency}: write `workspace = true`"));
            }
            // Cargo unifies features over everything that is built at once: one manifest that asks
            // for the switch would bring it into the node binary.
            if spec.get("features").is_some_and(|features| mentions(features, PLANTED)) {
                self.find(format!("{table}.{dependency} turns `{PLANTED}` on for everybody"));
            }
        }
    }

    fn check_foreign(&mut self, table: &str, dependency: &str) {
        let only_tests = table.contains("dev-dependencies");
        if self.name == "ironseed-core" && !only_tests && !CORE_ALLOWED.contains(&dependency) {
            self.find(format!(
                "core is built from {}; not `{dependency}`",
                CORE_ALLOWED.join(", ")
            ));
        }
        if !self.documented.contains(&format!("`{dependency}`")) {
            self.find(format!(
                "`{dependency}` needs a line in docs/dependencies.md: what for, why this"
            ));
        }
    }
}

fn mentions(list: &Value, feature: &str) -> bool {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).any(|f| f.contains(feature))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(folder: &str, manifest: &str) -> Vec<String> {
        let path = format!("{folder}/Cargo.toml");
        let docs = ("docs/dependencies.md", "| `bytes` | `tokio` |");
        let all = check(&Tree::of(&[(&path, manifest), docs]));
        all.into_iter().filter(|found| found.file == path).map(|found| found.what).collect()
    }

    fn manifest(name: &str, rest: &str) -> String {
        format!("lints.workspace = true\npackage.name = \"{name}\"\n{rest}")
    }

    #[test]
    fn a_good_manifest_passes() {
        let rest = "[dependencies]\nbytes.workspace = true\nironseed-core.workspace = true";
        assert_eq!(findings("sim", &manifest("ironseed-sim", rest)), [""; 0]);
    }

    #[test]
    fn directions_are_kept_in_every_table() {
        for table in ["dependencies", "dev-dependencies", "target.'cfg(unix)'.dependencies"] {
            let rest = format!("[{table}]\nironseed-sim.workspace = true");
            let found = findings("runtime", &manifest("ironseed", &rest));
            assert_eq!(found, ["`ironseed` must not depend on `ironseed-sim`"], "in {table}");
        }
    }

    #[test]
    fn cores_list_is_closed_but_for_its_tests() {
        let found = findings("core", &manifest("ironseed-core", "dependencies.tokio = \"1\""));
        assert!(found[0].starts_with("core is built from"), "{found:?}");
        let dev = manifest("ironseed-core", "dev-dependencies.tokio = \"1\"");
        assert_eq!(findings("core", &dev), [""; 0]);
    }

    #[test]
    fn a_dependency_nobody_explained_is_found() {
        let found = findings("s3gw", &manifest("ironseed-s3gw", "dependencies.left-pad = \"1\""));
        assert!(found[0].contains("docs/dependencies.md"), "{found:?}");
    }

    #[test]
    fn a_row_about_nothing_is_found() {
        let page = "| `bytes` | handles | |\n| `sled` | nothing | |";
        let manifest = manifest("ironseed-sim", "[dependencies]\nbytes.workspace = true");
        let tree = Tree::of(&[("sim/Cargo.toml", &manifest), ("docs/dependencies.md", page)]);
        let found: Vec<_> = check(&tree).into_iter().filter(|found| found.line > 0).collect();
        let what = "nothing depends on `sled` any more";
        assert_eq!(found, [Finding::new("docs/dependencies.md", 2, what)]);
    }

    #[test]
    fn planted_bugs_stay_behind_their_switch() {
        let on =
            "[dependencies]\nironseed-core = { workspace = true, features = [\"planted-bugs\"] }";
        assert!(findings("sim", &manifest("ironseed-sim", on))[0].contains("for everybody"));
        let default = "features.default = [\"ironseed-core/planted-bugs\"]";
        assert!(findings("sim", &manifest("ironseed-sim", default))[0].contains("default feature"));
    }

    #[test]
    fn a_package_without_lints_or_row_is_found() {
        let bare = "package.name = \"ironseed-sim\"";
        assert!(findings("sim", bare)[0].contains("shared lints"));
        let tree = Tree::of(&[("Cargo.toml", "workspace.members = [\"core\", \"console\"]")]);
        let all = check(&tree);
        assert!(all.iter().any(|found| found.what.starts_with("`console` needs a row")), "{all:?}");
    }
}
