//! Feeds a recording to a fresh node, step by step, and compares what comes of it with what came of it then.

use super::PROGRAM;
use super::file::{Frame, Reader, Tail, Unreadable};
use ironseed_core::machine::{Instant, Now};
use ironseed_core::node::api::{Effect, Input};
use ironseed_core::node::recording::{Difference, Head, Reaction, Replay};
use serde::Serialize;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// What to show on the way.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Steps to print, from this one, ...
    pub from: u64,
    /// ... to this one.
    pub to: u64,
    /// How many bytes of an input or an effect are printed at the most.
    pub width: usize,
}

/// Inputs of a recording by their kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inputs {
    /// 1, or 0 for a process that ended before its first step.
    pub boots: u64,
    /// From peers.
    pub messages: u64,
    /// From clients.
    pub requests: u64,
    /// Clients that went away.
    pub cancels: u64,
    /// Peers whose hosts refused a connection.
    pub refusals: u64,
    /// Disk operations and hashes.
    pub completions: u64,
    /// Deadlines.
    pub timers: u64,
    /// Requests to stop.
    pub stops: u64,
}

/// A recording that replays identically.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The node.
    pub node: u32,
    /// The version of the program that recorded it.
    pub program: String,
    /// Steps taken.
    pub steps: u64,
    /// By the kind of their input.
    pub inputs: Inputs,
    /// Bytes of the recording that were read.
    pub bytes: u64,
    /// How it ends: `whole`, `torn` (the process was killed) or `damaged`.
    pub tail: &'static str,
    /// Whether the last step has no reaction to compare with: the process ended in it, or soon after it.
    pub unanswered: bool,
    /// From its first step to its last, milliseconds.
    pub recorded_ms: u64,
    /// What reading, stepping and comparing took, milliseconds.
    pub replayed_ms: u64,
    /// How many times as fast as it was recorded.
    pub speed: f64,
}

