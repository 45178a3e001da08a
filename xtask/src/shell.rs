//! Running other programs: each is printed before it runs, and a failure names it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a verb did not succeed, for the person who called it.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// Adds to an error what was being done.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure(format!("{}: {error}", what())))
    }
}

/// The checkout in which this tool was started. Cargo says so as it runs it; that in which it was built may be another one,
/// which had the same folder for what is compiled, and is gone.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR");
    let manifest = manifest.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().expect("xtask lies in the workspace").to_path_buf()
}

/// `cargo`, the very one that started us, in the root of the checkout.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    // Cargo tells its children about the package that it runs (us). A nested build that sees those
    // variables would be rebuilt for nothing the next time it runs without them.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let metadata = capture(cargo(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).context(|| "cargo metadata".into())?;
    let dir = metadata.get("target_directory").and_then(|dir| dir.as_str());
    dir.map(PathBuf::from).ok_or_else(|| Failure::new("cargo metadata names no target directory"))
}

/// Builds a program and says where it is. `release` decides the profile.
pub(crate) fn build(package: &str, binary: &str, release: bool, extra: &[&str]) -> Result<PathBuf> {
    let mut args = vec!["build", "--package", package, "--bin", binary];
    if release {
        args.push("--release");
    }
    args.extend_from_slice(extra);
    run(cargo(args))?;
    let profile = if release { "release" } else { "debug" };
    Ok(target_dir()?.join(profile).join(binary))
}

/// Runs a program with our own output; it must exit with 0.
pub(crate) fn run(mut command: Command) -> Result {
    let shown = show(&command);
    println!("$ {shown}");
    let status = command.status().context(|| format!("can't start `{shown}`"))?;
    if status.success() { Ok(()) } else { Err(Failure(format!("`{shown}`: {status}"))) }
}

/// Runs a program and returns what it printed; it must exit with 0. Its errors go to ours.
pub(crate) fn capture(mut command: Command) -> Result<String> {
    let shown = show(&command);
    let output =
        command.stderr(Stdio::inherit()).output().context(|| format!("can't start `{shown}`"))?;
    if !output.status.success() {
        return Err(Failure(format!("`{shown}`: {}", output.status)));
    }
    String::from_utf8(output.stdout).context(|| format!("output of `{shown}`"))
}

/// What a program that passes its lines on has left behind.
pub(crate) struct Finished {
    /// Its exit code, or `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// The last lines that it printed and that were not empty.
    pub(crate) tail: VecDeque<String>,
    /// The command, as it was shown.
    pub(crate) shown: String,
}

/// How many lines [`watch`] keeps.
const TAIL: usize = 40;

/// Runs a program to its end and remembers its last lines; `echo` also passes all of them on.
pub(crate) fn watch(mut command: Command, echo: bool) -> Result<Finished> {
    let shown = show(&command);
    println!("$ {shown}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().context(|| format!("can't start `{shown}`"))?;
    let mut tail = VecDeque::new();
    let stdout = child.stdout.take().expect("piped above");
    for line in BufReader::new(stdout).lines() {
        let line = line.context(|| format!("output of `{shown}`"))?;
        if echo {
            println!("  {line}");
        }
        if !line.trim().is_empty() {
            tail.push_back(line);
        }
        if tail.len() > TAIL {
            tail.pop_front();
        }
    }
    let status = child.wait().context(|| format!("waiting for `{shown}`"))?;
    Ok(Finished { code: status.code(), tail, shown })
}

/// The command as one would type it, with paths below the checkout made short.
pub(crate) fn show(command: &Command) -> String {
    let root = root();
    let mut shown = String::new();
    let program = Path::new(command.get_program());
    for word in std::iter::once(program.file_name().unwrap_or(program.as_os_str()))
        .chain(command.get_args())
    {
        if !shown.is_empty() {
            shown.push(' ');
        }
        let word = Path::new(word);
        shown.push_str(&word.strip_prefix(&root).unwrap_or(word).to_string_lossy());
    }
    shown
}

/// Whether this is a build server, where programs may be installed without asking.
pub(crate) fn on_build_server() -> bool {
    std::env::var_os("CI").is_some_and(|ci| ci == "true" || ci == "1")
}
