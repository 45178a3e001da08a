//! A node without others on a simulated disk, driven by hand: every operation is carried out at once, and
//! time passes only when nothing else is left to do.

use bytes::Bytes;
use ironseed_core::codec::Octets;
use ironseed_core::machine::{FileId, Hashed, Instant, Io, IoDone, Now};
use ironseed_core::node::Node;
use ironseed_core::node::api::{Config, Effect, Founding, FsyncPolicy, Input, Tuning};
use ironseed_core::node::status::Phase;
use ironseed_core::object::api::{
    Answer, Attributes, Condition, ETag, NewObject, Outcome, Refusal, Request,
};
use ironseed_core::object::transfer::{Downloader, Uploader};
use ironseed_core::planted::Planted;
use ironseed_core::types::{ClusterId, NodeId, OpId, RequestId};
use ironseed_sim::disk::{Disk, Speed};
use std::collections::VecDeque;

/// Nanoseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000_000;
/// What the wall clock says when the node's own time is zero: nanoseconds since the Unix epoch.
const WALL: u64 = 1_700_000_000 * 1_000 * MILLISECOND;
/// Names an operation of ours on the disk; a node counts up from zero and never comes so far.
const OURS: OpId = OpId(u64::MAX);
/// Inputs that one request or timer may lead to. Thousands are ordinary at boot; a node that does not
/// come to rest at all would hang every driver.
const INPUTS_MAX: u32 = 200_000;

/// A node, its disk and its clock.
#[derive(Clone, Debug)]
pub struct Alone {
    node: Node,
    /// The disk that it runs on.
    pub disk: Disk,
    now: u64,
    requests: u64,
    halted: Option<String>,
}

fn config() -> Config {
    Config {
        me: NodeId(1),
        nodes: vec![NodeId(1)],
        shards: 2,
        replication: 1,
        lanes: 1,
        fsync: FsyncPolicy::Always,
        // As small as they may be: a boot reads all of them.
        tuning: Tuning {
            wal_segment_bytes: 256 << 10,
            table_segment_bytes: 256 << 10,
            chunk_segment_bytes: 2 << 20,
            checkpoint_every: ironseed_core::machine::Duration::from_millis(500),
            ..Tuning::default()
        },
        seed: 1,
        planted: Planted::default(),
    }
}

impl Alone {
    /// A node that has just founded its cluster.
    ///
    /// # Panics
    /// If it does not come to serve: nothing is wrong with its disk.
    #[must_use]
    pub fn founded(access_key: &str, secret_key: &str) -> Self {
        let disk = Disk::new(1, 1, Speed { write: 1, sync: 1, read: 1 });
        let node = Node::new(config());
        let mut alone = Self { node, disk, now: 0, requests: 0, halted: None };
        alone.boot(Some(Founding {
            cluster: ClusterId([1; 16]),
            access_key: access_key.into(),
            secret_key: secret_key.into(),
        }));
        assert_eq!(alone.phase(), Phase::Serving, "{:?}", alone.halted);
        alone
    }

    /// Kills the node, changes its disk and boots it again.
    pub fn reboot(&mut self, change: impl FnOnce(&mut Disk)) {
        self.disk.kill(self.now);
        change(&mut self.disk);
        self.halted = None;
        self.boot(None);
    }

    fn boot(&mut self, found: Option<Founding>) {
        self.node = Node::new(config());
        let files = self.disk.found();
        self.step(Input::Boot { files, found });
    }

