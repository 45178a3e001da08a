//! `cargo xtask fuzz`: the targets of `ironseed-fuzz` under libFuzzer, which keeps every input that reaches new code and
//! mutates it further. By hand, for as long as one likes; what runs in CI is `ci --only fuzz`.
//!
//! All of it works with the stable toolchain: coverage is a pass of LLVM that `-Cpasses` names. Whatever runs in the fuzzed
//! process gets it, which is why the host is named as the target: then build scripts and procedural macros go without. The
//! build has a directory of its own, and nothing else in the workspace is compiled anew for it.
//!
//! `WORK` is `<target directory>/fuzz/<target>`:
//!
//! - `corpus/`: what was found to reach new code. It stays, so the next call goes on from there.
//! - `valid/` and `dictionary`: written by the program, out of its own code.
//! - `log-<n>`: what libFuzzer said. `last-<process>`: the input that a process was fed last.
//!
//! An input that does harm goes where the committed ones are: `tests/fuzz/corpus/<target>/`.

use crate::shell::{self, Context, Failure, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Counters of eight bits at every edge, where they are in the code, and what comparisons compare.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// No input may take longer: as `INPUT_TIME_MAX` of the targets.
const INPUT_SECONDS_MAX: u32 = 60;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A target, or `all`.
    target: String,
    /// So many seconds a target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Processes that share a target's corpus.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,
    /// Where mutation begins; with one process and nothing in its corpus, the same runs. By default another one each time.
    #[arg(long)]
    seed: Option<u32>,
    /// Leaves of the corpus that was worked out only what reaches all that it reaches.
    #[arg(long, conflicts_with = "smaller")]
    merge: bool,
    /// Looks for a smaller input that does harm as this file does, and puts it in its place.
    #[arg(long, value_name = "FILE")]
    smaller: Option<PathBuf>,
}

/// A target as the program names it.
struct Target {
    name: String,
    bytes_max: u64,
}

/// Where things are.
struct Places {
    program: PathBuf,
    work: PathBuf,
    committed: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result {
    let dir = shell::target_dir()?;
    let program = build(&dir)?;
    let targets = wanted(&program, &args.target)?;
    let mut failed = Vec::new();
    for target in &targets {
        let work = dir.join("fuzz").join(&target.name);
        let committed = shell::root().join("tests/fuzz/corpus").join(&target.name);
        for folder in [&work.join("corpus"), &work.join("valid"), &committed] {
            fs::create_dir_all(folder).context(|| folder.display().to_string())?;
        }
        let places = Places { program: program.clone(), work, committed };
        let ended = match &args.smaller {
            Some(file) => smaller(&places, target, file, args.seconds),
            None if args.merge => merge(&places, target),
            None => campaign(&places, target, args),
        };
        // A folder that was made for nothing.
        let _ = fs::remove_dir(&places.committed);
        if let Err(failure) = ended {
            println!("{failure}");
            failed.push(target.name.as_str());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join(", "))) }
}

/// Builds the program with coverage in it, into a directory of its own.
fn build(dir: &Path) -> Result<PathBuf> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut probe = Command::new(&compiler);
    probe.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        return Err(Failure::new(format!(
            "libFuzzer is C++, and there is no compiler `{}`: install one (g++ or clang), or name yours in CXX. \
             Without one, `cargo run --release -p ironseed-fuzz` mutates unguided",
            compiler.display()
        )));
    }
    let host = host()?;
    let dir = dir.join("guided");
    let args = ["build", "--profile=guided", "--package=ironseed-fuzz", "--features=linked"];
    let mut cargo = shell::cargo(args);
    cargo.args(["--bin=ironseed-fuzz-guided", "--target", &host]).arg("--target-dir").arg(&dir);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    shell::run(cargo)?;
    Ok(dir.join(host).join("guided/ironseed-fuzz-guided"))
}

/// What this machine is to the compiler.
fn host() -> Result<String> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.arg("-vV").current_dir(shell::root());
    let said = shell::capture(rustc)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("rustc says of no host"))
}

