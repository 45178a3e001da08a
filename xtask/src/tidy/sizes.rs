//! How much there is of what. Printed for the reader of a change, never judged.

use super::tree::{Tree, is_test};
use std::collections::BTreeMap;

/// Files longer than this are named: they should be cut again before they grow on.
const LONG: usize = 500;

#[derive(Default)]
struct Sizes {
    lines: Vec<usize>,
    comments: usize,
    filled: usize,
    test_lines: usize,
}

/// Prints a line a package, and the longest files.
pub(crate) fn print(tree: &Tree) {
    let mut packages: BTreeMap<&str, Sizes> = BTreeMap::new();
    let mut long = Vec::new();
    for (path, text) in tree.rust("") {
        let sizes = packages.entry(path.split('/').next().unwrap_or(path)).or_default();
        let lines = text.lines().count();
        if is_test(path) {
            sizes.test_lines += lines;
            continue;
        }
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
        let shipped = code.lines().count();
        sizes.test_lines += lines - shipped;
        sizes.lines.push(shipped);
        let filled = code.lines().map(str::trim).filter(|line| !line.is_empty());
        let comments = filled.clone().filter(|line| line.starts_with("//")).count();
        sizes.filled += filled.count();
        sizes.comments += comments;
        if shipped > LONG {
            long.push((shipped, path));
        }
    }
    println!(
        "{:<8} {:>5} {:>7} {:>7} {:>8} {:>7}",
        "", "files", "lines", "median", "comments", "tests"
    );
    for (package, mut sizes) in packages {
        sizes.lines.sort_unstable();
        let median = sizes.lines.get(sizes.lines.len() / 2).copied().unwrap_or_default();
        let comments = sizes.comments * 100 / sizes.filled.max(1);
        let (files, lines) = (sizes.lines.len(), sizes.lines.iter().sum::<usize>());
        let tests = sizes.test_lines;
        println!("{package:<8} {files:>5} {lines:>7} {median:>7} {comments:>7}% {tests:>7}");
    }
    long.sort_unstable_by(|a, b| b.cmp(a));
    for (lines, path) in long.iter().take(10) {
        println!("long: {lines:>5} {path}");
    }
}
