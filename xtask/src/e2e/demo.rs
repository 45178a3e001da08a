//! A demo cluster as a child process: three nodes in one process, on ports that the system picks.

use crate::shell::{self, Context, Failure, Result};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a demo may take to print where it is.
const START: Duration = Duration::from_secs(60);
/// How long it may take to stop gracefully.
const STOP: Duration = Duration::from_secs(30);

/// A running demo. Killed when dropped.
pub(crate) struct Demo {
    child: Child,
    endpoint: String,
    access_key: String,
    secret_key: String,
    region: String,
}

impl Demo {
    /// Starts one with its data below `dir`; a second start there finds the first one's data.
    pub(crate) fn start(server: &Path, dir: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(dir.join("demo.log"));
        let mut command = Command::new(server);
        command.args(["demo", "--json", "--s3-port", "0", "--data"]).arg(dir.join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(log.context(|| "demo.log".into())?);
        println!("$ {}", shell::show(&command));
        let mut child = command.spawn().context(|| "can't start the demo".into())?;
        match announced(&mut child) {
            Ok(announced) => Self::new(child, &announced),
            Err(failure) => {
                end(&mut child);
                Err(failure)
            }
        }
    }

    fn new(child: Child, announced: &Value) -> Result<Self> {
        let mut demo = Self {
            child,
            endpoint: String::new(),
            access_key: String::new(),
            secret_key: String::new(),
            region: String::new(),
        };
        demo.endpoint = field(announced, "endpoint")?;
        demo.access_key = field(announced, "access_key")?;
        demo.secret_key = field(announced, "secret_key")?;
        demo.region = field(announced, "region").unwrap_or_else(|_| "us-east-1".into());
        println!("  demo at {}", demo.endpoint);
        Ok(demo)
    }

    /// Gives a client the endpoint and credentials in the environment, and none of the user's own.
    pub(crate) fn tell(&self, client: &mut Command) {
        client
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", &self.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret_key)
            .env("AWS_DEFAULT_REGION", &self.region)
            .env("AWS_REGION", &self.region)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
            // Nothing of this ever leaves the machine.
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("no_proxy", "127.0.0.1,localhost");
    }

    /// Stops it as an operator would; it must end by itself, and with success.
    pub(crate) fn stop(mut self) -> Result {
        let mut signal = Command::new("sh");
        signal.arg("-c").arg(format!("kill -TERM {}", self.child.id()));
        shell::run(signal)?;
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().context(|| "demo".into())? {
                let code = status.code();
                return if code == Some(0) {
                    Ok(())
                } else {
                    Err(Failure::new(format!("the demo stopped with {status}")))
                };
            }
            if began.elapsed() > STOP {
                return Err(Failure::new(format!("the demo did not stop within {STOP:?}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself; then there is nothing to kill, only to collect.
    let _ = child.kill();
    let _ = child.wait();
}

fn field(announced: &Value, key: &str) -> Result<String> {
    let value = announced.get(key).and_then(Value::as_str).map(str::to_owned);
    value.ok_or_else(|| Failure::new(format!("`demo --json` prints no `{key}`: {announced}")))
}

/// The first JSON object among the demo's lines. What comes after is read too, by a thread, so that
/// the demo never blocks on a full pipe.
fn announced(child: &mut Child) -> Result<Value> {
    let stdout = child.stdout.take().expect("piped by the caller");
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let mut found = false;
        for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
            // The object may span lines, so each new line is tried with those before it.
            if !found && (line.trim_start().starts_with('{') || !text.is_empty()) {
                text.push_str(&line);
                if let Ok(object) = serde_json::from_str(&text) {
                    found = send.send(object).is_ok();
                }
            }
        }
    });
    receive.recv_timeout(START).map_err(|_| {
        Failure::new(
            "the demo ended, or said nothing for a minute, before `--json` printed an object",
        )
    })
}
