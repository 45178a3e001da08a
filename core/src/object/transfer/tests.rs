#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]
//! Uploads and downloads against a store that answers in any order, and the refusals that it can give.

use super::*;
use crate::chunk::{PIN_MS, STAGE_LEASE_MS};
use crate::codec::Octets;
use crate::machine::{Duration, Instant};
use crate::object::api::{
    Answer, Attributes, CHUNK_BYTES, ChunkRef, Content, EXTENT_CHUNKS_MAX, INLINE_BYTES_MAX, Part,
    StagedChunk,
};
use crate::rng::Rng;
use crate::types::{BlobId, Boot, ChunkHash, Incarnation, Index, NodeId, ShardId};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

/// As much of a store as transfers need: it checks what the real one checks.
#[derive(Default)]
struct Store {
    opened: u64,
    chunks: BTreeMap<(BlobId, ChunkHash), Bytes>,
    extents: BTreeMap<BlobId, Vec<Vec<ChunkRef>>>,
    parts: Vec<Part>,
    /// Who has to hold what is named.
    holder: Boot,
    renewals: usize,
}

impl Store {
    fn answer(&mut self, request: Request) -> Outcome {
        match request {
            Request::OpenBlob { .. } => {
                self.opened += 1;
                let blob = BlobId { home: ShardId(3), opened: Index(self.opened) };
                self.extents.insert(blob, Vec::new());
                Ok(Answer::Blob { blob })
            }
            Request::WriteChunk { blob, bytes } => {
                let (hash, len) = (ChunkHash::of(&bytes), bytes.len() as u32);
                assert!(bytes.len() <= CHUNK_BYTES && !bytes.is_empty());
                self.chunks.insert((blob, hash), bytes.0);
                let holders = vec![self.holder];
                Ok(Answer::Staged(StagedChunk { hash, bytes: len, holders }))
            }
            Request::AppendExtent { blob, seq, chunks } => {
                if chunks.is_empty() {
                    self.renewals += 1;
                    return Ok(Answer::Done);
                }
                if chunks.iter().any(|chunk| chunk.holders != [self.holder]) {
                    return Err(Refusal::Restage);
                }
                let extents = self.extents.get_mut(&blob).ok_or(Refusal::NoSuchBlob)?;
                assert_eq!(seq as usize, extents.len(), "extents in order");
                assert!(chunks.len() <= EXTENT_CHUNKS_MAX);
                assert!(extents.last().is_none_or(|last| last.len() == EXTENT_CHUNKS_MAX));
                extents.push(
                    chunks.iter().map(|c| ChunkRef { hash: c.hash, bytes: c.bytes }).collect(),
                );
                Ok(Answer::Done)
            }
            Request::DropBlob { blob } => {
                self.extents.remove(&blob);
                self.chunks.retain(|(of, _), _| *of != blob);
                Ok(Answer::Done)
            }
            Request::ReadExtents { from, limit: 0, .. } => {
                assert_eq!(from, 0, "a renewal");
                self.renewals += 1;
                Ok(Answer::Extents { extents: Vec::new(), truncated: true })
            }
            Request::ReadExtents { blob, from, limit } => {
                let extents = self.extents.get(&blob).ok_or(Refusal::NoSuchBlob)?;
                let page: Vec<_> =
                    extents.iter().skip(from as usize).take(limit as usize).cloned().collect();
                let truncated = from as usize + page.len() < extents.len();
                Ok(Answer::Extents { extents: page, truncated })
            }
            Request::ReadParts { after, limit, .. } => {
                let rest: Vec<_> =
                    self.parts.iter().filter(|p| p.number > after).cloned().collect();
                let parts: Vec<_> = rest.iter().take(limit.min(2) as usize).cloned().collect();
                let truncated = parts.len() < rest.len();
                Ok(Answer::Parts { parts, truncated, attributes: Attributes::default() })
            }
            Request::ReadChunk { chunk } => {
                let found = self.chunks.get(&(chunk.blob, chunk.hash)).cloned();
                found.map(|bytes| Answer::Chunk(Octets(bytes))).ok_or(Refusal::ChunkUnavailable)
            }
            other => panic!("a transfer never asks {other:?}"),
        }
    }
}

