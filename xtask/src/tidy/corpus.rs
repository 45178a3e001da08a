//! What pins behaviour is whole: every golden script has its transcript and every transcript its
//! script, none is waiting for review, and every seed says what it broke.

use super::Finding;
use super::tree::Tree;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// What a file of the corpus tells, and what each part means.
const SEED_KEYS: &[(&str, &str)] = &[
    ("seed", "the seed that failed"),
    ("found", "the commit at which it failed"),
    ("broke", "what broke, in a sentence"),
    ("checker", "which checker saw it"),
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = scripts(tree);
    findings.extend(pending(tree));
    findings.extend(seeds(tree));
    findings
}

/// The package that a file belongs to: its first folder.
fn package(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn scripts(tree: &Tree) -> Vec<Finding> {
    let all: Vec<&str> = tree.files().map(|(path, _)| path).collect();
    let scripts: Vec<&str> = (all.iter().copied())
        .filter(|path| path.contains("/testscripts/") && !path.ends_with(".snap"))
        .collect();
    // insta names the snapshot of one file of a glob `<module>__<test>@<file>.snap`.
    let snapshots: Vec<(&str, &str)> = (all.iter().copied())
        .filter_map(|path| Some((path, path.rsplit('/').next()?.strip_suffix(".snap")?)))
        .filter_map(|(path, name)| Some((path, name.split_once('@')?.1)))
        .collect();
    let same = |script: &str, snapshot: &str, of: &str| {
        let name = script.rsplit('/').next().unwrap_or(script);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        package(script) == package(snapshot) && (of == name || of == stem)
    };
    let mut findings = Vec::new();
    for script in &scripts {
        if !snapshots.iter().any(|(path, of)| same(script, path, of)) {
            findings.push(Finding::new(*script, 0, "has no snapshot: is a runner looking at it?"));
        }
    }
    for (path, of) in &snapshots {
        let scripted = path.contains("/testscripts/")
            || scripts.iter().any(|script| package(script) == package(path));
        if scripted && !scripts.iter().any(|script| same(script, path, of)) {
            findings.push(Finding::new(*path, 0, "is the transcript of a script that is gone"));
        }
    }
    findings
}

fn pending(tree: &Tree) -> Vec<Finding> {
    let new = tree
        .files()
        .filter(|(path, _)| path.ends_with(".snap.new") || path.ends_with(".pending-snap"));
    new.map(|(path, _)| Finding::new(path, 0, "waits for review: cargo insta review")).collect()
}

fn seeds(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
    for (path, text) in tree.files().filter(|(path, _)| path.starts_with("seeds/")) {
        let Some(name) = path.strip_prefix("seeds/").and_then(|name| name.strip_suffix(".toml"))
        else {
            continue;
        };
        let number = name.split('-').next().unwrap_or(name);
        let numbered = number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit());
        if !numbered || name.len() < 6 {
            findings.push(Finding::new(path, 0, "is called NNNN-short-title.toml"));
        }
        if let Some(other) = numbers.insert(number, path) {
            findings.push(Finding::new(path, 0, format!("has the number of {other}")));
        }
        match text.parse::<Table>() {
            Err(error) => findings.push(Finding::new(path, 0, format!("no TOML: {error}"))),
            Ok(seed) => {
                let missing = SEED_KEYS.iter().filter(|(key, _)| !told(seed.get(*key)));
                findings.extend(missing.map(|(key, meaning)| {
                    Finding::new(path, 0, format!("does not say `{key}`: {meaning}"))
                }));
            }
        }
    }
    findings
}

fn told(value: Option<&Value>) -> bool {
    match value {
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Integer(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn script_and_transcript_come_in_pairs() {
        let script = ("core/src/raft/testscripts/elect.txt", "");
        let snapshot = ("core/src/raft/snapshots/a__b__script@elect.txt.snap", "");
        assert_eq!(whats(&[script, snapshot]), [""; 0]);
        assert!(whats(&[script])[0].contains("no snapshot"));
        let stale = ("core/src/raft/snapshots/a__b__script@gone.txt.snap", "");
        assert!(whats(&[script, snapshot, stale])[0].contains("script that is gone"));
    }

    #[test]
    fn snapshots_of_other_tests_need_no_script() {
        assert_eq!(whats(&[("s3gw/src/snapshots/errors__no_such_key.snap", "")]), [""; 0]);
    }

    #[test]
    fn nothing_waits_for_review() {
        assert!(whats(&[("s3gw/src/snapshots/a.snap.new", "")])[0].contains("insta review"));
    }

    #[test]
    fn a_seed_says_what_it_broke() {
        let whole =
            "seed = \"0x5eed\"\nfound = \"abc\"\nbroke = \"lost a write\"\nchecker = \"durable\"";
        assert_eq!(whats(&[("seeds/0001-lost-write.toml", whole)]), [""; 0]);
        let silent = whole.replace("lost a write", " ");
        assert!(whats(&[("seeds/0001-lost-write.toml", &silent)])[0].contains("`broke`"));
        assert!(whats(&[("seeds/lost.toml", whole)])[0].contains("NNNN-short-title"));
        let twice = [("seeds/0001-a.toml", whole), ("seeds/0001-b.toml", whole)];
        assert!(whats(&twice)[0].contains("number of seeds/0001-a.toml"));
    }
}
