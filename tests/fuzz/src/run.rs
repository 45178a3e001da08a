//! Feeding inputs to targets: one, a whole corpus, or a campaign of mutated ones.

use crate::mutate::Mutator;
use crate::{ALLOCATOR, Target, Verdict};
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// Longer than any input may take: beyond every timeout of the gateway, on a busy machine.
pub const INPUT_TIME_MAX: Duration = Duration::from_secs(60);
/// Mutated inputs that were accepted and are mutated again, beside the corpus.
const POOL: usize = 64;

/// Panics in any thread since the last input began, and what the first of them said.
static PANICS: AtomicU64 = AtomicU64::new(0);
static SAID: Mutex<Option<String>> = Mutex::new(None);

/// What an input did that it must not do.
#[derive(Clone, Debug)]
pub struct Harm(pub String);

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a campaign came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Inputs fed.
    pub runs: u64,
    /// Of which something was made.
    pub accepted: u64,
}

/// When a campaign ends.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// After so many inputs.
    Runs(u64),
    /// After so long.
    For(Duration),
}

/// Panics in any thread since the input that is being fed began.
#[must_use]
pub fn panics() -> u64 {
    PANICS.load(Ordering::SeqCst)
}

fn count_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            // The first is the cause; assertions about it come later.
            let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
            said.get_or_insert_with(|| panic.to_string());
        }));
    });
}

/// Feeds one input.
///
/// # Errors
/// It panicked somewhere, or took too much memory or time. (An input that never ends can only be stopped
/// from outside: see `main`.)
pub fn feed(target: &Target, input: &[u8]) -> Result<Verdict, Harm> {
    // Panics are counted for the whole process.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    count_panics();
    PANICS.store(0, Ordering::SeqCst);
    *SAID.lock().unwrap_or_else(PoisonError::into_inner) = None;
    let warm = is_warm(target);
    let (held, peak) = (ALLOCATOR.allocated(), ALLOCATOR.max_allocated());
    let began = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let (took, risen) = (began.elapsed(), ALLOCATOR.max_allocated());
    let said = SAID.lock().unwrap_or_else(PoisonError::into_inner).take();
    let verdict = match (ended, said) {
        (Ok(verdict), None) => verdict,
        (_, said) => return Err(Harm(said.unwrap_or_else(|| "a panic without words".into()))),
    };
    // The peak is the process's: one that an earlier input reached hides what stays below it.
    if risen > peak && risen - held > target.memory_max && warm {
        return Err(Harm(format!("{} bytes allocated at a time", risen - held)));
    }
    if took > INPUT_TIME_MAX {
        return Err(Harm(format!("took {took:?}")));
    }
    Ok(verdict)
}

/// Whether the target has run before in this thread: its first input also makes what it keeps.
fn is_warm(target: &Target) -> bool {
    thread_local!(static LAST: Cell<&'static str> = const { Cell::new("") });
    LAST.replace(target.name) == target.name
}

/// The folder with the corpus of a target.
#[must_use]
pub fn folder(target: &Target) -> PathBuf {
    package().join("corpus").join(target.name)
}

/// Where this package lies: as whoever starts the program says, for it may have been built in another checkout.
#[must_use]
pub fn package() -> PathBuf {
    let said = std::env::var_os("CARGO_MANIFEST_DIR");
    said.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Files of the corpus by their names.
///
/// # Errors
/// The folder is there and can't be read.
pub fn files(target: &Target) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let folder = folder(target);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        files
            .push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}

/// Writes the valid inputs of a target to a folder.
///
/// # Errors
/// They can't be written.
pub fn write_seeds(target: &Target, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (number, seed) in (target.seeds)().into_iter().enumerate() {
        std::fs::write(folder.join(format!("valid-{number:03}")), seed)?;
    }
    Ok(())
}

/// Writes an input that did harm to the corpus; returns its file.
///
/// # Errors
/// It can't be written.
pub fn keep(target: &Target, input: &[u8]) -> std::io::Result<PathBuf> {
    let folder = folder(target);
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{:08x}", crc32fast::hash(input)));
    std::fs::write(&file, input)?;
    Ok(file)
}

/// Feeds the corpus, then mutated inputs drawn from `seed`. `before` sees each of them first.
///
/// # Errors
/// The first input that did harm, and what.
pub fn campaign(
    target: &Target,
    files: &[(String, Vec<u8>)],
    seed: u64,
    length: Length,
    mut before: impl FnMut(&[u8]),
) -> Result<Tally, (Vec<u8>, Harm)> {
    let mut corpus = (target.seeds)();
    let valid = corpus.len();
    corpus.extend(files.iter().map(|(_, bytes)| bytes.clone()));
    let (fixed, began, mut tally) = (corpus.len(), Instant::now(), Tally::default());
    let mut mutator = Mutator::new(seed);
    loop {
        let input = match corpus.get(tally.runs as usize).filter(|_| tally.runs < fixed as u64) {
            Some(input) => input.clone(),
            None => mutator.next(&corpus, valid, target.dictionary, target.bytes_max),
        };
        before(&input);
        let verdict = feed(target, &input).map_err(|harm| (input.clone(), harm))?;
        tally.runs += 1;
        if verdict == Verdict::Accepted {
            tally.accepted += 1;
            // What got through is a way further in. The oldest of them makes room.
            if tally.accepted.is_multiple_of(8) && tally.runs > fixed as u64 {
                if corpus.len() >= fixed + POOL {
                    corpus.remove(fixed);
                }
                corpus.push(input);
            }
        }
        let done = match length {
            Length::Runs(runs) => tally.runs >= runs + fixed as u64,
            Length::For(time) => began.elapsed() >= time && tally.runs >= fixed as u64,
        };
        if done {
            return Ok(tally);
        }
    }
}
