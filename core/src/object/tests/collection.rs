//! What is collected, when, and that nothing is left.

use super::*;
use crate::chunk::{PIN_MS, STAGE_LEASE_MS};
use crate::machine::Duration;
use crate::object::collect::{self, Watch};

impl Group {
    /// What a leader of `leading_ms` would propose now, over as many slices as it takes.
    fn due(&self, leading_ms: u64, pinned: impl Fn(BlobId) -> bool) -> Vec<ObjectOp> {
        let leading = Duration::from_millis(leading_ms);
        let watch = Watch { home: HOME, wall: self.wall, leading };
        let (mut ops, mut after) = (Vec::new(), None);
        loop {
            let due = collect::due(&self.table, watch, after, 3, &pinned);
            ops.extend(due.ops);
            let Some(next) = due.next else { return ops };
            assert!(after.is_none_or(|after| after < next), "a round goes forward");
            after = Some(next);
        }
    }

    /// Collects until nothing is due.
    pub(super) fn collect_all(&mut self) {
        for round in 0.. {
            assert!(round < 1000, "collection does not end");
            self.wall += PIN_MS.max(STAGE_LEASE_MS) * MS;
            let ops = self.due(PIN_MS, |_| false);
            if ops.is_empty() {
                return;
            }
            for op in ops {
                assert_eq!(self.run(op), Ok(Answer::Done));
            }
        }
    }
}

#[test]
fn a_dead_blob_waits_for_its_readers() {
    let mut shard = Group::shard();
    let blob = shard.stage("k", 3 << 20);
    shard.run(put("k", object(3 << 20, Content::Blob(blob)), Condition::None)).unwrap();
    assert!(!collect::has_chores(&shard.table));
    let delete = ObjectOp::Delete { target: target("k"), condition: Condition::None };
    shard.run(delete).unwrap();
    assert!(collect::has_chores(&shard.table));
    let collects = [ObjectOp::Collect { blob, items: collect::SLICE_MAX }];
    shard.wall += PIN_MS * MS - 1;
    assert_eq!(shard.due(PIN_MS, |_| false), [], "a pin may be as young as the death");
    shard.wall += 1;
    assert_eq!(shard.due(PIN_MS - 1, |_| false), [], "an earlier leader's pins");
    assert_eq!(shard.due(PIN_MS, |pin| pin == blob), [], "a renewed pin");
    assert_eq!(shard.due(PIN_MS, |_| false), collects);
    for op in collects {
        assert_eq!(shard.run(op.clone()), Ok(Answer::Done));
        assert_eq!(shard.run(op), Ok(Answer::Done), "harmless to repeat");
    }
    assert_eq!(shard.events.last(), Some(&ObjectEvent::BlobCollected { blob }));
    assert!(!collect::has_chores(&shard.table));
}

#[test]
fn a_lease_ends_unless_it_was_renewed() {
    let mut shard = Group::shard();
    let blob = shard.stage("k", 1 << 20);
    shard.wall += STAGE_LEASE_MS * MS;
    let [expire] = shard.due(0, |_| true).try_into().unwrap();
    // The renewal comes between the proposal and its entry.
    assert_eq!(shard.append(blob, 1, vec![]), Ok(Answer::Done));
    shard.run(expire).unwrap();
    assert_eq!(shard.due(0, |_| true), []);
    let put_it = put("k", object(1 << 20, Content::Blob(blob)), Condition::None);
    assert!(shard.clone().run(put_it.clone()).is_ok());

    shard.wall += STAGE_LEASE_MS * MS;
    let [expire] = shard.due(0, |_| true).try_into().unwrap();
    shard.run(expire.clone()).unwrap();
    assert_eq!(shard.run(put_it), Err(Refusal::NoSuchBlob));
    assert_eq!(shard.append(blob, 1, vec![]), Err(Refusal::NoSuchBlob));
    // An old proposal can't hurt what became of the blob.
    shard.run(expire).unwrap();
    shard.collect_all();
    assert_eq!((shard.count(space::BLOBS), shard.count(space::EXTENTS)), (0, 0));
}

#[test]
fn a_large_upload_is_collected_in_slices_with_all_its_parts() {
    let mut shard = Group::shard();
    let upload = shard.create("k");
    for number in 1..=150 {
        let blob = shard.stage("k", 20_000);
        let part = part(20_000, [1; 16], Content::Blob(blob));
        shard.run(ObjectOp::PutPart { target: target("k"), upload, number, part }).unwrap();
    }
    assert!(!collect::has_chores(&shard.table), "an upload in progress has no lease");
    shard.run(ObjectOp::Abort { target: target("k"), upload }).unwrap();
    shard.wall += PIN_MS * MS;
    let before = shard.count(space::PARTS);
    let ops = shard.due(PIN_MS, |_| false);
    assert_eq!(ops, [ObjectOp::Collect { blob: upload, items: collect::SLICE_MAX }]);
    shard.run(ops[0].clone()).unwrap();
    assert_eq!(before - shard.count(space::PARTS), collect::SLICE_MAX as usize);
    // The parts' blobs have waited with the upload: they are due at once.
    assert_eq!(shard.due(PIN_MS, |_| false).len(), 1 + collect::SLICE_MAX as usize);
    shard.collect_all();
    let spaces = [space::BLOBS, space::EXTENTS, space::PARTS, space::UPLOADS, space::CHORES];
    assert_eq!(spaces.map(|space| shard.count(space)), [0; 5]);
    let collected = |event: &&ObjectEvent| matches!(event, ObjectEvent::BlobCollected { .. });
    assert_eq!(shard.events.iter().filter(collected).count(), 150);
}

#[test]
fn a_pin_on_a_part_is_a_pin_on_its_upload() {
    let mut shard = Group::shard();
    let upload = shard.create("k");
    let blob = shard.stage("k", 20_000);
    let one = part(20_000, [1; 16], Content::Blob(blob));
    shard.run(ObjectOp::PutPart { target: target("k"), upload, number: 1, part: one }).unwrap();
    let pins = |blob| {
        let query = Query::Extents { blob, from: 0, limit: 1 };
        query::read(&shard.table, HOME, &query).unwrap().pins()
    };
    assert_eq!((pins(blob), pins(upload)), (Some(upload), Some(upload)));
}
