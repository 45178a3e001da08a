//! The packages that are built a second time, for simulated sockets: `tests/madsim/` has a manifest of its own for
//! each, outside the workspace, and nothing but this rule ties it to the one it repeats.

use super::Finding;
use super::tree::Tree;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Folder of the manifest that is repeated, and what is left out there with its reason: nothing of it is
/// compiled for a simulated machine.
const TWINS: &[(&str, &[&str])] = &[
    ("runtime", &["clap", "fjall", "hdrhistogram", "indicatif", "mimalloc", "rocksdb"]),
    ("s3gw", &[]),
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let manifest = |path: &str| tree.text(path).and_then(|text| text.parse::<Table>().ok());
    let shared = manifest("Cargo.toml").unwrap_or_default();
    let shared = shared.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let mut findings = Vec::new();
    for (folder, left_out) in TWINS {
        let twin = format!("tests/madsim/{folder}/Cargo.toml");
        let Some(original) = manifest(&format!("{folder}/Cargo.toml")) else { continue };
        let repeated = manifest(&twin).unwrap_or_default();
        let (original, repeated) = (versions(&original, shared), versions(&repeated, None));
        for (name, version) in &original {
            let found = match repeated.get(name) {
                None if left_out.contains(&name.as_str()) => continue,
                // It stands for itself here: the version is madsim's own.
                Some(_) if name == "tokio" => continue,
                Some(found) if found == version => continue,
                found => found,
            };
            let has = found.map_or("nothing".into(), |found| format!("{found:?}"));
            let what = format!("{folder}/Cargo.toml has {name} {version:?}, this has {has}");
            findings.push(Finding::new(twin.clone(), 0, what));
        }
        let odd = repeated.keys().filter(|name| !original.contains_key(*name));
        findings.extend(odd.map(|name| {
            Finding::new(twin.clone(), 0, format!("`{name}` is nothing that {folder}/ depends on"))
        }));
    }
    findings
}

/// What a manifest depends on, in which versions; ours have none.
fn versions(manifest: &Table, shared: Option<&Value>) -> BTreeMap<String, String> {
    let version = |name: &str, spec: &Value| {
        let inherited = spec.get("workspace").is_some();
        let spec = if inherited { shared.and_then(|shared| shared.get(name)) } else { Some(spec) };
        let version = spec.and_then(|spec| spec.get("version").unwrap_or(spec).as_str());
        version.unwrap_or_default().to_owned()
    };
    let dependencies = manifest.get("dependencies").and_then(Value::as_table);
    let dependencies = dependencies.into_iter().flatten();
    dependencies.map(|(name, spec)| (name.clone(), version(name, spec))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(twin: &str) -> Vec<String> {
        let files = [
            (
                "Cargo.toml",
                "[workspace.dependencies]\nbytes = \"1.12\"\ntokio = { version = \"1.54\" }",
            ),
            (
                "s3gw/Cargo.toml",
                "[dependencies]\nbytes = { workspace = true }\ntokio.workspace = true",
            ),
            ("tests/madsim/s3gw/Cargo.toml", twin),
        ];
        check(&Tree::of(&files)).into_iter().map(|found| found.what).collect()
    }

    #[test]
    fn a_twin_has_what_its_original_has_and_nothing_else() {
        let tokio = "tokio = { package = \"madsim-tokio\", version = \"=0.2.30\" }";
        let twin = |rest: &str| findings(&format!("[dependencies]\n{tokio}\n{rest}"));
        assert_eq!(twin("bytes = \"1.12\""), [""; 0]);
        assert!(twin("")[0].ends_with("has bytes \"1.12\", this has nothing"));
        assert!(twin("bytes = \"1.11\"")[0].ends_with("this has \"1.11\""));
        assert!(twin("bytes = \"1.12\"\nsled = \"1\"")[0].starts_with("`sled` is nothing"));
    }
}