/// Why a recording does not replay.
#[derive(Debug)]
pub enum Failure {
    /// It can't be read.
    Unreadable(Unreadable),
    /// The node reacts differently now.
    Diverged {
        /// The step, from 1.
        step: u64,
        /// What differs.
        difference: Difference,
        /// The step and its effects, for a person.
        shown: String,
        /// By whom it was recorded, if that is another version of the program.
        other: Option<String>,
    },
    /// The node panics.
    Panicked {
        /// The step, from 1; 0 when the settings already are none.
        step: u64,
        /// Whether the recorded node came out of this step.
        survived: bool,
        /// The step, for a person.
        shown: String,
    },
    /// The trace can't be written.
    Output(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(unreadable) => write!(f, "{unreadable}"),
            Self::Diverged { step, difference, shown, other } => {
                write!(f, "step {step} diverges: {difference}")?;
                if let Some(other) = other {
                    write!(f, " (recorded by version {other}, this is {PROGRAM})")?;
                }
                write!(f, "\n{shown}")
            }
            Self::Panicked { step: 0, .. } => f.write_str("the node panics over its settings"),
            Self::Panicked { step, survived, shown } => {
                let then = if *survived { "it did not then" } else { "the recording ends there" };
                write!(f, "the node panics in step {step}; {then}\n{shown}")
            }
            Self::Output(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

/// Replays a file. With options, writes the steps that they name to `out`.
///
/// # Errors
/// It is no recording, or replays differently.
pub fn replay(
    path: &Path,
    options: Option<&Options>,
    out: &mut dyn Write,
) -> Result<Summary, Failure> {
    let file = File::open(path).map_err(Unreadable::from)?;
    let reader = Reader::open(BufReader::with_capacity(1 << 20, file))?;
    Session::new(reader, options, out)?.run()
}

struct Session<'a, R> {
    reader: Reader<R>,
    node: Replay,
    options: Option<&'a Options>,
    out: &'a mut dyn Write,
    steps: u64,
    inputs: Inputs,
    first: Option<Instant>,
    last: Instant,
}

impl<'a, R: Read> Session<'a, R> {
    fn new(
        reader: Reader<R>,
        options: Option<&'a Options>,
        out: &'a mut dyn Write,
    ) -> Result<Self, Failure> {
        let head = reader.head();
        let node = catch_unwind(|| Replay::new(head));
        let panicked = Failure::Panicked { step: 0, survived: false, shown: String::new() };
        Ok(Self {
            node: node.map_err(|_| panicked)?,
            reader,
            options,
            out,
            steps: 0,
            inputs: Inputs::default(),
            first: None,
            last: Instant::default(),
        })
    }

    fn run(mut self) -> Result<Summary, Failure> {
        let began = std::time::Instant::now();
        let mut unanswered = false;
        loop {
            let at = self.reader.bytes();
            let (now, input) = match self.reader.next_frame()? {
                Some(Frame::Step(now, input)) => (now, input),
                Some(Frame::Reaction(_)) => return Err(Unreadable::Malformed(at).into()),
                None => break,
            };
            let at = self.reader.bytes();
            let recorded = match self.reader.next_frame()? {
                Some(Frame::Reaction(recorded)) => Some(recorded),
                Some(Frame::Step(..)) => return Err(Unreadable::Malformed(at).into()),
                None => None,
            };
            unanswered = recorded.is_none();
            self.step(now, input, recorded.as_ref())?;
        }
        let recorded = self.first.map_or(0, |first| (self.last - first).0);
        let replayed = began.elapsed();
        let Head { program, config } = self.reader.head();
        Ok(Summary {
            node: config.me.0,
            program: program.clone(),
            steps: self.steps,
            inputs: self.inputs,
            bytes: self.reader.bytes(),
            tail: match self.reader.tail() {
                Tail::Whole => "whole",
                Tail::Torn(_) => "torn",
                Tail::Damaged(_) => "damaged",
            },
            unanswered,
            recorded_ms: recorded / 1_000_000,
            replayed_ms: u64::try_from(replayed.as_millis()).unwrap_or(u64::MAX),
            speed: recorded as f64 / replayed.as_nanos().max(1) as f64,
        })
    }

    fn step(&mut self, now: Now, input: Input, recorded: Option<&Reaction>) -> Result<(), Failure> {
        self.steps += 1;
        self.count(&input);
        self.last = now.mono;
        let since = now.mono - *self.first.get_or_insert(now.mono);
        let step = self.steps;
        let title = |input: &Input, width| format!("#{step} {since:?} {}\n", brief(input, width));
        // Handles and small values: cheap beside a step.
        let kept = input.clone();
        let width = self.options.map_or(WIDTH, |options| options.width);
        let node = &mut self.node;
        let stepped = catch_unwind(AssertUnwindSafe(|| node.step(now, input)));
        let Ok(reaction) = stepped else {
            let (survived, shown) = (recorded.is_some(), title(&kept, width));
            return Err(Failure::Panicked { step, survived, shown });
        };
        if self.options.is_some_and(|options| (options.from..=options.to).contains(&step)) {
            let text = title(&kept, width) + &told(self.node.effects(), width);
            self.out.write_all(text.as_bytes()).map_err(Failure::Output)?;
        }
        if let Some(Err(difference)) = recorded.map(|recorded| recorded.compare(&reaction)) {
            let shown = title(&kept, width) + &told(self.node.effects(), width);
            let program = &self.reader.head().program;
            let other = (program != PROGRAM).then(|| program.clone());
            return Err(Failure::Diverged { step, difference, shown, other });
        }
        Ok(())
    }

    fn count(&mut self, input: &Input) {
        let inputs = &mut self.inputs;
        *match input {
            Input::Boot { .. } => &mut inputs.boots,
            Input::Message { .. } => &mut inputs.messages,
            Input::Request { .. } => &mut inputs.requests,
            Input::Cancel { .. } => &mut inputs.cancels,
            Input::Refused { .. } => &mut inputs.refusals,
            Input::Done { .. } => &mut inputs.completions,
            Input::Timer => &mut inputs.timers,
            Input::Stop => &mut inputs.stops,
        } += 1;
    }
}

/// How much of an input or an effect is shown unless somebody asks for more.
const WIDTH: usize = 400;

fn told(effects: &[Effect], width: usize) -> String {
    effects.iter().map(|effect| format!("    -> {}\n", brief(effect, width))).collect()
}

/// The beginning of a value as Rust shows it: a chunk would fill a million columns.
fn brief(value: &impl fmt::Debug, width: usize) -> String {
    struct Brief {
        text: String,
        width: usize,
    }
    impl fmt::Write for Brief {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            if self.text.len() + piece.len() > self.width {
                // Whoever formats stops here: the rest is not even made.
                return Err(fmt::Error);
            }
            self.text.push_str(piece);
            Ok(())
        }
    }
    let mut brief = Brief { text: String::new(), width };
    if write!(brief, "{value:?}").is_err() {
        brief.text.push_str(" ...");
    }
    brief.text
}