    /// How far the node has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.halted.is_some() { Phase::Halted } else { self.node.phase() }
    }

    /// Why it has halted, if it has.
    #[must_use]
    pub fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// Feeds one input and all that follows from it without waiting; returns the answer to `Input::Request`, if
    /// it came.
    fn step(&mut self, input: Input) -> Option<Outcome> {
        let (mut inputs, mut answer, mut fed) = (VecDeque::from([input]), None, 0);
        while let Some(input) = inputs.pop_front() {
            fed += 1;
            assert!(fed < INPUTS_MAX, "the node does not come to rest: {input:?}");
            if self.halted.is_some() {
                break;
            }
            let wall = WALL + self.now;
            let now = Now { mono: Instant(self.now), wall_earliest: wall, wall_latest: wall };
            let mut effects = Vec::new();
            self.node.step(now, input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Io(io) => {
                        self.disk.issue(self.now, io.op, io.io);
                        let done = self.disk.complete(self.now, io.op).expect("nothing crashed");
                        inputs.push_back(Input::Done { op: io.op, result: done.result });
                    }
                    Effect::Hash { op, bytes } => {
                        let result = Ok(IoDone::Hashed(Hashed::of(&bytes)));
                        inputs.push_back(Input::Done { op, result });
                    }
                    Effect::Reply { id, outcome } if id == RequestId(self.requests) => {
                        answer = Some(outcome);
                    }
                    Effect::Halt(halt) => self.halted = Some(halt.reason),
                    _ => {}
                }
            }
        }
        answer
    }

    /// Lets time pass up to the node's next deadline, or to `until` if that comes first.
    fn wait(&mut self, until: u64) -> Option<Outcome> {
        let due = self.node.deadline().map_or(until, |Instant(at)| at.min(until));
        // A deadline that has passed is not a reason to stand still.
        self.now = due.max(self.now + 1_000);
        self.step(Input::Timer)
    }

    /// Lets time pass.
    pub fn rest(&mut self, milliseconds: u64) {
        let until = self.now + milliseconds * MILLISECOND;
        while self.now < until && self.halted.is_none() {
            self.wait(until);
        }
    }

    /// Asks, and waits for the answer; a node that has halted is unavailable.
    ///
    /// # Panics
    /// If there is none after twice the time that the node gives itself.
    pub fn ask(&mut self, request: Request) -> Outcome {
        self.requests += 1;
        self.now += MILLISECOND;
        let id = RequestId(self.requests);
        let until = self.now + 2 * config().tuning.request_timeout.0;
        let mut answer = self.step(Input::Request { id, request });
        while answer.is_none() {
            if let Some(reason) = &self.halted {
                return Err(Refusal::Unavailable(reason.clone()));
            }
            assert!(self.now < until, "no answer in time");
            answer = self.wait(until);
        }
        answer.unwrap_or_else(|| unreachable!("the loop ends with an answer"))
    }

    /// Writes an object as a gateway would.
    ///
    /// # Errors
    /// What the node refuses it with.
    pub fn put(&mut self, bucket: &str, key: &str, body: &[u8]) -> Result<(), String> {
        let mut upload = Uploader::new(bucket.into(), key.into(), u64::MAX);
        for piece in body.chunks(64 << 10) {
            upload.push(piece);
            self.run_upload(&mut upload);
        }
        upload.finish();
        self.run_upload(&mut upload);
        let uploaded = upload.outcome().ok_or("the upload has no end")?;
        let uploaded = uploaded.map_err(|failure| failure.to_string())?;
        let object = NewObject {
            attributes: Attributes::default(),
            bytes: uploaded.bytes,
            etag: ETag { md5: [7; 16], parts: 0 },
            content: uploaded.content,
        };
        let (bucket, key) = (bucket.into(), key.into());
        let put = Request::PutObject { bucket, key, object, condition: Condition::None };
        self.ask(put).map(drop).map_err(|refusal| format!("{refusal:?}"))
    }

    fn run_upload(&mut self, upload: &mut Uploader) {
        while let Some(call) = upload.poll(Instant(self.now)) {
            let outcome = self.ask(call.request);
            upload.on_outcome(call.ticket, outcome);
        }
    }

    /// Reads an object as a gateway would; `None` if the node says that there is none.
    ///
    /// # Errors
    /// Why it can't be read.
    pub fn get(&mut self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
        let looked = self.ask(Request::GetObject { bucket: bucket.into(), key: key.into() });
        let object = match looked {
            Ok(Answer::Object(object)) => object,
            Err(Refusal::NoSuchKey | Refusal::NoSuchBucket) => return Ok(None),
            other => return Err(format!("{other:?}")),
        };
        let (content, bytes) = (&object.content, object.bytes);
        let mut download = Downloader::new(bucket.into(), key.into(), content, bytes, 0..bytes);
        let mut body = Vec::new();
        while !download.done() {
            let call = download.poll(Instant(self.now));
            let waits = call.is_none();
            if let Some(call) = call {
                let outcome = self.ask(call.request);
                download.on_outcome(call.ticket, outcome);
            }
            if let Some(failure) = download.failure() {
                return Err(failure.to_string());
            }
            let piece = download.take();
            assert!(!waits || piece.is_some(), "a download that waits for nothing: {download:?}");
            body.extend_from_slice(&piece.unwrap_or_default());
        }
        Ok(Some(body))
    }
}

/// All bytes of a file.
///
/// # Panics
/// If there is no such file.
#[must_use]
pub fn read_file(disk: &mut Disk, file: FileId, bytes: u64) -> Vec<u8> {
    let len = u32::try_from(bytes).expect("these disks are small");
    match carry_out(disk, Io::Read { file, offset: 0, len }) {
        IoDone::Data(data) => data.to_vec(),
        other => panic!("a read came to {other:?}"),
    }
}

/// Makes a file hold these bytes, at rest.
pub fn write_file(disk: &mut Disk, file: FileId, bytes: &[u8]) {
    carry_out(disk, Io::Create { file, bytes: bytes.len() as u64 });
    carry_out(disk, Io::Write { file, offset: 0, data: vec![Bytes::copy_from_slice(bytes)] });
    carry_out(disk, Io::Sync { file });
    carry_out(disk, Io::SyncDir);
}

/// Removes a file.
pub fn remove_file(disk: &mut Disk, file: FileId) {
    carry_out(disk, Io::Remove { file });
    carry_out(disk, Io::SyncDir);
}

fn carry_out(disk: &mut Disk, io: Io) -> IoDone {
    disk.issue(0, OURS, io);
    let done = disk.complete(0, OURS).expect("nothing crashed");
    done.result.unwrap_or_else(|error| panic!("nothing fails here: {error:?}"))
}

/// Bytes as they stand in requests.
#[must_use]
pub fn octets(bytes: &[u8]) -> Octets {
    Octets(Bytes::copy_from_slice(bytes))
}
