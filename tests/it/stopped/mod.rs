//! The tools on a directory whose node does not run: what they tell, what they refuse, that they write nothing, and
//! that nothing on a disk makes them fall over.

mod compaction;
mod flips;
mod told;

use crate::by_hand::Alone;
use bytes::Bytes;
use ironseed::disk::ExecuteIo;
use ironseed_core::codec::Octets;
use ironseed_core::machine::{Io, IoDone, IoResult};
use ironseed_core::node::api::{Config, Engine, FsyncPolicy, Tuning};
use ironseed_core::object::api::{
    Answer, Attributes, Condition, Content, ETag, NewObject, Request,
};
use ironseed_core::planted::Planted;
use ironseed_core::types::{BlobId, ChunkId, NodeId, OpId};
use ironseed_sim::disk::Disk;
use std::path::{Path, PathBuf};

pub(crate) const SECRET: &str = "nobody-may-see-this-secret";
pub(crate) const BUCKET: &str = "photos";
/// Bytes of an object that is cut into chunks. Above what a record holds.
pub(crate) const CHUNK: usize = 20_000;

pub(crate) fn config() -> Config {
    Config {
        me: NodeId(1),
        nodes: vec![NodeId(1)],
        shards: 4,
        replication: 1,
        lanes: 1,
        fsync: FsyncPolicy::Always,
        engine: Engine::Native,
        tuning: Tuning {
            wal_segment_bytes: 256 << 10,
            table_segment_bytes: 256 << 10,
            chunk_segment_bytes: 256 << 10,
            ..Tuning::default()
        },
        seed: 1,
        planted: Planted::default(),
    }
}

/// A node with a bucket in which there are `small` objects in records and `large` ones in chunks, a minute ago.
pub(crate) fn filled(small: u16, large: u16) -> Alone {
    filled_with(config(), small, large)
}

/// The same with other settings.
pub(crate) fn filled_with(config: Config, small: u16, large: u16) -> Alone {
    let mut alone = Alone::found(config, "access", SECRET);
    let made = alone.ask(Request::CreateBucket { bucket: BUCKET.into() });
    assert!(made.is_ok(), "{made:?}");
    for number in 0..small {
        put_small(&mut alone, &format!("small-{number}"), 0);
    }
    for number in 0..large {
        put_large(&mut alone, &format!("large-{number}"), number);
    }
    alone.rest(60_000);
    alone
}

pub(crate) fn small(key: &str, version: u8) -> Vec<u8> {
    let of = key.bytes().fold(version, u8::wrapping_add);
    (0..900_u32).map(|at| of ^ (at as u8).wrapping_mul(7)).collect()
}

pub(crate) fn put_small(alone: &mut Alone, key: &str, version: u8) {
    let bytes = small(key, version);
    let content = Content::Inline(Octets(Bytes::from(bytes.clone())));
    put(alone, key, bytes.len() as u64, content);
}

fn put_large(alone: &mut Alone, key: &str, number: u16) {
    let blob = match alone.ask(Request::OpenBlob { bucket: BUCKET.into(), key: key.into() }) {
        Ok(Answer::Blob { blob }) => blob,
        other => panic!("{other:?}"),
    };
    let bytes: Vec<u8> =
        (0..CHUNK).map(|at| (at as u16 ^ number.wrapping_mul(997)) as u8).collect();
    stage(alone, blob, bytes);
    put(alone, key, CHUNK as u64, Content::Blob(blob));
}

fn stage(alone: &mut Alone, blob: BlobId, bytes: Vec<u8>) {
    let bytes = Octets(Bytes::from(bytes));
    let staged = match alone.ask(Request::WriteChunk { blob, bytes }) {
        Ok(Answer::Staged(staged)) => staged,
        other => panic!("{other:?}"),
    };
    let named = alone.ask(Request::AppendExtent { blob, seq: 0, chunks: vec![staged] });
    assert!(named.is_ok(), "{named:?}");
}

