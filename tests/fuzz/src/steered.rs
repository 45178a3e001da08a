//! The targets under libFuzzer, which keeps what reaches new code and mutates that further.
//!
//! It owns `main` and the command line, so what the program is to do comes from the environment ([`TARGET`], [`WORK`]).
//! It begins with the valid inputs, which are written to a folder for it, and with the committed corpus. An input that does
//! harm ends the process, and libFuzzer writes it where the command line says. A stack that overflows kills the process
//! before anybody can write anything, so each input is left behind first, as in a campaign.

use crate::{Target, run, target, targets};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::OnceLock;

/// The environment's name for the target. Without it the program says which there are.
pub const TARGET: &str = "IRONSEED_FUZZ_TARGET";
/// The environment's name for the folder in which [`begin`] puts `valid/`, `dictionary` and `last-<process>`.
pub const WORK: &str = "IRONSEED_FUZZ_WORK";

struct Fed {
    target: &'static Target,
    last: File,
}

static FED: OnceLock<Fed> = OnceLock::new();

/// Before libFuzzer reads its command line: writes what that is to name.
pub fn begin() {
    let Some(name) = std::env::var_os(TARGET) else {
        for target in targets() {
            say(&format!("{} {}", target.name, target.bytes_max));
        }
        std::process::exit(0);
    };
    let begun = target(&name.to_string_lossy())
        .ok_or_else(|| io::Error::other(format!("{TARGET}: there is no target {}", name.display())))
        .and_then(|target| Ok(Fed { target, last: prepare(target)? }));
    match begun {
        Ok(fed) => assert!(FED.set(fed).is_ok(), "libFuzzer begins once"),
        Err(error) => {
            say(&format!("error: {error}"));
            std::process::exit(2);
        }
    }
}

/// One line. A reader that has gone away is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn prepare(target: &Target) -> io::Result<File> {
    let work =
        std::env::var_os(WORK).ok_or_else(|| io::Error::other(format!("{WORK} is not set")))?;
    let work = Path::new(&work);
    run::write_seeds(target, &work.join("valid"))?;
    std::fs::write(work.join("dictionary"), dictionary(target.dictionary))?;
    File::create(work.join(format!("last-{}", std::process::id())))
}

/// The words of a target as libFuzzer reads them: one a line, in quotes, any byte as `\xAB`. It refuses a file with nothing in it.
fn dictionary(words: &[&[u8]]) -> String {
    let mut lines = String::from("# Words of this target.\n");
    for word in words {
        let bytes = word.iter().fold(String::new(), |mut bytes, byte| {
            let _ = write!(bytes, "\\x{byte:02X}");
            bytes
        });
        let _ = writeln!(lines, "\"{bytes}\"");
    }
    lines
}

/// Feeds one input; ends the process if it does harm.
pub fn feed(input: &[u8]) {
    let Some(Fed { target, last }) = FED.get() else { return };
    let written = last.set_len(input.len() as u64).and_then(|()| last.write_all_at(input, 0));
    written.expect("the input can be left behind");
    // Longer ones are not what the target is about; libFuzzer merges files without a look at its own limit.
    let input = input.get(..target.bytes_max).unwrap_or(input);
    if let Err(harm) = run::feed(target, input) {
        say(&format!("{}: {harm}", target.name));
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::dictionary;

    #[test]
    fn words_are_in_quotes_and_bytes_of_no_meaning_to_libfuzzer() {
        let written = dictionary(&[b"a\"\n", b"\xff"]);
        let words: Vec<&str> = written.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(words, ["\"\\x61\\x22\\x0A\"", "\"\\xFF\""]);
        assert!(!dictionary(&[]).is_empty());
    }
}
