//! The node without others that damaged files and requests are tried on: how it is set up, objects as a gateway
//! writes and reads them, and its files.

#[path = "../../shared/alone.rs"]
mod by_hand;

pub(crate) use by_hand::Alone;

use bytes::Bytes;
use ironseed_core::codec::Octets;
use ironseed_core::machine::{FileId, Instant, Io, IoDone};
use ironseed_core::node::api::{Config, Engine, FsyncPolicy, Tuning};
use ironseed_core::object::api::{
    Answer, Attributes, Condition, ETag, NewObject, Refusal, Request,
};
use ironseed_core::object::transfer::{Downloader, Uploader};
use ironseed_core::planted::Planted;
use ironseed_core::types::{NodeId, OpId};
use ironseed_sim::disk::Disk;

/// Names an operation of ours on the disk; a node counts up from zero and never comes so far.
const OURS: OpId = OpId(u64::MAX);

fn config() -> Config {
    Config {
        me: NodeId(1),
        nodes: vec![NodeId(1)],
        shards: 2,
        replication: 1,
        lanes: 1,
        fsync: FsyncPolicy::Always,
        engine: Engine::Native,
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
    #[must_use]
    pub(crate) fn founded(access_key: &str, secret_key: &str) -> Self {
        Self::found(config(), access_key, secret_key)
    }

    /// The same, of a node that writes a snapshot of its index whenever its table log has grown a little.
    #[must_use]
    pub(crate) fn indexing() -> Self {
        let config = config();
        let tuning = Tuning { index_bytes_min: 64 << 10, ..config.tuning.clone() };
        Self::found(Config { tuning, ..config }, "access", "secret")
    }

    /// Writes an object as a gateway would.
    ///
    /// # Errors
    /// What the node refuses it with.
    pub(crate) fn put(&mut self, bucket: &str, key: &str, body: &[u8]) -> Result<(), String> {
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
    pub(crate) fn get(&mut self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
        let looked = self.ask(Request::GetObject { bucket: bucket.into(), key: key.into() });
        let object = match looked {
            Ok(Answer::Object(object)) => object,
            Err(Refusal::NoSuchKey | Refusal::NoSuchBucket) => return Ok(None),
            other => return Err(format!("{other:?}")),
        };
        let (content, bytes) = (&object.content, object.bytes);
        let mut download = Downloader::new(content, bytes, 0..bytes);
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
pub(crate) fn read_file(disk: &mut Disk, file: FileId, bytes: u64) -> Vec<u8> {
    let len = u32::try_from(bytes).expect("these disks are small");
    match carry_out(disk, Io::Read { file, offset: 0, len }) {
        IoDone::Data(data) => data.to_vec(),
        other => panic!("a read came to {other:?}"),
    }
}

/// Makes a file hold these bytes, at rest.
pub(crate) fn write_file(disk: &mut Disk, file: FileId, bytes: &[u8]) {
    carry_out(disk, Io::Create { file, bytes: bytes.len() as u64 });
    carry_out(disk, Io::Write { file, offset: 0, data: vec![Bytes::copy_from_slice(bytes)] });
    carry_out(disk, Io::Sync { file });
    carry_out(disk, Io::SyncDir);
}

/// Removes a file.
pub(crate) fn remove_file(disk: &mut Disk, file: FileId) {
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
pub(crate) fn octets(bytes: &[u8]) -> Octets {
    Octets(Bytes::copy_from_slice(bytes))
}
