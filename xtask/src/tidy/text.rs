//! Rules over the plain text of all files: no path of somebody's machine, no conflict left behind,
//! every action of continuous integration pinned by hash, every package from the public registry.

use super::Finding;
use super::tree::Tree;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Folders that exist on one machine only. Written in two pieces, because this file is checked too.
const MACHINE_PATHS: &[(&str, &str)] =
    &[("/ro", "ot/"), ("/wo", "rk/"), ("/Us", "ers/"), ("C:\\Us", "ers"), ("/home/", "")];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        for (index, line) in text.lines().enumerate() {
            let mut find = |what: String| findings.push(Finding::new(path, index + 1, what));
            if let Some(found) = machine_path(line) {
                find(format!("`{found}` is a path of one machine"));
            }
            if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
                find("a merge conflict was left behind".into());
            }
            if path.starts_with(".github/") && !pinned(line) {
                find("an action is pinned by the hash of its commit".into());
            }
            if path == "Cargo.lock" && line.starts_with("source = ") && !line.contains(REGISTRY) {
                find("packages come from the public registry".into());
            }
        }
    }
    findings
}

/// The machine path in the line, unless it goes on from another folder (`./root/`, `$X/root/`).
fn machine_path(line: &str) -> Option<String> {
    MACHINE_PATHS.iter().map(|(head, tail)| format!("{head}{tail}")).find(|path| {
        line.match_indices(path.as_str()).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let begins = !before.is_some_and(|c| c.is_alphanumeric() || "./_-}~*$".contains(c));
            // A name must follow, else it only speaks of such folders.
            let after = line[at + path.len()..].chars().next();
            begins && after.is_some_and(|c| c.is_alphanumeric() || c == '.')
        })
    })
}

fn pinned(line: &str) -> bool {
    let Some((_, action)) = line.split_once("uses:") else { return true };
    let action = action.split('#').next().unwrap_or(action).trim();
    let hash = action.rsplit_once('@').map(|(_, hash)| hash).unwrap_or_default();
    action.starts_with("./") || (hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, line: &str) -> usize {
        check(&Tree::of(&[(path, line)])).len()
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        for (head, tail) in MACHINE_PATHS {
            assert_eq!(found("a.md", &format!("see {head}{tail}x/y")), 1, "{head}{tail}");
        }
        assert_eq!(found("a.md", "see ./ro\u{6f}t/x, $DIR/wo\u{72}k/x and /tmp/x"), 0);
    }

    #[test]
    fn conflicts_are_found() {
        assert_eq!(found("a.rs", &format!("{} HEAD", "<".repeat(7))), 1);
    }

    #[test]
    fn actions_are_pinned() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let workflow = ".github/workflows/ci.yml";
        assert_eq!(found(workflow, &format!("  - uses: actions/checkout@{hash} # v5")), 0);
        assert_eq!(found(workflow, "  - uses: actions/checkout@v5"), 1);
    }

    #[test]
    fn packages_come_from_the_registry() {
        assert_eq!(found("Cargo.lock", &format!("source = \"{REGISTRY}\"")), 0);
        assert_eq!(found("Cargo.lock", "source = \"git+https://example.com/x\""), 1);
    }
}
