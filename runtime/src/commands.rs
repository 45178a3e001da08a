//! The verbs of the binary: `serve`, `init`, `status`, `cluster`, `bench`, `debug`. [`crate::demo`] is the seventh, and
//! `wal` and `data` are in [`crate::data`].

use crate::bench;
use crate::cluster::{self, ChangeError};
use crate::config::{Config, ConfigError};
use crate::data::ToolError;
use crate::demo;
use crate::disk::DataDir;
use crate::driver::Exit;
use crate::founding::{self, ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE};
use crate::recording::{self, Summary};
use crate::server::{Listeners, Server, StartError};
use crate::status::{self, AskError, Target};
use ironseed_core::node::api::Founding;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::signal::unix::{SignalKind, signal};

/// Why a verb failed.
#[derive(Debug)]
pub enum CommandError {
    /// The configuration is refused.
    Config(ConfigError),
    /// The node can't be started.
    Start(StartError),
    /// The demo can't be started.
    Demo(demo::DemoError),
    /// The node ended by itself; it can be started again.
    Halted(String),
    /// A graceful stop took too long.
    Late,
    /// Asked a second time to stop before the graceful stop was over.
    Impatient,
    /// Nobody can be asked.
    Ask(AskError),
    /// A store was not replaced.
    Replace(ChangeError),
    /// No figures.
    Bench(bench::BenchError),
    /// So many of so many recordings do not replay.
    Replay(usize, usize),
    /// A tool could not do its work.
    Tool(ToolError),
    /// Standard output or the signals.
    Io(io::Error),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Start(error) => write!(f, "{error}"),
            Self::Demo(error) => write!(f, "{error}"),
            Self::Halted(reason) => write!(f, "the node has stopped itself: {reason}"),
            Self::Late => f.write_str("the node did not stop in time"),
            Self::Impatient => f.write_str("stopped at once, as after a power loss"),
            Self::Ask(error) => write!(f, "{error}"),
            Self::Replace(error) => write!(f, "{error}"),
            Self::Bench(error) => write!(f, "{error}"),
            Self::Replay(failed, of) => write!(f, "{failed} of {of} recordings do not replay"),
            Self::Tool(error) => write!(f, "{error}"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for CommandError {}

macro_rules! from {
    ($($error:ty => $variant:ident),+ $(,)?) => {
        $(impl From<$error> for CommandError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })+
    };
}

from! {
    ConfigError => Config,
    StartError => Start,
    demo::DemoError => Demo,
    AskError => Ask,
    ChangeError => Replace,
    bench::BenchError => Bench,
    ToolError => Tool,
    io::Error => Io,
}

/// Runs one node until it is asked to stop.
///
/// # Errors
/// It can't be started, stops itself or does not stop in time.
pub async fn serve(config: &Config, init: bool) -> Result<(), CommandError> {
    let ports = Listeners::bind(config)?;
    let dir = DataDir::open(&config.data).map_err(StartError::Dir)?;
    if init && founding::is_used(&dir) {
        tracing::info!("--init: the data directory is in use already, nothing to found");
    } else if init {
        say(&founded(&prepare(&dir)?, &dir))?;
    }
    let mut stop = StopSignals::listen()?;
    let mut server = Server::start(config, dir, ports)?;
    tokio::select! {
        biased;
        exit = server.ended() => return Err(ended(exit)),
        () = stop.asked() => {}
    }
    tracing::info!("stopping");
    tokio::select! {
        biased;
        exit = server.stop() => match exit {
            Some(Exit::Stopped) => Ok(()),
            Some(exit @ Exit::Halted(_)) => Err(ended(exit)),
            None => Err(CommandError::Late),
        },
        // Asked twice: at once, as after a power loss.
        () = stop.asked() => Err(CommandError::Impatient),
    }
}

fn ended(exit: Exit) -> CommandError {
    match exit {
        Exit::Halted(reason) => CommandError::Halted(reason),
        Exit::Stopped => CommandError::Halted("without being asked".into()),
    }
}

/// Prepares the founding of a cluster by the next start of this node.
///
/// # Errors
/// The data directory is in use or can't be written.
pub fn init(config: &Config) -> Result<(), CommandError> {
    let dir = DataDir::open(&config.data).map_err(StartError::Dir)?;
    Ok(say(&founded(&prepare(&dir)?, &dir))?)
}

fn prepare(dir: &DataDir) -> Result<Founding, StartError> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (access, secret) = (variable(ACCESS_KEY_VARIABLE), variable(SECRET_KEY_VARIABLE));
    Ok(founding::prepare(dir, access, secret)?)
}

