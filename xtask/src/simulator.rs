//! The simulator as a program: its verbs, and the JSON object on its last line.

use crate::shell::{self, Context, Failure, Finished, Result};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// A built simulator.
pub(crate) struct Simulator {
    program: PathBuf,
}

/// How a run or a swarm ended.
pub(crate) struct Report {
    /// The command, for messages.
    pub(crate) shown: String,
    /// Whether it exited with 0.
    pub(crate) clean: bool,
    last: Value,
}

/// Which simulator to build.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// Optimized: what swarms run.
    Release,
    /// With debug assertions: it must take the very same decisions.
    Debug,
    /// Optimized, with the switch for planted bugs compiled in.
    Planted,
}

impl Simulator {
    /// Builds it and keeps a copy, so that another build of the same name does not replace it.
    pub(crate) fn build(build: Build) -> Result<Self> {
        let (extra, name): (&[&str], _) = match build {
            Build::Release => (&[], "ironseed-sim-release"),
            Build::Debug => (&[], "ironseed-sim-debug"),
            Build::Planted => (&["--features", "planted-bugs"], "ironseed-sim-planted"),
        };
        let built = shell::build("ironseed-sim", "ironseed-sim", build != Build::Debug, extra)?;
        let dir = shell::target_dir()?.join("xtask");
        std::fs::create_dir_all(&dir).context(|| dir.display().to_string())?;
        let program = dir.join(name);
        std::fs::copy(&built, &program).context(|| program.display().to_string())?;
        Ok(Self { program })
    }

    /// Calls it; a crash of the simulator itself is an error, a violation is not.
    pub(crate) fn call<S: AsRef<str>>(&self, args: &[S]) -> Result<Report> {
        let mut command = Command::new(&self.program);
        command.args(args.iter().map(AsRef::as_ref)).current_dir(shell::root());
        Report::read(shell::watch(command, true)?)
    }

    /// Replays a file of the corpus. Its trace is long and is only shown, the end of it, where the
    /// seed fails again.
    pub(crate) fn replay(&self, file: &str) -> Result {
        let mut command = Command::new(&self.program);
        command.args(["replay", file]).current_dir(shell::root());
        let Finished { code, tail, shown } = shell::watch(command, false)?;
        if code == Some(0) {
            return Ok(());
        }
        tail.iter().for_each(|line| println!("  {line}"));
        Err(Failure::new(format!("`{shown}` ended with {code:?}")))
    }
}

impl Report {
    fn read(finished: Finished) -> Result<Self> {
        let Finished { code, tail, shown } = finished;
        let clean = match code {
            Some(0) => true,
            Some(1) => false,
            other => {
                return Err(Failure::new(format!("`{shown}` ended with {other:?}: not a verdict")));
            }
        };
        let last = tail.back().map(String::as_str).unwrap_or_default();
        let last = serde_json::from_str(last)
            .context(|| format!("the last line of `{shown}` is no JSON object"))?;
        let report = Self { shown, clean, last };
        if report.clean != (report.count("violations")? == 0) {
            let what = format!("`{}`: exit code and violations disagree", report.shown);
            return Err(Failure::new(what));
        }
        Ok(report)
    }

    /// A number that the object has at its top.
    pub(crate) fn count(&self, key: &str) -> Result<u64> {
        let value = self.last.get(key).and_then(Value::as_u64);
        value.ok_or_else(|| Failure::new(format!("`{}` reports no `{key}`", self.shown)))
    }

    /// A text that the object has at its top.
    pub(crate) fn text(&self, key: &str) -> Result<&str> {
        let value = self.last.get(key).and_then(Value::as_str);
        value.ok_or_else(|| Failure::new(format!("`{}` reports no `{key}`", self.shown)))
    }

    /// How often something happened, wherever among the counts it stands, and whether its name is
    /// written with `-` or `_`; 0 if it is not there.
    pub(crate) fn happened(&self, event: &str) -> u64 {
        fn find(value: &Value, event: &str) -> u64 {
            let fields = value.as_object().into_iter().flatten();
            fields
                .map(|(name, value)| match value.as_u64() {
                    Some(count) if name.replace('-', "_") == event => count,
                    _ => find(value, event),
                })
                .sum()
        }
        find(&self.last, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: i32, line: &str) -> Result<Report> {
        Report::read(Finished { code: Some(code), tail: [line.into()].into(), shown: "sim".into() })
    }

    #[test]
    fn counts_are_found_wherever_they_stand() {
        let report = read(0, r#"{"violations":0,"counts":{"rare":{"snapshot-installed":7}}}"#);
        let report = report.expect("a report");
        assert!(report.clean);
        assert_eq!(report.happened("snapshot_installed"), 7);
        assert_eq!(report.happened("bucket_deleted"), 0);
    }

    #[test]
    fn a_crash_or_a_lie_is_no_verdict() {
        assert!(read(101, "{}").is_err(), "a panic of the simulator itself");
        assert!(read(0, "done").is_err(), "no JSON");
        assert!(read(0, r#"{"violations":1}"#).is_err(), "a violation must fail the process");
        assert!(read(1, r#"{"violations":0}"#).is_err(), "a failure without a violation");
        assert!(!read(1, r#"{"violations":2}"#).expect("a report").clean);
    }
}
