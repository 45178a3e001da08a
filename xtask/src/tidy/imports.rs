//! Inside core: the protocols do not import each other, `node` composes them. What two modules do
//! share is listed here path by path, so that a new tie between protocols is a decision somebody sees.

use super::tree::{Tree, is_test};
use super::{Finding, lexer};

/// What everybody may use: the contract, the newtypes, the generator, the codec, the switch.
const FOUNDATION: &[&str] = &["types", "machine", "rng", "codec", "planted"];

/// The modules that own a protocol or a meaning.
const PROTOCOLS: &[&str] = &["raft", "wal", "txn", "shard", "kv", "chunk", "object", "node"];

/// `(who, what path, why)`: the ties between protocols. `node` has no row: it may use everything.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("chunk", "wal", "the chunk store owns a segmented log of its own"),
    ("kv", "wal::Location", "a stored body is named by where its record lies"),
    ("kv", "object::api", "the answers of a command are the client's own"),
    ("kv", "object::command", "object commands are applied to the shard's one table"),
    ("kv", "object::registry", "the meta group's bucket registry is commands over the same table"),
    ("object", "kv", "objects live in the shard's one table"),
    ("object", "chunk", "blobs name chunks, leases and pins"),
    ("object", "shard", "a key's home shard follows from placement"),
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust("core/src/").filter(|(path, _)| !is_test(path)).flat_map(check_file).collect()
}

fn check_file((file, text): (&str, &str)) -> Vec<Finding> {
    let module = module_of(file);
    let Some(who) = module.first().copied().filter(|who| *who != "node") else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for named in lexer::crate_paths(text, &module) {
        let Some(first) = named.path.first().map(String::as_str) else { continue };
        let path = named.path.join("::");
        if first == "*" || who == first || FOUNDATION.contains(&first) {
            continue;
        }
        if PROTOCOLS.contains(&first) && !may(who, &path) {
            let what = format!(
                "`{who}` must not use `crate::{path}`; compose them in `node`, or list the tie with \
                 its reason in xtask/src/tidy/imports.rs"
            );
            findings.push(Finding::new(file, named.line, what));
        }
    }
    findings
}

fn may(who: &str, path: &str) -> bool {
    ALLOWED.iter().any(|(from, to, _)| {
        *from == who && path.strip_prefix(to).is_some_and(|r| r.is_empty() || r.starts_with("::"))
    })
}

/// The module that a file of core is: `core/src/raft/log.rs` is `raft::log`.
fn module_of(file: &str) -> Vec<&str> {
    let path = file.trim_start_matches("core/src/").trim_end_matches(".rs");
    let mut module: Vec<&str> = path.split('/').collect();
    if matches!(module.last(), Some(&("mod" | "lib"))) {
        module.pop();
    }
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(file, text)])).iter().map(|found| found.line).collect()
    }

    #[test]
    fn protocols_do_not_see_each_other() {
        let text =
            "use crate::types::Term;\nuse crate::wal::Record;\nuse crate::{codec, kv::State};";
        assert_eq!(lines("core/src/raft/log.rs", text), [2, 3]);
        assert_eq!(lines("core/src/node/mod.rs", text), [0; 0]);
        assert_eq!(lines("core/src/raft/tests.rs", text), [0; 0]);
    }

    #[test]
    fn climbing_out_of_a_module_is_seen() {
        assert_eq!(lines("core/src/wal/mod.rs", "use super::raft::Group;"), [1]);
        assert_eq!(lines("core/src/wal/log.rs", "use super::record::Record;"), [0; 0]);
        assert_eq!(lines("core/src/wal/log.rs", "fn f() { super::super::kv::State::new() }"), [1]);
    }

    #[test]
    fn a_tie_holds_for_its_path_and_one_way() {
        assert_eq!(lines("core/src/kv/state.rs", "use crate::object::command::ObjectOp;"), [0; 0]);
        assert_eq!(lines("core/src/kv/state.rs", "use crate::object::commands::X;"), [1]);
        assert_eq!(lines("core/src/kv/state.rs", "use crate::object::collect::due;"), [1]);
        assert_eq!(lines("core/src/wal/log.rs", "use crate::chunk::Store;"), [1]);
    }

    #[test]
    fn foundations_use_no_protocol() {
        assert_eq!(lines("core/src/types.rs", "use crate::raft::Entry;"), [1]);
    }
}
