//! What the compiler can't check, checked: `cargo xtask tidy`, and as a test of this package.
//!
//! Each rule is a function from the files of the checkout to findings, so that each has a test in
//! which it finds something. The one rule that is no such function is [`no_std`]: it compiles core
//! against a copy of the toolchain that has no `std` in it.
//!
//! Caveats: sizes are printed and not judged. That public items are documented is the compiler's
//! own lint; here it is only checked that no package has opted out of the shared lints.

mod corpus;
mod crates;
mod docs;
mod imports;
mod lexer;
mod no_std;
mod sizes;
mod text;
mod tree;
mod twins;

use crate::shell::{self, Failure, Result};
use std::fmt;
use std::path::PathBuf;
use tree::Tree;

/// What to check.
#[derive(Default, clap::Args)]
pub(crate) struct Args {
    /// Another checkout to look at. Nothing is compiled there.
    #[arg(long)]
    root: Option<PathBuf>,
    /// Leave out the compilation of core without `std` (a few seconds).
    #[arg(long)]
    fast: bool,
}

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, from the root of the checkout.
    pub(crate) file: String,
    /// Its line, from 1; 0 for the file as a whole.
    pub(crate) line: usize,
    /// What is wrong and what would be right.
    pub(crate) what: String,
}

impl Finding {
    fn new(file: impl Into<String>, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.into(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: &[(&str, Rule)] = &[
    ("dependencies between packages, and of core", crates::check),
    ("manifests for simulated machines", twins::check),
    ("imports between core's protocols", imports::check),
    ("module documentation", docs::check),
    ("golden scripts, snapshots and seeds", corpus::check),
    ("paths, sources and pins", text::check),
];

/// Runs every rule over the checkout.
pub(crate) fn run(args: &Args) -> Result {
    let root = args.root.clone().unwrap_or_else(shell::root);
    let tree = Tree::read(&root)?;
    sizes::print(&tree);
    let mut count = 0;
    for (name, rule) in RULES {
        let findings = rule(&tree);
        println!("tidy: {name}: {}", if findings.is_empty() { "ok" } else { "broken" });
        for finding in &findings {
            println!("  {finding}");
        }
        count += findings.len();
    }
    if !args.fast && args.root.is_none() {
        no_std::check()?;
        println!("tidy: core and all below it without std: ok");
    }
    if count == 0 { Ok(()) } else { Err(Failure::new(format!("tidy: {count} findings"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_checkout_is_tidy() {
        let tree = Tree::read(&shell::root()).expect("the checkout can be read");
        let mut findings: Vec<Finding> = RULES.iter().flat_map(|(_, rule)| rule(&tree)).collect();
        findings.sort();
        let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(list.is_empty(), "cargo xtask tidy finds:\n{}", list.join("\n"));
    }
}
