//! Which paths a Rust file names, found without a parser: comments and literals are skipped, the
//! rest is cut into words, and every `crate::`, `super::` and `self::` path is followed, groups
//! included. Good enough to judge imports, and it also sees into macro calls, where a syntax tree
//! ends.

/// A path that begins at the crate's root, as written out: `["raft", "log", "Log"]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Line of its first word, from 1.
    pub(crate) line: usize,
    /// Its segments, without `crate`. A glob ends in `*`.
    pub(crate) path: Vec<String>,
}

/// Every path from the root that `source` names; `module` is where the file itself lies.
pub(crate) fn crate_paths(source: &str, module: &[&str]) -> Vec<Named> {
    let words = words(source);
    let mut walk = Walk { words: &words, at: 0, named: Vec::new() };
    // Modules written inside the file, each with the brace depth at which it ends.
    let mut inline: Vec<(String, usize)> = Vec::new();
    let mut depth = 0_usize;
    while let Some(word) = walk.peek(0) {
        match word {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if inline.last().is_some_and(|(_, end)| *end == depth) {
                    inline.pop();
                }
            }
            "mod" if walk.peek(2) == Some("{") => {
                let name = walk.peek(1).unwrap_or_default().to_owned();
                inline.push((name, depth));
                depth += 1;
                walk.at += 2;
            }
            "crate" | "super" | "self" if walk.peek(1) == Some("::") => {
                let here = module.iter().map(|part| (*part).to_owned());
                let here = here.chain(inline.iter().map(|(name, _)| name.clone())).collect();
                walk.path(here);
                continue;
            }
            _ => {}
        }
        walk.at += 1;
    }
    walk.named
}

struct Walk<'a> {
    words: &'a [(usize, &'a str)],
    at: usize,
    named: Vec<Named>,
}

impl<'a> Walk<'a> {
    fn peek(&self, ahead: usize) -> Option<&'a str> {
        self.words.get(self.at + ahead).map(|(_, word)| *word)
    }

    /// Reads the path that begins here; `base` is the module that `self` means.
    fn path(&mut self, mut base: Vec<String>) {
        let line = self.words.get(self.at).map_or(0, |(line, _)| *line);
        loop {
            match self.peek(0) {
                Some("crate") => base.clear(),
                Some("self") => {}
                Some("super") => {
                    base.pop();
                }
                Some("{") => return self.group(&base),
                Some(word) if is_name(word) || word == "*" => base.push(word.to_owned()),
                _ => break,
            }
            self.at += 1;
            if self.peek(0) != Some("::") {
                break;
            }
            self.at += 1;
        }
        self.named.push(Named { line, path: base });
    }

    /// Reads `{a, b::c, self}` behind a path.
    fn group(&mut self, base: &[String]) {
        self.at += 1;
        while let Some(word) = self.peek(0) {
            match word {
                "}" => {
                    self.at += 1;
                    return;
                }
                "as" => self.at += 2,
                "{" => self.group(base),
                _ if is_name(word) || word == "*" => self.path(base.to_vec()),
                _ => self.at += 1,
            }
        }
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The words of the source with their lines: names, `::` and single marks.
fn words(source: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut line = 1;
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = literal_or_comment(rest, first);
        let bytes = if skipped > 0 {
            skipped
        } else if is_name(rest) {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (word, tail) = rest.split_at(bytes);
        if skipped == 0 && !first.is_whitespace() {
            words.push((line, word));
        }
        line += word.matches('\n').count();
        rest = tail;
    }
    words
}

/// How many bytes of a comment, string or character begin here; 0 if none does.
fn literal_or_comment(rest: &str, first: char) -> usize {
    match first {
        '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
        '/' if rest.starts_with("/*") => block_comment(rest),
        '"' => string(rest, 1),
        '\'' => character(rest),
        'r' | 'b' | 'c' => {
            let prefix = rest.find(|c| !matches!(c, 'r' | 'b' | 'c')).unwrap_or(rest.len());
            let raw = prefix <= 2 && rest[..prefix].contains('r');
            let after = &rest[prefix..];
            let hashes = after.len() - after.trim_start_matches('#').len();
            if raw && after[hashes..].starts_with('"') {
                let end = format!("\"{}", "#".repeat(hashes));
                let body = prefix + hashes + 1;
                rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len())
            } else if prefix == 1 && after.starts_with('"') {
                string(rest, 2)
            } else {
                0
            }
        }
        _ => 0,
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    let bytes = rest.as_bytes();
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

/// A string whose opening quote ends at `start`.
fn string(rest: &str, start: usize) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal, or 1 for the quote of a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[2..]
            .char_indices()
            .skip(1)
            .find(|(_, c)| *c == '\'')
            .map_or(rest.len(), |(at, _)| 2 + at + 1),
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str, module: &[&str]) -> Vec<String> {
        crate_paths(source, module).iter().map(|named| named.path.join("::")).collect()
    }

    #[test]
    fn groups_globs_and_renames_are_followed() {
        let source =
            "use crate::{raft::{log::Log as L, self}, wal::*};\nfn f(x: crate::kv::State) {}";
        assert_eq!(paths(source, &["chunk"]), ["raft::log::Log", "raft", "wal::*", "kv::State"]);
        assert_eq!(crate_paths(source, &[])[3].line, 2);
    }

    #[test]
    fn super_climbs_from_the_file_and_from_modules_inside_it() {
        assert_eq!(paths("use super::super::wal::Log;", &["raft", "log"]), ["wal::Log"]);
        let inline = "mod tests { use super::Log; use super::super::Group; } use super::read;";
        assert_eq!(
            paths(inline, &["raft", "log"]),
            ["raft::log::Log", "raft::Group", "raft::read"]
        );
    }

    #[test]
    fn comments_and_literals_name_nothing() {
        let source = r##"
            //! [`crate::a`]
            /* crate::b /* crate::c */ crate::d */
            const S: &str = "crate::e \" crate::f"; const R: &str = r#"crate::g " crate::h"#;
            const B: &[u8] = b"crate::i"; const C: char = '"'; const D: char = '\''; const E: u8 = b'"';
            fn f<'a>(x: &'a crate::yes::X) {}
        "##;
        assert_eq!(paths(source, &[]), ["yes::X"]);
    }
}
