//! Bytes and back.

use super::super::record::{
    BATCH_HEADER_BYTES, BatchHeader, Place, Seal, SegmentHeader, VERSION, decode_batch,
    encode_batch,
};
use super::record;
use crate::machine::FileKind;
use alloc::vec::Vec;

const PLACE: Place = Place { segment: 3, offset: 4096, seq: 9, synced_seq: 7, block_bytes: 512 };

fn seal() -> Seal {
    Seal::new(&[7; 16], FileKind::Wal)
}

#[test]
fn a_batch_decodes_as_it_was_encoded() {
    for sizes in [&[][..], &[0], &[1], &[5000], &[10, 0, 300, 512, 4096, 1]] {
        let records: Vec<_> =
            sizes.iter().enumerate().map(|(n, bytes)| record(n as u64, *bytes)).collect();
        let batch = encode_batch(records.clone(), PLACE, &seal());
        let bytes = batch.data.concat();
        assert_eq!(bytes.len(), batch.header.batch_bytes as usize);
        assert_eq!(bytes.len() % 512, 0);
        let (header, entries) = decode_batch(&bytes, &seal(), 3).unwrap();
        assert_eq!(header, batch.header);
        assert_eq!(BatchHeader::decode_tail(&bytes, &seal(), 3), Some(header));
        assert_eq!(entries.len(), records.len());
        for (((entry, good), record), location) in
            entries.iter().zip(&records).zip(&batch.locations)
        {
            assert!(good);
            assert_eq!((entry.identity, &entry.note), (record.identity, &record.note));
            assert_eq!(entry.location, *location);
            let start = (location.offset - PLACE.offset) as usize;
            let payload = &bytes[start..start + location.bytes as usize];
            assert_eq!(payload, record.payload.concat());
        }
    }
}

#[test]
fn a_header_with_any_bit_flipped_is_no_header() {
    let bytes = encode_batch(Vec::from([record(1, 100)]), PLACE, &seal()).data.concat();
    for bit in 0..BATCH_HEADER_BYTES * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(BatchHeader::decode_head(&bytes, &seal(), 3), None, "bit {bit}");
    }
    let header = SegmentHeader {
        version: VERSION,
        kind: 1,
        block_bytes: 512,
        segment: 3,
        store: [7; 16],
        first_seq: 5,
        previous: 2,
    };
    let bytes = header.encode();
    assert_eq!(SegmentHeader::decode(&bytes), Some(header));
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(SegmentHeader::decode(&bytes), None, "bit {bit}");
    }
}

#[test]
fn a_batch_of_another_store_kind_or_segment_does_not_pass() {
    let bytes = encode_batch(Vec::from([record(1, 100)]), PLACE, &seal()).data.concat();
    assert_eq!(decode_batch(&bytes, &Seal::new(&[8; 16], FileKind::Wal), 3), None);
    assert_eq!(decode_batch(&bytes, &Seal::new(&[7; 16], FileKind::Chunk), 3), None);
    for segment in [0, 2, 4, u64::MAX] {
        assert_eq!(decode_batch(&bytes, &seal(), segment), None);
        assert_eq!(BatchHeader::decode_tail(&bytes, &seal(), segment), None);
    }
    for cut in 0..bytes.len() {
        assert_eq!(decode_batch(&bytes[..cut], &seal(), 3), None, "cut at {cut}");
    }
}
