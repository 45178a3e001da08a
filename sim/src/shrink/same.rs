//! When two violations are the same.
//!
//! The same checker has seen them, and the first line of what it says has the same words, numbers and names
//! apart; for an assertion, at the same place of the source. So "a leader lacks a committed entry" does not
//! become "two leaders of one term" on the way, which may be another bug, or another end of the run's bad luck. But
//! which key it is, which node and which of a hundred reads does not matter: these are what shrinking changes.

use crate::checkers::Violation;

/// What two violations share if they are the same.
#[must_use]
pub fn kind(violation: &Violation) -> String {
    let line = violation.what.lines().next().unwrap_or_default();
    if violation.checker == "assertion" {
        return format!("assertion: {line}");
    }
    let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    let trimmed = line.split_whitespace().map(|word| word.trim_end_matches([':', ',', ';', '.']));
    let words: Vec<&str> = trimmed.filter(is_word).take(WORDS).collect();
    format!("{}: {}", violation.checker, words.join(" "))
}

/// Messages that show what they are about in full begin with what is wrong.
const WORDS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(checker: &'static str, what: &str) -> String {
        kind(&Violation::new(checker, 7, what.into()))
    }

    #[test]
    fn numbers_and_names_do_not_matter_and_words_do() {
        let lacks =
            of("raft", "NodeId(3) leads GroupId(1) in Term(9) without t2.i4, committed by n1");
        assert_eq!(
            lacks,
            of("raft", "NodeId(1) leads GroupId(0) in Term(2) without t1.i1, committed by n2")
        );
        assert_ne!(lacks, of("raft", "NodeId(3) and NodeId(1) lead GroupId(1) in Term(9)"));
        let key = of("linearizable", "key \"key-3\": no order explains 12 operations\n  then 3");
        assert_eq!(key, of("linearizable", "key \"key-11\": no order explains 3 operations"));
        assert_ne!(key, of("linearizable", "bucket b: no order explains 3 operations"));
        assert_ne!(key, of("kv", "key \"key-3\": no order explains 12 operations"));
    }

    #[test]
    fn an_assertion_is_its_place() {
        let here = "panicked at core/src/a.rs:12:5:\nleft: 3";
        assert_eq!(
            of("assertion", here),
            of("assertion", "panicked at core/src/a.rs:12:5:\nleft: 9")
        );
        assert_ne!(
            of("assertion", here),
            of("assertion", "panicked at core/src/a.rs:13:5:\nleft: 3")
        );
    }
}