fn body(rng: &mut Rng, bytes: usize) -> Vec<u8> {
    let mut body = vec![0; bytes];
    rng.fill(&mut body);
    body
}

/// Uploads `body` in random pieces; completes calls in random order.
fn upload(store: &mut Store, rng: &mut Rng, body: &[u8]) -> Result<Uploaded, Failure> {
    // What is announced only says how much room is taken: it may be wrong.
    let promised = body.len() as u64 * rng.below(4) / 2 + rng.below(3);
    let mut upload = Uploader::new("b".into(), "k".into(), u64::MAX);
    if rng.chance(2, 3) {
        upload = upload.promised(promised);
    }
    let mut left = body;
    let mut calls = Vec::new();
    loop {
        while let Some(call) = upload.poll(Instant(0)) {
            calls.push(call);
        }
        if upload.wants_bytes() && rng.chance(2, 3) {
            let take = (1 + rng.below(3 << 19) as usize).min(left.len());
            let (piece, rest) = left.split_at(take);
            upload.push(piece);
            left = rest;
            if left.is_empty() {
                upload.finish();
            }
        } else if !calls.is_empty() {
            let call = calls.swap_remove(rng.below(calls.len() as u64) as usize);
            upload.on_outcome(call.ticket, store.answer(call.request));
        }
        assert!(upload.held_bytes() < HELD_CHUNKS * CHUNK_BYTES + (3 << 19));
        if upload.is_idle() {
            return upload.outcome().unwrap();
        }
    }
}

fn download(
    store: &mut Store,
    rng: &mut Rng,
    content: &Content,
    bytes: u64,
    range: core::ops::Range<u64>,
) -> Result<Vec<u8>, Failure> {
    let mut download = Downloader::new(content, bytes, range);
    let (mut out, mut calls) = (Vec::new(), Vec::new());
    while !download.done() {
        while let Some(call) = download.poll(Instant(0)) {
            calls.push(call);
        }
        assert!(calls.len() <= READ_AHEAD + 1, "reads too far ahead");
        if !calls.is_empty() && rng.chance(1, 2) {
            let call = calls.swap_remove(rng.below(calls.len() as u64) as usize);
            download.on_outcome(call.ticket, store.answer(call.request));
        } else if let Some(piece) = download.take() {
            assert!(!piece.is_empty());
            out.extend_from_slice(&piece);
        }
        if let Some(failure) = download.failure() {
            return Err(failure.clone());
        }
    }
    assert!(download.poll(Instant(0)).is_none(), "nothing to ask when done");
    Ok(out)
}

#[test]
fn bodies_of_every_length_class_come_back_whole_and_in_ranges() {
    let mut rng = Rng::new(1);
    let extent = EXTENT_CHUNKS_MAX * CHUNK_BYTES;
    let lengths = [
        0,
        1,
        INLINE_BYTES_MAX,
        INLINE_BYTES_MAX + 1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        5 * CHUNK_BYTES,
        extent,
        extent + CHUNK_BYTES + 7,
    ];
    for bytes in lengths {
        let (mut store, body) = (Store::default(), body(&mut rng, bytes));
        let uploaded = upload(&mut store, &mut rng, &body).unwrap();
        assert_eq!(uploaded.bytes, bytes as u64);
        assert_eq!(matches!(uploaded.content, Content::Inline(_)), bytes <= INLINE_BYTES_MAX);
        assert_eq!(
            store.opened,
            u64::from(bytes > INLINE_BYTES_MAX),
            "no request for a small body"
        );
        for round in 0..6 {
            let start = if round == 0 { 0 } else { rng.below(bytes as u64 + 1) };
            let end = if round == 0 { bytes as u64 } else { rng.between(start, bytes as u64) };
            let read = download(&mut store, &mut rng, &uploaded.content, bytes as u64, start..end)
                .unwrap();
            assert!(read == body[start as usize..end as usize], "{start}..{end} of {bytes}");
        }
    }
}