fn put(alone: &mut Alone, key: &str, bytes: u64, content: Content) {
    let etag = ETag { md5: [1; 16], parts: 0 };
    let object = NewObject { attributes: Attributes::default(), bytes, etag, content };
    let (bucket, key, condition) = (BUCKET.into(), key.into(), Condition::None);
    let done = alone.ask(Request::PutObject { bucket, key, object, condition });
    assert!(matches!(done, Ok(Answer::Written { .. })), "{done:?}");
}

/// What an object holds, if it can be had: its record, and its chunk.
pub(crate) fn get(alone: &mut Alone, key: &str) -> Option<Vec<u8>> {
    let object = match alone.ask(Request::GetObject { bucket: BUCKET.into(), key: key.into() }) {
        Ok(Answer::Object(object)) => object,
        other => panic!("{key}: {other:?}"),
    };
    match object.content {
        Content::Inline(bytes) => Some(bytes.0.to_vec()),
        Content::Blob(blob) => {
            let extents = alone.ask(Request::ReadExtents { blob, from: 0, limit: 8 });
            let Ok(Answer::Extents { extents, .. }) = extents else { panic!("{extents:?}") };
            let chunk = ChunkId { blob, hash: extents.first()?.first()?.hash };
            match alone.ask(Request::ReadChunk { chunk }) {
                Ok(Answer::Chunk(bytes)) => Some(bytes.0.to_vec()),
                other => panic!("{key}: {other:?}"),
            }
        }
        Content::Parts { .. } => None,
    }
}

/// The simulator's disk, each operation carried out as soon as it is issued.
pub(crate) fn execute(disk: &mut Disk, now: u64, op: u64, io: Io) -> IoResult {
    disk.issue(now, OpId(op), io);
    disk.complete(now, OpId(op)).expect("nothing crashed").result
}

/// A directory with what is on a disk, as its operating system has it.
pub(crate) struct Directory {
    folder: tempfile::TempDir,
}

impl Directory {
    pub(crate) fn of(alone: &Alone) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("FORMAT"), "ironseed data directory, format 1\n")
            .expect("a file");
        std::fs::write(folder.path().join("LOCK"), "").expect("a file");
        let mut disk = alone.disk.clone();
        for (at, found) in disk.found().into_iter().enumerate() {
            let io = Io::Read { file: found.file, offset: 0, len: found.bytes as u32 };
            match execute(&mut disk, alone.now, u64::MAX - at as u64, io) {
                Ok(IoDone::Data(bytes)) => {
                    let path = folder.path().join(found.file.to_string());
                    std::fs::write(path, &bytes).expect("a file");
                }
                other => panic!("{other:?}"),
            }
        }
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Every file and a hash of its bytes.
    pub(crate) fn hashes(&self) -> Vec<(String, u32)> {
        let entries = std::fs::read_dir(self.path()).expect("a folder");
        let mut hashes: Vec<(String, u32)> = entries
            .map(|entry| {
                let entry = entry.expect("an entry");
                let bytes = std::fs::read(entry.path()).expect("a file");
                (entry.file_name().to_string_lossy().into_owned(), crc(&bytes))
            })
            .collect();
        hashes.sort();
        hashes
    }

    /// Changes the bytes of a file.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.file(name);
        let mut bytes = std::fs::read(&path).expect("a file");
        change(&mut bytes);
        std::fs::write(path, bytes).expect("a file");
    }
}

pub(crate) fn crc(bytes: &[u8]) -> u32 {
    ironseed_core::wal::record::crc_of(&[Bytes::copy_from_slice(bytes)])
}

/// Executes nothing but what it is asked, on a disk that somebody else holds.
pub(crate) struct Borrowed<F>(pub(crate) std::cell::RefCell<F>);

impl<F: FnMut(Io) -> IoResult> ExecuteIo for Borrowed<F> {
    fn execute(&self, io: Io) -> IoResult {
        (self.0.borrow_mut())(io)
    }
}
