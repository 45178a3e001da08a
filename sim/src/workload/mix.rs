//! Which operations a run's clients choose from, and how often.

use super::content::{Body, Contents};
use super::multipart::Finish;
use super::script::{Script, Target};
use crate::checkers::objects::TAG;
use crate::draw::Draw;
use bytes::Bytes;
use ironseed_core::codec::Octets;
use ironseed_core::kv::api::{Expect, KvAnswer, KvEntry, KvRequest};
use ironseed_core::object::api::{
    Answer, Condition, ETag, ListFrom, ListObjects, Outcome, PAGE_MAX, PART_BYTES_MIN, Refusal,
    Request,
};
use ironseed_core::types::{ShardId, Version};
use std::collections::{BTreeMap, BTreeSet};

/// A run's workload.
#[derive(Clone, Debug)]
pub struct Mix {
    /// How many clients.
    pub clients: u32,
    /// Operations that all of them begin together, at the most, before the proof.
    pub operations_max: u64,
    /// A typical pause between operations: nanoseconds.
    pub think: u64,
    /// What part of the run the operations would take if each took no time: percent. Bursts below, hurry above.
    pace: u64,
    /// How long a client waits for an answer at the most: nanoseconds.
    pub patience: u64,
    /// Whether clients always wait so long, and stay with the node that they asked first.
    pub steady: bool,
    /// Under which name runs like this are counted.
    pub kind: &'static str,
    weights: [u32; FAMILIES],
    shards: u16,
    kv_keys: u64,
    kv_bytes_max: u64,
    buckets: u64,
    object_keys: u64,
    /// Weights of bodies: inline, one chunk, several chunks.
    body_weights: [u32; 3],
    /// Whether multipart uploads may have more than one part, each of five megabytes and more.
    big_parts: bool,
}

/// One operation of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One request on a key, or a scan.
    Kv(KvChoice),
    /// Puts an object.
    Put(Target, u64, Condition),
    /// Reads an object and its bytes.
    Get(Target),
    /// Deletes an object.
    Delete(Target, Condition),
    /// Lists objects.
    List(ListObjects),
    /// Uploads parts of these sizes.
    Multipart(Target, Vec<u64>, Finish),
    /// Makes a bucket.
    CreateBucket(String),
    /// Deletes a bucket.
    DeleteBucket(String),
    /// Looks a bucket up.
    HeadBucket(String),
    /// Lists buckets.
    ListBuckets(u32),
    /// Puts a tag of its own on an object, or takes its tags off.
    Tags(Target, bool),
    /// Writes so many bytes to a key, and asks for it so often as soon as that is answered, another node each time.
    Relay(Bytes, u64, u32),
    /// Lists the uploads in progress of a bucket after this key: so many at the most.
    ListUploads(String, Option<String>, u32),
}

/// An operation on the key-value space. A value is named by the operation and so is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvChoice {
    /// Reads a key.
    Get(Bytes),
    /// Writes a value of so many bytes.
    Put(Bytes, u64, Expect),
    /// Deletes a key.
    Delete(Bytes, Expect),
    /// Reads a page of a shard.
    Scan(ShardId, Bytes, u32),
}

/// What clients have seen: they share it, as processes of one application would.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    versions: BTreeMap<Bytes, Version>,
    etags: BTreeMap<Target, ETag>,
    keys: BTreeSet<Bytes>,
    targets: BTreeSet<Target>,
    buckets: BTreeSet<String>,
}

const FAMILIES: usize = 17;
/// How many nodes a key is asked of that was just written.
const RELAYED: u32 = 3;