#[test]
fn an_object_of_parts_reads_as_their_concatenation() {
    let mut rng = Rng::new(2);
    let (mut store, mut whole) = (Store::default(), Vec::new());
    for (number, bytes) in [(1, 3 * CHUNK_BYTES + 5), (4, CHUNK_BYTES), (5, 70_000), (900, 100)] {
        let body = body(&mut rng, bytes);
        let uploaded = upload(&mut store, &mut rng, &body).unwrap();
        whole.extend_from_slice(&body);
        store.parts.push(Part {
            number,
            bytes: bytes as u64,
            md5: [0; 16],
            checksum: None,
            modified: 0,
            content: uploaded.content,
        });
    }
    let content = Content::Parts { upload: BlobId::default() };
    let bytes = whole.len() as u64;
    for _ in 0..40 {
        let start = rng.below(bytes);
        let end = rng.between(start, bytes);
        let read = download(&mut store, &mut rng, &content, bytes, start..end).unwrap();
        assert!(read == whole[start as usize..end as usize], "{start}..{end}");
    }
    // A record that promises more than the parts hold is never a short body.
    let failed = download(&mut store, &mut rng, &content, bytes + 1, 0..bytes + 1);
    assert!(matches!(failed, Err(Failure::Inconsistent(_))), "{failed:?}");
}

#[test]
fn an_extent_refused_after_a_change_of_replicas_is_staged_again() {
    let mut rng = Rng::new(3);
    let (mut store, body) = (Store::default(), body(&mut rng, 4 * CHUNK_BYTES + 9));
    let mut upload = Uploader::new("b".into(), "k".into(), u64::MAX);
    let mut left = body.as_slice();
    while !upload.is_idle() {
        if let Some(call) = upload.poll(Instant(0)) {
            if matches!(call.request, Request::AppendExtent { .. })
                && store.holder == Boot::default()
            {
                store.holder = Boot { node: NodeId(2), incarnation: Incarnation(1) };
            }
            upload.on_outcome(call.ticket, store.answer(call.request));
        } else if upload.wants_bytes() {
            let (piece, rest) = left.split_at(left.len().min(100_000));
            upload.push(piece);
            left = rest;
            if left.is_empty() {
                upload.finish();
            }
        }
        assert!(upload.held_bytes() <= HELD_CHUNKS * CHUNK_BYTES + 100_000);
    }
    let uploaded = upload.outcome().unwrap().unwrap();
    let bytes = body.len() as u64;
    let read = download(&mut store, &mut rng, &uploaded.content, bytes, 0..bytes).unwrap();
    assert!(read == body);
}

#[test]
fn a_replica_set_that_never_settles_ends_the_upload() {
    let mut store = Store::default();
    let mut upload = Uploader::new("b".into(), "k".into(), u64::MAX);
    upload.push(&vec![1; CHUNK_BYTES + 1]);
    upload.finish();
    let mut calls = 0;
    while let Some(call) = upload.poll(Instant(0)) {
        calls += 1;
        assert!(calls < 100, "it gives up");
        if matches!(call.request, Request::AppendExtent { .. }) {
            store.holder.incarnation = store.holder.incarnation.next();
        }
        upload.on_outcome(call.ticket, store.answer(call.request));
    }
    assert_eq!(upload.outcome(), Some(Err(Failure::Refused(Refusal::Restage))));
    assert!(store.extents.is_empty() && store.chunks.is_empty(), "the blob was dropped");
}