fn wanted(program: &Path, name: &str) -> Result<Vec<Target>> {
    let mut all = Vec::new();
    for line in shell::capture(Command::new(program))?.lines() {
        let number =
            line.split_once(' ').and_then(|(name, bytes)| Some((name, bytes.parse().ok()?)));
        let (name, bytes_max) = number.ok_or_else(|| Failure::new(format!("no target: {line}")))?;
        all.push(Target { name: name.to_owned(), bytes_max });
    }
    let names: Vec<String> = all.iter().map(|target| target.name.clone()).collect();
    all.retain(|target| name == "all" || target.name == name);
    if all.is_empty() {
        return Err(Failure::new(format!("no target {name}; there are: {}", names.join(", "))));
    }
    Ok(all)
}

impl Places {
    /// The program on a target, with what all calls have in common.
    fn command(&self, target: &Target) -> Command {
        let mut command = Command::new(&self.program);
        command.env("IRONSEED_FUZZ_TARGET", &target.name).env("IRONSEED_FUZZ_WORK", &self.work);
        command.env("CARGO_MANIFEST_DIR", shell::root().join("tests/fuzz"));
        command.arg(format!("-timeout={INPUT_SECONDS_MAX}")).current_dir(&self.work);
        command
    }

    fn names_in(folder: &Path) -> Result<Vec<OsString>> {
        let entries = fs::read_dir(folder).context(|| folder.display().to_string())?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        names.collect::<std::io::Result<_>>().context(|| folder.display().to_string())
    }
}

fn flag(name: &str, value: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(value);
    flag
}

/// Processes on one corpus, each with a log; the first one that finds harm ends none of the others.
fn campaign(places: &Places, target: &Target, args: &Args) -> Result {
    let before = Places::names_in(&places.committed)?;
    let mut running = Vec::new();
    for job in 0..args.jobs {
        let log = places.work.join(format!("log-{job}"));
        let output = File::create(&log).context(|| log.display().to_string())?;
        let errors = output.try_clone().context(|| log.display().to_string())?;
        let mut command = places.command(target);
        command.arg(format!("-max_len={}", target.bytes_max));
        command.arg(format!("-max_total_time={}", args.seconds));
        if let Some(seed) = args.seed {
            command.arg(format!("-seed={}", seed.wrapping_add(job).max(1)));
        }
        command.arg(flag("-dict=", Path::new("dictionary")));
        command.args(["-print_final_stats=1", "-report_slow_units=20", "-reload=5"]);
        command.arg(flag("-artifact_prefix=", &places.committed.join("")));
        command.args([Path::new("corpus"), Path::new("valid"), &places.committed]);
        let shown = shell::show(&command);
        println!("$ {shown}");
        let started = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        running.push((started.context(|| shown)?, log));
    }
    let mut harmless = true;
    for (child, log) in running {
        harmless &= finish(places, target, child, &log)?;
    }
    for name in Places::names_in(&places.committed)?.iter().filter(|name| !before.contains(name)) {
        let file = places.committed.join(name);
        let shown = file.strip_prefix(shell::root()).unwrap_or(&file).display();
        println!("  kept: {shown}; again: cargo run -p ironseed-fuzz -- repeat {shown}");
        println!("  smaller: cargo xtask fuzz {} --smaller {shown}", target.name);
        harmless = false;
    }
    if harmless { Ok(()) } else { Err(Failure::new(format!("{}: harm was done", target.name))) }
}

/// Waits for a process and says how it ended. What it was fed last is kept if it could not do that itself.
fn finish(places: &Places, target: &Target, mut child: Child, log: &Path) -> Result<bool> {
    let status = child.wait().context(|| "waiting for libFuzzer".to_owned())?;
    let said = fs::read(log).context(|| log.display().to_string())?;
    let said = String::from_utf8_lossy(&said);
    println!("{:<14} {}", target.name, summary(&said));
    let last = places.work.join(format!("last-{}", child.id()));
    if !status.success() {
        said.lines().filter(|line| !line.starts_with('#')).for_each(|line| println!("  {line}"));
        if !said.contains("Test unit written to") {
            keep(places, &last, status)?;
        }
    }
    let _ = fs::remove_file(&last);
    Ok(status.success())
}

/// An overflow of the stack ends a process before libFuzzer has written anything.
fn keep(places: &Places, last: &Path, status: ExitStatus) -> Result {
    println!("  the process ended with {status}; kept is what it was fed last");
    let name = last.file_name().unwrap_or_default();
    let file = places.committed.join(name);
    fs::copy(last, &file).context(|| file.display().to_string())?;
    Ok(())
}

