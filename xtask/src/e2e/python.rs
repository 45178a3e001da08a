//! The Python clients: in an environment of their own, at pinned versions, installed only where that
//! was asked for.

use crate::shell::{self, Context, Failure, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A Python that has the clients.
pub(crate) struct Python {
    program: PathBuf,
}

impl Python {
    /// The environment below the target folder; made if it is not there and `install` or CI=true says
    /// that programs may be installed. Without that, the system's Python will do if it happens to
    /// have the clients.
    pub(crate) fn ready(install: bool) -> Result<Self> {
        let requirements = shell::root().join("tests/e2e/requirements.txt");
        let pins = std::fs::read_to_string(&requirements).context(|| "requirements".into())?;
        let dir = shell::target_dir()?.join("xtask/python");
        let own = Self { program: dir.join("bin/python") };
        let stamp = dir.join("installed.txt");
        if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == pins) {
            return Ok(own);
        }
        if install || shell::on_build_server() {
            own.install(&dir, &requirements)?;
            // Written last: an installation that was cut short is done again.
            std::fs::write(&stamp, pins).context(|| stamp.display().to_string())?;
            return Ok(own);
        }
        let system = Self { program: "python3".into() };
        if system.has_clients() {
            println!("using the system's Python clients; --install takes the pinned ones");
            return Ok(system);
        }
        Err(Failure::new(
            "the Python clients are not installed: call again with --install, or CI=true",
        ))
    }

    fn install(&self, dir: &Path, requirements: &Path) -> Result {
        if dir.exists() {
            std::fs::remove_dir_all(dir).context(|| dir.display().to_string())?;
        }
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(dir);
        shell::run(venv).map_err(|failure| {
            Failure::new(format!("{failure} (on Debian: apt-get install python3-venv)"))
        })?;
        // Marks the folder as a cache: backups and `cargo xtask tidy` leave it alone.
        let tag = "Signature: 8a477f597d28d172789f06886806bc55\n";
        std::fs::write(dir.join("CACHEDIR.TAG"), tag).context(|| dir.display().to_string())?;
        let mut pip = Command::new(&self.program);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--no-deps", "--requirement"]).arg(requirements);
        shell::run(pip)
    }

    fn has_clients(&self) -> bool {
        let mut probe = Command::new(&self.program);
        probe.args(["-c", "import awscli, boto3"]).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    }

    /// Runs one of our scripts.
    pub(crate) fn command(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
        command
    }
}