#[test]
fn a_failed_or_aborted_upload_drops_its_blob_once() {
    for abort in [false, true] {
        let mut store = Store::default();
        let mut upload = Uploader::new("b".into(), "k".into(), 2 << 20);
        upload.push(&vec![1; INLINE_BYTES_MAX + 1]);
        let open = upload.poll(Instant(0)).unwrap();
        if abort {
            upload.abort();
        } else {
            upload.push(&vec![1; 2 << 20]);
        }
        assert!(upload.poll(Instant(0)).is_none(), "the blob is still being opened");
        assert!(!upload.is_idle() && !upload.wants_bytes());
        upload.on_outcome(open.ticket, store.answer(open.request));
        let drop = upload.poll(Instant(0)).unwrap();
        upload.on_outcome(drop.ticket, store.answer(drop.request));
        assert!(upload.is_idle() && upload.poll(Instant(0)).is_none());
        let failure = if abort { Failure::Aborted } else { Failure::TooLarge };
        assert_eq!(upload.outcome(), Some(Err(failure)));
        assert!(store.extents.is_empty());
    }
}

#[test]
fn a_slow_upload_keeps_its_lease_and_a_slow_download_its_pin() {
    let mut rng = Rng::new(4);
    let (mut store, body) = (Store::default(), body(&mut rng, 3 * CHUNK_BYTES));
    let mut upload = Uploader::new("b".into(), "k".into(), u64::MAX);
    let mut now = Instant(0);
    // One piece every ten seconds: without renewal the lease would run out many times over.
    for piece in body.chunks(CHUNK_BYTES / 4) {
        now = now + Duration::from_secs(10);
        upload.push(piece);
        while let Some(call) = upload.poll(now) {
            upload.on_outcome(call.ticket, store.answer(call.request));
        }
        let deadline = upload.deadline().unwrap();
        assert!(deadline > now && deadline <= now + Duration::from_millis(STAGE_LEASE_MS / 2));
    }
    assert!(store.renewals >= 4, "{} renewals in 120 s", store.renewals);
    upload.finish();
    while let Some(call) = upload.poll(now) {
        upload.on_outcome(call.ticket, store.answer(call.request));
    }
    let uploaded = upload.outcome().unwrap().unwrap();

    store.renewals = 0;
    let bytes = body.len() as u64;
    let mut download = Downloader::new(&uploaded.content, bytes, 0..bytes);
    let mut read = Vec::new();
    while !download.done() {
        now = now + Duration::from_millis(PIN_MS / 2);
        while let Some(call) = download.poll(now) {
            download.on_outcome(call.ticket, store.answer(call.request));
        }
        read.extend_from_slice(&download.take().unwrap());
    }
    assert!(read == body);
    assert!(store.renewals >= 1);
    assert_eq!(download.deadline(), None);
}

#[test]
fn a_chunk_of_the_wrong_length_or_a_lost_one_breaks_the_download() {
    let mut rng = Rng::new(5);
    let (mut store, body) = (Store::default(), body(&mut rng, 2 * CHUNK_BYTES));
    let uploaded = upload(&mut store, &mut rng, &body).unwrap();
    let bytes = body.len() as u64;
    let (&name, whole) = store.chunks.iter().next().unwrap();
    let whole = whole.clone();
    store.chunks.insert(name, whole.slice(1..));
    let failed = download(&mut store, &mut rng, &uploaded.content, bytes, 0..bytes);
    assert!(matches!(failed, Err(Failure::Inconsistent(_))), "{failed:?}");
    store.chunks.remove(&name);
    let failed = download(&mut store, &mut rng, &uploaded.content, bytes, 0..bytes);
    assert_eq!(failed, Err(Failure::Refused(Refusal::ChunkUnavailable)));
    store.chunks.insert(name, whole);
    // A record that disagrees with the blob's extents about the length.
    for wrong in [bytes - 1, bytes + 1] {
        let failed = download(&mut store, &mut rng, &uploaded.content, wrong, 0..wrong);
        assert!(matches!(failed, Err(Failure::Inconsistent(_))), "{failed:?}");
    }
}