fn founded(founding: &Founding, dir: &DataDir) -> String {
    let Founding { cluster, access_key, secret_key } = founding;
    format!(
        "founds cluster {cluster:?}\n  access key  {access_key}\n  secret key  {secret_key}\nKept in {} \
         for its owner only; not shown again.\n",
        dir.path().display()
    )
}

/// Asks nodes and prints what they make together. True when every group is available.
///
/// # Errors
/// It is not known whom to ask.
pub async fn show_status(
    config: Option<&Path>,
    admin: &[String],
    data: &Path,
    json: bool,
) -> Result<bool, CommandError> {
    let targets = match (config, admin) {
        (Some(file), _) => status::configured(file)?,
        (None, []) => demo::targets(data)?,
        (None, admin) => {
            admin.iter().map(|address| Target { node: None, address: address.clone() }).collect()
        }
    };
    let (text, available) = status::run(&targets, json).await;
    say(&text)?;
    Ok(available)
}

/// Lets another store take the place of a node's, or says what that would mean.
///
/// # Errors
/// It was not done, or nobody can say whether it was.
pub async fn replace_store(
    file: &Path,
    node: u32,
    store: Option<&str>,
    sure: bool,
) -> Result<(), CommandError> {
    let text = cluster::replace_store(file, node, store, sure).await?;
    Ok(say(&text)?)
}

/// Has other nodes take a shard's replicas.
///
/// # Errors
/// It was not done, or nobody can say whether it was.
pub async fn move_shard(
    file: &Path,
    shard: u16,
    to: &[u32],
    sure: bool,
) -> Result<(), CommandError> {
    let text = cluster::move_shard(file, shard, to, sure).await?;
    Ok(say(&text)?)
}

/// Loads an S3 endpoint and prints how fast it was.
///
/// # Errors
/// There are no figures.
pub async fn load(options: &bench::Options) -> Result<(), CommandError> {
    let text = bench::run(options).await?;
    Ok(say(&text)?)
}

/// Fills a node, starts it again and prints what that took.
///
/// # Errors
/// There are no figures.
pub async fn index(options: &bench::index::Options) -> Result<(), CommandError> {
    let text = bench::index::run(options).await?;
    Ok(say(&text)?)
}

/// Replays recordings: prints one line of JSON for each that replays identically, and says on standard error
/// what is wrong with each that doesn't.
///
/// # Errors
/// A recording can't be read or replays differently.
pub fn replay(files: &[PathBuf], trace: Option<&recording::Options>) -> Result<(), CommandError> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        file: &'a Path,
        #[serde(flatten)]
        summary: Summary,
    }
    let failed = AtomicUsize::new(0);
    let told = |file: &Path, result: Result<Summary, recording::Failure>| match result {
        Ok(summary) => {
            let line = serde_json::to_string(&Line { file, summary }).map_err(io::Error::other)?;
            say(&(line + "\n"))
        }
        Err(recording::Failure::Output(error)) => Err(error),
        Err(failure) => {
            failed.fetch_add(1, Ordering::Relaxed);
            eprintln!("{}: {failure}", file.display());
            Ok(())
        }
    };
    if trace.is_some() {
        for file in files {
            let mut out = io::BufWriter::new(io::stdout());
            let result = recording::replay(file, trace, &mut out);
            out.flush()?;
            told(file, result)?;
        }
    } else {
        side_by_side(files, |file| told(file, recording::replay(file, None, &mut io::sink())))?;
    }
    match failed.into_inner() {
        0 => Ok(()),
        failed => Err(CommandError::Replay(failed, files.len())),
    }
}

/// Does this to each file, on as many threads as there are cores.
fn side_by_side(
    files: &[PathBuf],
    work: impl Fn(&Path) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(file)?;
        }
        Ok(())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("replaying catches panics"))
    })
}

/// Prints what was asked for; everything else goes to the log.
///
/// # Errors
/// Standard output is closed.
pub fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// SIGTERM and SIGINT.
pub struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// From now on the signals don't end the process by themselves.
    ///
    /// # Errors
    /// The operating system's.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them.
    pub async fn asked(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