/// Coverage (`cov`: edges, `ft`: edges and how often) when the corpus was read and at the end, and how many inputs were fed.
fn summary(log: &str) -> String {
    let after = |line: &str, word: &str| {
        let mut words = line.split_whitespace();
        words.find(|it| *it == word)?;
        words.next().map(str::to_owned)
    };
    let pulses: Vec<&str> = (log.lines())
        .filter(|line| line.starts_with('#') && after(line, "ft:").is_some())
        .collect();
    let began = pulses.iter().find(|line| line.contains("INITED"));
    let (Some(began), Some(ended)) = (began, pulses.last()) else {
        return "did not get through its corpus".to_owned();
    };
    let of = |line: &str, word| after(line, word).unwrap_or_default();
    let runs = ended.trim_start_matches('#').split_whitespace().next().unwrap_or_default();
    format!(
        "{runs:>9} runs, cov {} to {}, ft {} to {}, corpus {} to {}",
        of(began, "cov:"),
        of(ended, "cov:"),
        of(began, "ft:"),
        of(ended, "ft:"),
        of(began, "corp:"),
        of(ended, "corp:"),
    )
}

/// The least of the corpus that reaches what all of it reaches, in its place. What is committed or valid is not repeated.
fn merge(places: &Places, target: &Target) -> Result {
    let (corpus, whole) = (places.work.join("corpus"), places.work.join("corpus-before"));
    if whole.exists() {
        // A merge that was interrupted: nothing of it is lost.
        for name in Places::names_in(&corpus)? {
            fs::rename(corpus.join(&name), whole.join(&name)).context(|| "merging".into())?;
        }
    } else {
        fs::rename(&corpus, &whole).context(|| corpus.display().to_string())?;
    }
    fs::create_dir_all(&corpus).context(|| corpus.display().to_string())?;
    let mut command = places.command(target);
    command.arg(format!("-max_len={}", target.bytes_max));
    command.args(["-merge=1", "corpus", "valid"]).arg(&places.committed).arg("corpus-before");
    shell::run(command)?;
    let count = |folder| Places::names_in(folder).map(|names| names.len());
    println!("{}: {} of {} are left", target.name, count(&corpus)?, count(&whole)?);
    fs::remove_dir_all(&whole).context(|| whole.display().to_string())
}

/// libFuzzer tries smaller ones for as long as they do harm, and leaves the smallest.
fn smaller(places: &Places, target: &Target, file: &Path, seconds: u64) -> Result {
    let file = file.canonicalize().context(|| file.display().to_string())?;
    let smallest = places.work.join("smallest");
    let _ = fs::remove_file(&smallest);
    // With a longest length libFuzzer fails an assertion of its own.
    let mut command = places.command(target);
    command.args(["-minimize_crash=1", &format!("-max_total_time={seconds}")]);
    command.arg(flag("-exact_artifact_path=", &smallest)).arg(&file);
    shell::run(command)?;
    let bytes = |file: &Path| fs::metadata(file).map_or(0, |found| found.len());
    if !smallest.exists() {
        println!("nothing smaller than {} bytes was found", bytes(&file));
        return Ok(());
    }
    println!("{} bytes, from {}", bytes(&smallest), bytes(&file));
    fs::copy(&smallest, &file).context(|| file.display().to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn a_log_is_summed_up_from_where_the_corpus_was_read() {
        let log = "INFO: Seed: 1\n#2\tINITED cov: 10 ft: 20 corp: 3/40b exec/s: 0 rss: 30Mb\n\
                   target: said\n#9\tNEW    cov: 11 ft: 25 corp: 4/50b lim: 9 exec/s: 0\n\
                   #4096\tDONE   cov: 12 ft: 30 corp: 5/60b lim: 9 exec/s: 2048 rss: 31Mb\n\
                   stat::number_of_executed_units: 4096\n";
        assert_eq!(
            summary(log),
            "     4096 runs, cov 10 to 12, ft 20 to 30, corpus 3/40b to 5/60b"
        );
        assert_eq!(summary("INFO: Seed: 1\n"), "did not get through its corpus");
    }
}
