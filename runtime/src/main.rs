//! The `ironseed` binary.

use clap::{Parser, Subcommand};
use ironseed::commands::{self, CommandError};
use ironseed::config::{Config, Log};
use ironseed::{bench, data, demo, recording};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// The system's allocator keeps what chunks of a mebibyte leave in its arenas: after a hundred slow
/// clients a node would stay a hundred MiB larger than it was. This one gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// A planted bug must never reach a node that keeps anybody's data. Cargo unifies features over a
// workspace, so asking for the feature elsewhere could turn it on here: this refuses to compile then.
const _: () = assert!(
    !ironseed_core::planted::COMPILED_IN,
    "the node binary must be built without the feature `planted-bugs`"
);

/// S3-compatible object store, strongly consistent on one node or many.
#[derive(Parser)]
#[command(name = "ironseed", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a whole cluster in one process, to try things on
    Demo(demo::Options),
    /// Run one node
    Serve {
        /// Its settings (ironseed.example.toml documents them)
        #[arg(long)]
        config: PathBuf,
        /// Found a cluster if the data directory is empty; on one node only, at its first start
        #[arg(long)]
        init: bool,
    },
    /// Let the next start of one node found a cluster; prints the root credentials once
    Init {
        /// Settings of that node
        #[arg(long)]
        config: PathBuf,
    },
    /// Show how the nodes are and how many can be lost now; exits with 3 when something is unavailable
    Status {
        /// Ask the nodes that this file lists
        #[arg(long)]
        config: Option<PathBuf>,
        /// Ask these admin ports
        #[arg(long, value_delimiter = ',', value_name = "HOST:PORT", conflicts_with = "config")]
        admin: Vec<String>,
        /// Ask the demo that runs on this folder
        #[arg(long, default_value = "ironseed-data", conflicts_with_all = ["config", "admin"])]
        data: PathBuf,
        /// Print one JSON object with all reports
        #[arg(long)]
        json: bool,
    },
    /// Change the cluster
    #[command(subcommand)]
    Cluster(Cluster),
    /// Measure how fast something is
    #[command(subcommand)]
    Bench(Bench),
    /// Look into what a node did
    #[command(subcommand)]
    Debug(Debug),
    /// Read the logs of a node that does not run
    #[command(subcommand)]
    Wal(data::WalVerb),
    /// Inspect, check or compact the data directory of a node that does not run
    #[command(subcommand)]
    Data(data::DataVerb),
}