/// Weights of: kv get, put, swap, delete, scan; object put, conditional put, get, delete, list, multipart; bucket
/// create, delete, look-up; tags, list of uploads; relay.
const KINDS: &[(&str, [u32; FAMILIES])] = &[
    ("kv", [30, 30, 20, 10, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("kv-swaps", [20, 5, 70, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("objects", [0, 0, 0, 0, 0, 30, 10, 30, 10, 15, 5, 5, 0, 2, 8, 2, 0]),
    ("multipart", [0, 0, 0, 0, 0, 5, 5, 25, 10, 5, 45, 5, 0, 0, 4, 10, 0]),
    ("buckets", [0, 0, 0, 0, 0, 15, 2, 5, 15, 5, 3, 25, 20, 10, 2, 3, 0]),
    ("mixed", [10, 10, 10, 5, 5, 15, 5, 15, 5, 8, 5, 5, 4, 3, 4, 3, 0]),
    (RACES, [0, 0, 0, 0, 0, 18, 3, 4, 30, 2, 12, 14, 20, 2, 1, 3, 0]),
    (RELAYS, [0, 0, 8, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 88]),
    (READS, [92, 7, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
];

/// Of the races what empties a bucket and fills it again: put, delete; bucket create, delete.
const TURNOVER: [u32; FAMILIES] = [0, 0, 0, 0, 0, 20, 0, 2, 30, 0, 0, 18, 30, 0, 0, 0, 0];

/// Many clients put into a bucket or two that others delete and make again. Never drawn as one of the others
/// is: [`crate::setup`] says which runs have it.
pub const RACES: &str = "bucket-races";
/// Whoever has written a key asks every node for it at once: what one node has acknowledged no other may have missed.
/// Drawn as the one above.
pub const RELAYS: &str = "relays";
/// Many clients read a key or two that seldom change: whoever leads no more is asked again and again before somebody
/// there writes, and waits.
pub const READS: &str = "kv-reads";

impl Mix {
    /// The workload of a run.
    #[must_use]
    pub fn draw(draw: &mut Draw, shards: u16, fixed: Option<&str>) -> Self {
        let drawn = KINDS[draw.weighted(&[4, 2, 5, 2, 2, 5])];
        let fixed = KINDS.iter().find(|(kind, _)| Some(*kind) == fixed);
        let (kind, weights) = *fixed.unwrap_or(&drawn);
        let clients = draw.magnitude(1, 12) as u32;
        let mut mix = Self {
            clients,
            operations_max: draw.magnitude(60, 600),
            think: 0,
            pace: draw.magnitude(10, 150),
            patience: draw.magnitude(500_000_000, 6_000_000_000),
            steady: false,
            kind,
            weights,
            shards,
            kv_keys: draw.magnitude(1, 24),
            kv_bytes_max: draw.magnitude(16, 8 << 10),
            buckets: draw.magnitude(1, 4),
            object_keys: draw.magnitude(1, 16),
            body_weights: *draw.pick(&[[1, 0, 0], [8, 3, 0], [3, 5, 0], [10, 6, 1]]),
            big_parts: draw.chance(1, 16),
        };
        if kind == RACES {
            mix.clients = mix.clients.clamp(4, 8);
            mix.buckets = mix.buckets.min(2);
            mix.object_keys = mix.object_keys.min(2);
        }
        mix
    }

    /// All clients want the same few things, and soon again.
    pub(crate) fn narrow(&mut self, draw: &mut Draw) {
        self.kv_keys = draw.between(1, 2);
        self.kv_bytes_max = draw.magnitude(16, 256);
        (self.buckets, self.object_keys) = (1, draw.between(1, 2));
        self.pace = draw.magnitude(5, 60);
        match self.kind {
            RELAYS => {
                self.clients = draw.between(1, 4) as u32;
                self.operations_max = draw.magnitude(100, 600);
            }
            RACES => {
                self.clients = draw.between(5, 8) as u32;
                self.operations_max = draw.magnitude(300, 1_200);
                self.body_weights = [1, 0, 0];
                if draw.chance(2, 3) {
                    self.weights = TURNOVER;
                }
            }
            READS => {
                self.clients = draw.between(8, 16) as u32;
                self.operations_max = draw.magnitude(800, 3_000);
                self.patience = draw.magnitude(300_000_000, 1_500_000_000);
                self.pace = draw.magnitude(40, 100);
            }
            _ => self.operations_max = draw.magnitude(200, 1_000),
        }
    }

    /// Whether there is a kind of this name.
    #[must_use]
    pub fn has_kind(name: &str) -> bool {
        KINDS.iter().any(|(kind, _)| *kind == name)
    }

    /// Spreads the operations over a run of so many nanoseconds, so that faults find clients at work.
    pub fn spread(&mut self, duration: u64) {
        let each = duration / self.operations_max.max(1) * u64::from(self.clients);
        self.think = (each / 100 * self.pace).max(1_000);
    }

    /// An operation. What it expects to find depends on what was seen, and has draws of its own: the rest must
    /// not depend on it.
    pub(super) fn next(&self, draw: &mut Draw, expected: &mut Draw, seen: &Seen) -> Operation {
        match draw.weighted(&self.weights) {
            0 => Operation::Kv(KvChoice::Get(self.kv_key(draw))),
            1 => Operation::Kv(KvChoice::Put(self.kv_key(draw), self.kv_len(draw), Expect::Any)),
            2 => {
                let key = self.kv_key(draw);
                let expect = seen.expect(&key, expected);
                Operation::Kv(KvChoice::Put(key, self.kv_len(draw), expect))
            }
            3 => {
                let key = self.kv_key(draw);
                let expect =
                    if draw.chance(1, 3) { seen.expect(&key, expected) } else { Expect::Any };
                Operation::Kv(KvChoice::Delete(key, expect))
            }
            4 => {
                let from = if draw.chance(1, 2) { Bytes::new() } else { self.kv_key(draw) };
                let shard = ShardId(draw.below(u64::from(self.shards)) as u16);
                Operation::Kv(KvChoice::Scan(shard, from, draw.magnitude(1, 100) as u32))
            }
            5 => Operation::Put(self.target(draw), self.body_len(draw), Condition::None),
            6 => {
                let target = self.target(draw);
                let condition = seen.condition(&target, expected);
                Operation::Put(target, self.body_len(draw), condition)
            }
            7 => Operation::Get(self.target(draw)),
            8 => {
                let target = self.target(draw);
                let conditional = draw.chance(1, 4);
                let condition =
                    if conditional { seen.condition(&target, expected) } else { Condition::None };
                Operation::Delete(target, condition)
            }
            9 => Operation::List(self.list(draw)),
            10 => self.multipart(draw, expected, seen),
            11 => Operation::CreateBucket(self.bucket(draw)),
            12 => Operation::DeleteBucket(self.bucket(draw)),
            14 => Operation::Tags(self.target(draw), draw.chance(5, 6)),
            15 => self.list_uploads(draw),
            16 => Operation::Relay(self.kv_key(draw), self.kv_len(draw), RELAYED),
            _ if draw.chance(1, 2) => Operation::HeadBucket(self.bucket(draw)),
            _ => Operation::ListBuckets(draw.magnitude(1, 20) as u32),
        }
    }

    /// What must succeed once everything has healed: every key and every byte read back, then a write
    /// to each key and each bucket.
    pub(super) fn proof(&self, seen: &Seen) -> Vec<Operation> {
        let mut owed: Vec<Operation> = Vec::new();
        owed.extend(seen.keys.iter().map(|key| Operation::Kv(KvChoice::Get(key.clone()))));
        if !seen.keys.is_empty() && self.shards <= SCANNED_SHARDS_MAX {
            let scan =
                |shard| Operation::Kv(KvChoice::Scan(ShardId(shard), Bytes::new(), PAGE_MAX));
            owed.extend((0..self.shards).map(scan));
        }
        owed.extend(seen.targets.iter().cloned().map(Operation::Get));
        for bucket in &seen.buckets {
            owed.push(Operation::HeadBucket(bucket.clone()));
            owed.push(Operation::List(ListObjects {
                bucket: bucket.clone(),
                prefix: String::new(),
                delimiter: None,
                from: ListFrom::Start,
                limit: PAGE_MAX,
            }));
            owed.push(Operation::ListUploads(bucket.clone(), None, PAGE_MAX));
        }
        // A cluster that never came up has seen nothing, and must not pass for one that has lost nothing.
        owed.push(Operation::ListBuckets(PAGE_MAX));
        owed.push(Operation::Kv(KvChoice::Put("proof".into(), 16, Expect::Any)));
        let put = |key: &Bytes| Operation::Kv(KvChoice::Put(key.clone(), 16, Expect::Any));
        owed.extend(seen.keys.iter().map(put));
        for bucket in &seen.buckets {
            let target = Target { bucket: bucket.clone(), key: "proof".into() };
            owed.push(Operation::CreateBucket(bucket.clone()));
            owed.push(Operation::Put(target.clone(), 20 << 10, Condition::None));
            owed.push(Operation::Get(target));
        }
        owed
    }

    fn kv_key(&self, draw: &mut Draw) -> Bytes {
        Bytes::from(format!("key-{}", draw.below(self.kv_keys)))
    }

    fn kv_len(&self, draw: &mut Draw) -> u64 {
        draw.magnitude(8, self.kv_bytes_max.max(9))
    }

    fn bucket(&self, draw: &mut Draw) -> String {
        format!("bucket-{}", draw.below(self.buckets))
    }

    /// Keys make a small tree, so that delimiters have something to roll up.
    fn target(&self, draw: &mut Draw) -> Target {
        let number = draw.below(self.object_keys);
        let key = match number % 4 {
            0 => format!("k{number}"),
            1 => format!("a/k{number}"),
            2 => format!("a/b/k{number}"),
            _ => format!("\u{e9}/k{number}"),
        };
        Target { bucket: self.bucket(draw), key }
    }

    fn body_len(&self, draw: &mut Draw) -> u64 {
        match draw.weighted(&self.body_weights) {
            0 if draw.chance(1, 12) => 0,
            0 => draw.magnitude(1, 16 << 10),
            1 => draw.between((16 << 10) + 1, 40 << 10),
            _ => draw.between((1 << 20) - 10, (2 << 20) + 100_000),
        }
    }

    fn list(&self, draw: &mut Draw) -> ListObjects {
        let prefix = draw.pick(&["", "", "a", "a/", "a/b/", "\u{e9}", "zz"]).to_string();
        let from = match draw.below(4) {
            0 => ListFrom::After(self.target(draw).key),
            1 if draw.chance(1, 3) => ListFrom::AfterPrefix("a/".into()),
            _ => ListFrom::Start,
        };
        ListObjects {
            bucket: self.bucket(draw),
            prefix,
            delimiter: draw.chance(1, 2).then(|| "/".into()),
            from,
            limit: if draw.chance(1, 20) { 0 } else { draw.magnitude(1, 1000) as u32 },
        }
    }

    fn list_uploads(&self, draw: &mut Draw) -> Operation {
        let after = draw.chance(1, 4).then(|| self.target(draw).key);
        Operation::ListUploads(self.bucket(draw), after, draw.magnitude(1, 1000) as u32)
    }

    fn multipart(&self, draw: &mut Draw, expected: &mut Draw, seen: &Seen) -> Operation {
        let target = self.target(draw);
        let mut parts = vec![self.body_len(draw).max(1)];
        if self.big_parts && draw.chance(1, 6) {
            parts.insert(0, PART_BYTES_MIN + draw.below(4) * draw.below(100_000));
        }
        let finish = match draw.below(10) {
            0 => Finish::Abort,
            1 => Finish::Abandon,
            2..4 => Finish::Complete(seen.condition(&target, expected)),
            4 => Finish::CompleteTwice(Condition::None),
            5 => Finish::CompleteTwice(seen.condition(&target, expected)),
            _ => Finish::Complete(Condition::None),
        };
        Operation::Multipart(target, parts, finish)
    }
}

impl Operation {
    /// Under which name it is counted.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Kv(KvChoice::Get(_)) => "kv-get",
            Self::Kv(KvChoice::Put(_, _, Expect::Any)) => "kv-put",
            Self::Kv(KvChoice::Put(..)) => "kv-swap",
            Self::Kv(KvChoice::Delete(..)) => "kv-delete",
            Self::Kv(KvChoice::Scan(..)) => "kv-scan",
            Self::Put(_, _, Condition::None) => "put",
            Self::Put(..) => "conditional-put",
            Self::Get(_) => "get",
            Self::Delete(..) => "delete",
            Self::List(_) => "list",
            Self::Multipart(_, _, Finish::Complete(_)) => "multipart",
            Self::Multipart(_, _, Finish::CompleteTwice(_)) => "multipart-completed-twice",
            Self::Multipart(_, _, Finish::Abort) => "multipart-abort",
            Self::Multipart(_, _, Finish::Abandon) => "multipart-abandon",
            Self::CreateBucket(_) => "create-bucket",
            Self::DeleteBucket(_) => "delete-bucket",
            Self::HeadBucket(_) => "head-bucket",
            Self::ListBuckets(_) => "list-buckets",
            Self::Tags(..) => "tags",
            Self::ListUploads(..) => "list-uploads",
            Self::Relay(..) => "relay",
        }
    }

    /// What it is, in a few words for people.
    #[must_use]
    pub fn brief(&self) -> String {
        let about = match self {
            Self::Kv(KvChoice::Get(key) | KvChoice::Delete(key, _)) => {
                String::from_utf8_lossy(key).into()
            }
            Self::Kv(KvChoice::Put(key, len, expect)) => {
                let expect =
                    if *expect == Expect::Any { String::new() } else { format!(", {expect:?}") };
                format!("{}, {len} bytes{expect}", String::from_utf8_lossy(key))
            }
            Self::Kv(KvChoice::Scan(shard, from, limit)) => {
                format!(
                    "shard {} from {:?}, {limit} at the most",
                    shard.0,
                    String::from_utf8_lossy(from)
                )
            }
            Self::Put(target, len, _) => format!("{target}, {len} bytes"),
            Self::Get(target) | Self::Delete(target, _) | Self::Tags(target, _) => {
                target.to_string()
            }
            Self::List(list) => format!("{}/{}", list.bucket, list.prefix),
            Self::Multipart(target, parts, _) => format!("{target}, parts of {parts:?} bytes"),
            Self::CreateBucket(bucket)
            | Self::DeleteBucket(bucket)
            | Self::HeadBucket(bucket)
            | Self::ListUploads(bucket, ..) => bucket.clone(),
            Self::ListBuckets(limit) => format!("{limit} at the most"),
            Self::Relay(key, len, _) => format!("{}, {len} bytes", String::from_utf8_lossy(key)),
        };
        format!("{} {about}", self.name())
    }

    /// Its script. `name` is a number of which the low byte is free: it names the bytes it writes.
    pub(super) fn script(self, name: u64, contents: &mut Contents) -> Script {
        match self {
            Self::Kv(choice) => Script::single(Request::Kv(choice.request(name))),
            Self::Put(target, len, condition) => {
                Script::put(target, Body { seed: name, len }, condition, contents)
            }
            Self::Get(target) => Script::get(target),
            Self::Delete(Target { bucket, key }, condition) => {
                Script::single(Request::DeleteObject { bucket, key, condition })
            }
            Self::List(list) => Script::single(Request::ListObjects(list)),
            Self::Multipart(target, lens, finish) => {
                let body = |(part, len)| Body { seed: name + part, len };
                let bodies = (1..).zip(lens).map(body).collect();
                Script::multipart(target, bodies, finish)
            }
            Self::Relay(key, len, times) => {
                let put = KvChoice::Put(key.clone(), len, Expect::Any).request(name);
                Script::relay(
                    Request::Kv(put),
                    Request::Kv(KvChoice::Get(key).request(name)),
                    times,
                )
            }
            Self::CreateBucket(bucket) => Script::single(Request::CreateBucket { bucket }),
            Self::DeleteBucket(bucket) => Script::single(Request::DeleteBucket { bucket }),
            Self::HeadBucket(bucket) => Script::single(Request::HeadBucket { bucket }),
            Self::ListBuckets(limit) => {
                Script::single(Request::ListBuckets { prefix: String::new(), after: None, limit })
            }
            Self::Tags(Target { bucket, key }, tagged) => {
                let tags = tagged.then(|| (TAG.into(), name.to_string())).into_iter().collect();
                Script::single(Request::PutTags { bucket, key, tags })
            }
            Self::ListUploads(bucket, after, limit) => Script::single(Request::ListUploads {
                bucket,
                prefix: String::new(),
                delimiter: None,
                after: after.map(|key| (key, None)),
                limit,
            }),
        }
    }
}

impl KvChoice {
    fn request(self, name: u64) -> KvRequest {
        match self {
            Self::Get(key) => KvRequest::Get { key: Octets(key) },
            Self::Put(key, len, expect) => {
                // The name comes first, so that even the shortest value is like no other.
                let mut value = name.to_be_bytes().to_vec();
                value.extend_from_slice(&Body { seed: name, len: len.saturating_sub(8) }.bytes());
                KvRequest::Put { key: Octets(key), value: value.into(), expect }
            }
            Self::Delete(key, expect) => KvRequest::Delete { key: Octets(key), expect },
            Self::Scan(shard, from, limit) => KvRequest::Scan { shard, from: Octets(from), limit },
        }
    }
}

impl Seen {
    /// Remembers what an answer showed, and what was asked about at all.
    pub(super) fn learn(&mut self, request: &Request, outcome: &Outcome) {
        match (request, outcome) {
            (Request::Kv(KvRequest::Get { key }), outcome) => {
                self.keys.insert(key.0.clone());
                if let Ok(Answer::Kv(KvAnswer::Value(found))) = outcome {
                    self.version(&key.0, found.as_ref().map(|KvEntry { version, .. }| *version));
                }
            }
            (Request::Kv(KvRequest::Put { key, .. } | KvRequest::Delete { key, .. }), outcome) => {
                self.keys.insert(key.0.clone());
                if let Ok(Answer::Kv(
                    KvAnswer::Written { version, .. } | KvAnswer::Conflict { version },
                )) = outcome
                {
                    self.version(&key.0, Some(*version).filter(|version| *version != Version(0)));
                }
            }
            (Request::GetObject { bucket, key }, Ok(Answer::Object(object))) => {
                self.etag(bucket, key, Some(object.etag));
            }
            (Request::GetObject { bucket, key }, Err(Refusal::NoSuchKey)) => {
                self.etag(bucket, key, None);
            }
            (
                Request::PutObject { bucket, key, .. }
                | Request::CompleteUpload { bucket, key, .. },
                outcome,
            ) => {
                let target = Target { bucket: bucket.clone(), key: key.clone() };
                self.targets.insert(target);
                if let Ok(Answer::Written { etag, .. }) = outcome {
                    self.etag(bucket, key, Some(*etag));
                }
            }
            (Request::CreateBucket { bucket }, _) => {
                self.buckets.insert(bucket.clone());
            }
            _ => {}
        }
    }

    fn version(&mut self, key: &Bytes, version: Option<Version>) {
        match version {
            Some(version) => self.versions.insert(key.clone(), version),
            None => self.versions.remove(key),
        };
    }

    fn etag(&mut self, bucket: &str, key: &str, etag: Option<ETag>) {
        let target = Target { bucket: bucket.into(), key: key.into() };
        match etag {
            Some(etag) => self.etags.insert(target, etag),
            None => self.etags.remove(&target),
        };
    }

    fn expect(&self, key: &Bytes, draw: &mut Draw) -> Expect {
        match self.versions.get(key) {
            Some(_) if draw.chance(1, 10) => Expect::Version(Version(1 + draw.below(1000))),
            Some(version) if draw.chance(9, 10) => Expect::Version(*version),
            _ => Expect::Absent,
        }
    }

    fn condition(&self, target: &Target, draw: &mut Draw) -> Condition {
        match (draw.below(6), self.etags.get(target)) {
            (0, _) => Condition::Present,
            (1..4, Some(etag)) => Condition::Is(*etag),
            (4, _) => Condition::Is(ETag { md5: [7; 16], parts: 0 }),
            _ => Condition::Absent,
        }
    }
}

/// With more shards than this, the proof reads keys and leaves scans to the load.
const SCANNED_SHARDS_MAX: u16 = 16;
