//! Every module says what it is for; every module with submodules opens with an essay. The documents
//! that a newcomer needs are there, and README still has its two commands.

use super::Finding;
use super::tree::{Tree, is_test};

/// The files that must be there.
const PAGES: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "docs/formats.md",
    "docs/dependencies.md",
    "docs/bug-bench.md",
    "seeds/README.md",
    "ironseed.example.toml",
];

/// What README promises to a fresh machine.
pub(crate) const README_COMMANDS: [&str; 2] =
    ["cargo run --release -- demo", "cargo test --workspace"];

/// An essay of fewer lines does not tell problem, guarantees, path and caveats.
const ESSAY_LINES_MIN: usize = 8;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.rust("") {
        let essay = text.lines().take_while(|line| line.starts_with("//!")).count();
        if essay == 0 && !is_test(file) {
            findings.push(Finding::new(file, 1, "opens with `//!`: what is this module for?"));
        }
        let protocol = file.starts_with("core/src/") && file.ends_with("/mod.rs");
        if protocol && !is_test(file) && (essay < ESSAY_LINES_MIN || text.contains("//! To come."))
        {
            let what = "opens with an essay: problem, guarantees, path of a request, caveats";
            findings.push(Finding::new(file, 1, what));
        }
    }
    for page in PAGES.iter().filter(|page| tree.text(page).is_none()) {
        findings.push(Finding::new(*page, 0, "is missing"));
    }
    findings.extend(decisions(tree));
    let readme = tree.text("README.md").unwrap_or_default();
    for command in README_COMMANDS.iter().filter(|command| !readme.contains(**command)) {
        findings.push(Finding::new("README.md", 0, format!("has the command `{command}`")));
    }
    findings
}

/// Decision records are numbered without a gap and say their three parts.
fn decisions(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut expected = 1_u32;
    for (file, text) in tree.files() {
        let Some(name) = file.strip_prefix("docs/adr/").filter(|name| name.ends_with(".md")) else {
            continue;
        };
        if !name.starts_with(&format!("{expected:04}-")) {
            findings.push(Finding::new(
                file,
                0,
                format!("the next record is number {expected:04}"),
            ));
        }
        expected += 1;
        for part in ["## Context", "## Decision", "## Consequences"] {
            if !text.contains(part) {
                findings.push(Finding::new(file, 0, format!("has no part `{part}`")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(file: &str, text: &str, what: &str) -> bool {
        let found = check(&Tree::of(&[(file, text)]));
        found.iter().any(|found| found.file == file && found.what.contains(what))
    }

    #[test]
    fn a_module_without_a_word_is_found() {
        assert!(finds("sim/src/net.rs", "use x::y;\n", "opens with `//!`"));
        assert!(!finds("sim/src/net.rs", "//! The network.\nuse x::y;\n", "opens with"));
        assert!(!finds("core/src/wal/tests.rs", "use x::y;\n", "opens with"));
    }

    #[test]
    fn a_protocol_without_an_essay_is_found() {
        assert!(finds("core/src/wal/mod.rs", "//! The log.\n", "an essay"));
        let essay = "//! line\n".repeat(ESSAY_LINES_MIN);
        assert!(!finds("core/src/wal/mod.rs", &essay, "an essay"));
        assert!(finds("core/src/wal/mod.rs", &format!("{essay}//! To come.\n"), "an essay"));
    }

    #[test]
    fn a_decision_record_has_its_number_and_parts() {
        assert!(finds("docs/adr/0003-x.md", "", "number 0001"));
        assert!(finds("docs/adr/0001-x.md", "## Context\n## Decision\n", "## Consequences"));
    }

    #[test]
    fn readme_keeps_its_commands() {
        assert!(finds("README.md", "cargo test --workspace", "-- demo"));
    }
}