#[derive(Subcommand)]
enum Cluster {
    /// The disk of a node is lost: let the store that it was started with on an empty directory take its place
    ReplaceStore {
        /// Settings of any node that works: whom to ask, and the cluster's secret
        #[arg(long)]
        config: PathBuf,
        /// The node that has lost its disk
        #[arg(long)]
        node: u32,
        /// Its new store, if several want its place
        #[arg(long)]
        store: Option<String>,
        /// Do it; without this, only say what would be done
        #[arg(long)]
        yes: bool,
    },
    /// Move the replicas of a shard to other nodes; nothing is unavailable for longer than it takes to hand leadership over
    MoveShard {
        /// Settings of any node that works: whom to ask, and the cluster's secret
        #[arg(long)]
        config: PathBuf,
        /// The shard, from 0
        #[arg(long)]
        shard: u16,
        /// The nodes that shall have it, as many as a shard has replicas: 1,4,5
        #[arg(long, value_delimiter = ',', required = true)]
        to: Vec<u32>,
        /// Do it; without this, only say what would be done
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// Load an S3 endpoint, this or any other
    S3(bench::Options),
    /// Fill one node of its own with records and start it again: memory a record, time until it serves
    Index(bench::index::Options),
}

#[derive(Subcommand)]
enum Debug {
    /// Feed recordings (debug.record in the configuration) to a fresh node and compare every step; exits with 1
    /// when one replays differently
    Replay {
        /// Recordings, each of one boot
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print every step: its input and its effects. Shows secrets
        #[arg(long)]
        trace: bool,
        /// The first step to print, from 1
        #[arg(long, requires = "trace", default_value_t = 1)]
        from: u64,
        /// The last step to print
        #[arg(long, requires = "trace", default_value_t = u64::MAX, hide_default_value = true)]
        to: u64,
        /// Bytes of an input or an effect that are printed at the most
        #[arg(long, requires = "trace", default_value_t = 400)]
        width: usize,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            // Not through the log: its filter must not hide why nothing runs.
            eprintln!("ironseed: {error}");
            match error {
                CommandError::Config(_) | CommandError::Tool(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode, CommandError> {
    let text = |filter: &str| Log { filter: filter.into(), json: false };
    match verb {
        Verb::Demo(options) => {
            start_log(&text(&options.log));
            runtime()?.block_on(demo::run(&options))?;
        }
        Verb::Serve { config, init } => {
            let config = Config::load(&config)?;
            start_log(&config.log);
            runtime()?.block_on(commands::serve(&config, init))?;
        }
        Verb::Init { config } => {
            let config = Config::load(&config)?;
            start_log(&config.log);
            commands::init(&config)?;
        }
        Verb::Status { config, admin, data, json } => {
            start_log(&text("warn"));
            let asked = commands::show_status(config.as_deref(), &admin, &data, json);
            if !runtime()?.block_on(asked)? {
                return Ok(ExitCode::from(3));
            }
        }
        Verb::Cluster(Cluster::ReplaceStore { config, node, store, yes }) => {
            start_log(&text("warn"));
            let asked = commands::replace_store(&config, node, store.as_deref(), yes);
            runtime()?.block_on(asked)?;
        }
        Verb::Cluster(Cluster::MoveShard { config, shard, to, yes }) => {
            start_log(&text("warn"));
            runtime()?.block_on(commands::move_shard(&config, shard, &to, yes))?;
        }
        Verb::Bench(Bench::S3(options)) => {
            start_log(&text("warn"));
            runtime()?.block_on(commands::load(&options))?;
        }
        Verb::Bench(Bench::Index(options)) => {
            start_log(&text("warn"));
            runtime()?.block_on(commands::index(&options))?;
        }
        Verb::Debug(Debug::Replay { files, trace, from, to, width }) => {
            start_log(&text("warn"));
            let options = recording::Options { from, to, width };
            commands::replay(&files, trace.then_some(&options))?;
        }
        Verb::Wal(verb) => {
            start_log(&text("error"));
            return Ok(data::run(&data::Verb::Wal(verb))?);
        }
        Verb::Data(verb) => {
            start_log(&text("error"));
            return Ok(data::run(&data::Verb::Data(verb))?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    allow_descriptors();
    // One core is left to the threads that write, sync and hash. Where there are two cores, a second worker makes
    // a read dearer by a third: tasks move between the workers, and each has to be woken for it.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = cores.saturating_sub(1).max(1);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(workers)
        .thread_name("tokio")
        .build()
}

/// Takes as many descriptors as the system gives: the usual soft limit of 1024 is there for programs that
/// use `select`, and connections and segments together may need more.
fn allow_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// The S3 parser logs every refused request as an error, with whatever a stranger has sent; the gateway logs
/// what matters of it. Who names the parser in the filter hears it.
fn with_quiet_parser(filter: &str) -> String {
    if filter.split(',').any(|directive| directive.trim().starts_with("s3s")) {
        filter.to_owned()
    } else {
        format!("s3s=off,{filter}")
    }
}

fn start_log(log: &Log) {
    // The configuration has checked the filter; the demo's comes from the command line and is taken
    // as far as it makes sense.
    let filter = EnvFilter::builder().parse_lossy(with_quiet_parser(&log.filter));
    // Colours are for people, not for files.
    let colours = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(colours)
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if log.json { subscriber.json().init() } else { subscriber.init() }
}
