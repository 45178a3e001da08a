//! Buckets: what shards enforce, what the registry shows, and that the procedures bring both together
//! whatever happens to their leader.

use super::*;
use crate::machine::{Duration, Instant};
use crate::object::charter::{Charter, Chartered, Founding};
use crate::object::procedure::{End, Procedure, Proposal, Ticket};
use crate::object::registry::{BucketEpoch, BucketState, Replacement};
use crate::planted::Planted;
use crate::rng::Rng;
use crate::types::{ClusterId, NodeId, StoreId};

fn install(epoch: u64) -> ObjectOp {
    ObjectOp::InstallBucket { bucket: BUCKET, epoch: Epoch(epoch) }
}

fn fence(epoch: u64) -> ObjectOp {
    ObjectOp::FenceBucket { bucket: BUCKET, epoch: Epoch(epoch) }
}

fn remove(epoch: u64) -> ObjectOp {
    ObjectOp::RemoveBucket { bucket: BUCKET, epoch: Epoch(epoch), floor: BucketId(BUCKET.0 + 1) }
}

#[test]
fn a_fence_stops_every_write_and_late_commands_change_nothing() {
    let mut shard = Group::shard();
    let upload = shard.create("k");
    let blob = shard.stage("k", 20_000);
    assert_eq!(shard.run(fence(EPOCH.0 + 1)), Ok(Answer::Done));
    let part = part(1, [1; 16], inline(b"x"));
    let named = vec![NamedPart { number: 1, md5: [1; 16] }];
    let (condition, tags, attributes) = (Condition::None, Vec::new(), Attributes::default());
    for target in [target("k"), Target { epoch: Epoch(EPOCH.0 + 1), ..target("k") }] {
        let t = || target.clone();
        let object = object(20_000, Content::Blob(blob));
        let writes = [
            ObjectOp::Put { target: t(), object, condition },
            ObjectOp::Delete { target: t(), condition },
            ObjectOp::PutTags { target: t(), tags: tags.clone() },
            ObjectOp::CreateUpload { target: t(), attributes: attributes.clone() },
            ObjectOp::PutPart { target: t(), upload, number: 1, part: part.clone() },
            ObjectOp::Complete {
                target: t(),
                upload,
                parts: named.clone(),
                checksum: None,
                condition,
            },
            ObjectOp::Abort { target: t(), upload },
            ObjectOp::OpenBlob { target: t() },
        ];
        for write in writes {
            assert_eq!(shard.run(write.clone()), Err(Refusal::BucketBusy), "{write:?}");
        }
    }
    assert_eq!(shard.get("k"), Err(Refusal::NoSuchKey), "reads go on");
    // The deletion is undone; then what its procedure still says comes too late.
    assert_eq!(shard.run(install(EPOCH.0 + 2)), Ok(Answer::Done));
    for late in [fence(EPOCH.0 + 1), remove(EPOCH.0 + 1), install(EPOCH.0), fence(EPOCH.0 + 2)] {
        assert_eq!(shard.run(late.clone()), Err(Refusal::BucketBusy), "{late:?}");
    }
    assert_eq!(shard.run(install(EPOCH.0 + 2)), Ok(Answer::Done));
    // A command that went by the old epoch is sent back to look again.
    let old = put("k", object(1, inline(b"x")), Condition::None);
    assert_eq!(shard.run(old), Err(Refusal::BucketBusy));
}

#[test]
fn only_a_bucket_without_objects_goes_and_its_uploads_go_with_it() {
    let mut shard = Group::shard();
    shard.run(put("k", object(1, inline(b"x")), Condition::None)).unwrap();
    assert_eq!(shard.run(fence(EPOCH.0 + 1)), Err(Refusal::BucketNotEmpty));
    assert_eq!(shard.run(fence(EPOCH.0 + 1)), Err(Refusal::BucketNotEmpty));
    assert_eq!(shard.run(remove(EPOCH.0 + 1)), Err(Refusal::BucketNotEmpty));

    let mut shard = Group::shard();
    for number in 0..70 {
        shard.create(&alloc::format!("k{number}"));
    }
    assert_eq!(shard.run(remove(EPOCH.0)), Err(Refusal::BucketBusy), "not fenced");
    assert_eq!(shard.run(fence(EPOCH.0 + 1)), Ok(Answer::Done));
    assert_eq!(shard.run(remove(EPOCH.0 + 1)), Err(Refusal::Busy));
    assert_eq!(shard.run(remove(EPOCH.0 + 1)), Ok(Answer::Done));
    assert_eq!(shard.run(remove(EPOCH.0 + 1)), Ok(Answer::Done));
    assert_eq!(shard.run(fence(EPOCH.0 + 1)), Ok(Answer::Done));
    assert_eq!(shard.get("k"), Err(Refusal::NoSuchBucket));
    shard.collect_all();
    assert_eq!(shard.table.len(), 1, "only the floor is left: {:?}", shard.table);
}

/// Whoever has looked an object up reads it to its end. The bucket may be gone by then, or be another of its name.
#[test]
fn a_reader_of_parts_goes_on_although_the_bucket_is_gone() {
    let mut shard = Group::shard();
    let upload = shard.create("k");
    let only = part(3, [1; 16], inline(b"end"));
    shard.run(ObjectOp::PutPart { target: target("k"), upload, number: 1, part: only }).unwrap();
    let read = Query::PartsRead { upload, after: 0, limit: 9 };
    assert_eq!(shard.read(&read), Err(Refusal::NoSuchUpload), "nobody has looked it up yet");
    let parts = vec![NamedPart { number: 1, md5: [1; 16] }];
    let (checksum, condition) = (None, Condition::None);
    let target = target("k");
    let complete =
        ObjectOp::Complete { target: target.clone(), upload, parts, checksum, condition };
    shard.run(complete).unwrap();
    let found = shard.read(&read);
    assert!(
        matches!(&found, Ok(Answer::Parts { parts, .. }) if parts[0].content == inline(b"end"))
    );
    shard.run(ObjectOp::Delete { target, condition }).unwrap();
    assert_eq!(shard.run(fence(EPOCH.0 + 1)), Ok(Answer::Done));
    assert_eq!(shard.run(remove(EPOCH.0 + 1)), Ok(Answer::Done));
    let by_name = Query::Parts { bucket: BUCKET, key: "k".into(), upload, after: 0, limit: 9 };
    assert_eq!(shard.read(&by_name), Err(Refusal::NoSuchBucket));
    assert_eq!(shard.read(&read), found);
    shard.collect_all();
    assert_eq!(shard.read(&read), Err(Refusal::NoSuchUpload), "nobody reads that long");
}

#[test]
fn a_first_installation_that_comes_after_the_removal_is_refused() {
    let bucket = |id: u64| BucketId(id);
    let install = |id| ObjectOp::InstallBucket { bucket: bucket(id), epoch: Epoch(1) };
    let fence = |id| ObjectOp::FenceBucket { bucket: bucket(id), epoch: Epoch(2) };
    let remove = |id, floor| ObjectOp::RemoveBucket {
        bucket: bucket(id),
        epoch: Epoch(2),
        floor: bucket(floor),
    };
    let mut shard = Group::at(HOME.group());
    let done = |shard: &mut Group, op| assert_eq!(shard.run(op), Ok(Answer::Done));
    // Bucket 3 is still being made elsewhere while 5 and 6 come and go.
    for id in [5, 6] {
        done(&mut shard, install(id));
        done(&mut shard, fence(id));
        done(&mut shard, remove(id, 3));
        assert_eq!(shard.run(install(id)), Err(Refusal::BucketBusy));
    }
    done(&mut shard, install(3));
    done(&mut shard, install(9));
    assert_eq!(shard.table.len(), 5, "3 and 9, the floor and two marks");
    done(&mut shard, fence(9));
    done(&mut shard, remove(9, 10));
    assert_eq!(shard.table.len(), 2, "3 and the floor");
    for id in [5, 6, 9] {
        assert_eq!(shard.run(install(id)), Err(Refusal::BucketBusy));
    }
    done(&mut shard, install(3));
    done(&mut shard, install(12));
}

#[test]
fn the_floor_is_the_oldest_bucket_that_is_being_made() {
    let mut meta = Group::at(GroupId::META);
    let create = |meta: &mut Group, name: &str, settle: bool| {
        let create = RegistryOp::CreateBucket { bucket: name.into() };
        let at = begun(name, meta.registry(create));
        if settle {
            meta.registry(RegistryOp::SettleBucket(at.clone())).unwrap();
        }
        at
    };
    let floor = |meta: &mut Group, name: &str| {
        meta.registry(RegistryOp::DeleteBucket { bucket: name.into() }).unwrap();
        registry::find(&meta.table, name).unwrap().floor
    };
    create(&mut meta, "one", true);
    let slow = create(&mut meta, "slow", false);
    create(&mut meta, "two", true);
    assert_eq!(floor(&mut meta, "one"), slow.id);
    meta.registry(RegistryOp::SettleBucket(slow)).unwrap();
    assert_eq!(floor(&mut meta, "two"), BucketId(meta.index));
}

/// The change that a registry command began.
fn begun(name: &str, outcome: Outcome) -> BucketEpoch {
    let Ok(Answer::BucketBegun { id, epoch }) = outcome else { panic!("{outcome:?}") };
    BucketEpoch { bucket: name.into(), id, epoch }
}

fn settled(meta: &Group, at: &BucketEpoch) -> Outcome {
    registry::settled(&meta.table, at, Planted::NONE)
}

/// Who began a change learns what became of that one, not of a later one that somebody else began.
#[test]
fn a_deletion_that_was_undone_is_not_taken_for_the_next_one() {
    let mut meta = Group::at(GroupId::META);
    let name = "bucket";
    let delete = RegistryOp::DeleteBucket { bucket: name.into() };
    let made = begun(name, meta.registry(RegistryOp::CreateBucket { bucket: name.into() }));
    meta.registry(RegistryOp::SettleBucket(made.clone())).unwrap();
    let shown = registry::head(&meta.table, name);

    let undone = begun(name, meta.registry(delete.clone()));
    assert_eq!(settled(&meta, &undone), Err(Refusal::BucketBusy));
    assert_eq!(settled(&meta, &made), shown);
    meta.registry(RegistryOp::RestoreBucket(undone.clone())).unwrap();
    assert_eq!(settled(&meta, &undone), Err(Refusal::BucketBusy), "not yet");
    let again = BucketEpoch { epoch: undone.epoch.next(), ..undone.clone() };
    meta.registry(RegistryOp::SettleBucket(again)).unwrap();
    assert_eq!(settled(&meta, &undone), Err(Refusal::BucketNotEmpty));

    let gone = begun(name, meta.registry(delete));
    assert_eq!(settled(&meta, &undone), Err(Refusal::BucketNotEmpty));
    meta.registry(RegistryOp::RemoveBucket(gone.clone())).unwrap();
    assert_eq!(settled(&meta, &gone), Ok(Answer::Done));
    assert_eq!(settled(&meta, &undone), Err(Refusal::BucketNotEmpty));
    assert_eq!(settled(&meta, &made), shown);

    for number in 0..100 {
        let name = alloc::format!("other-{number}");
        let made = begun(&name, meta.registry(RegistryOp::CreateBucket { bucket: name.clone() }));
        meta.registry(RegistryOp::SettleBucket(made)).unwrap();
        let gone = begun(&name, meta.registry(RegistryOp::DeleteBucket { bucket: name.clone() }));
        meta.registry(RegistryOp::RemoveBucket(gone)).unwrap();
    }
    assert_eq!(settled(&meta, &gone), Err(Refusal::OutcomeUnknown), "forgotten");
}

#[test]
fn the_registry_shows_what_is_settled_and_lists_in_order() {
    let mut meta = Group::at(GroupId::META);
    let op = |bucket: &str| RegistryOp::CreateBucket { bucket: bucket.into() };
    assert!(matches!(meta.registry(op("No")), Err(Refusal::Invalid(_))));
    for name in ["bbb", "aaa", "abc"] {
        let at = begun(name, meta.registry(op(name)));
        assert_eq!(settled(&meta, &at), Err(Refusal::BucketBusy));
        assert_eq!(registry::head(&meta.table, name), Err(Refusal::NoSuchBucket), "not yet");
        assert_eq!(meta.registry(op(name)), Err(Refusal::BucketBusy));
        let delete = RegistryOp::DeleteBucket { bucket: name.into() };
        assert_eq!(meta.registry(delete), Err(Refusal::NoSuchBucket));
        assert_eq!(meta.registry(RegistryOp::SettleBucket(at.clone())), Ok(Answer::Done));
        let shown = registry::head(&meta.table, name);
        assert!(matches!(&shown, Ok(Answer::Bucket(info)) if info.id == at.id));
        assert_eq!(settled(&meta, &at), shown);
        assert_eq!(meta.registry(op(name)), Err(Refusal::BucketAlreadyOwnedByYou));
    }
    let list = |prefix: &str, after, limit| match registry::list(&meta.table, prefix, after, limit)
    {
        Answer::Buckets { buckets, truncated } => {
            (buckets.into_iter().map(|bucket| bucket.name).collect::<Vec<_>>(), truncated)
        }
        other => panic!("{other:?}"),
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect::<Vec<String>>();
    assert_eq!(list("", None, 10), (names(&["aaa", "abc", "bbb"]), false));
    assert_eq!(list("", None, 2), (names(&["aaa", "abc"]), true));
    assert_eq!(list("a", Some("aaa"), 2), (names(&["abc"]), false));
    assert_eq!(list("", None, 0), (names(&[]), false));
    assert_eq!(registry::head(&meta.table, "aa"), Err(Refusal::NoSuchBucket));
}

#[test]
fn a_cluster_is_founded_once_and_a_store_replaced_by_who_knows_which() {
    let mut meta = Group::at(GroupId::META);
    let store = |id: u8| StoreId([id; 16]);
    let charter = |id: u8| Charter {
        founding: Founding {
            cluster: ClusterId([id; 16]),
            access_key: "root".into(),
            secret_key: "secret".into(),
        },
        version: 0,
        nodes: [1, 2]
            .map(|id| Chartered { node: NodeId(id.into()), store: store(id), generation: 0 })
            .to_vec(),
        shards: 4,
        replication: 3,
    };
    let replace = |node: u32, old: u8, new: u8| {
        let (node, old, new) = (NodeId(node), store(old), store(new));
        RegistryOp::ReplaceStore(Replacement { node, old, new })
    };
    assert!(matches!(meta.registry(replace(2, 2, 7)), Err(Refusal::Unavailable(_))));
    assert_eq!(meta.registry(RegistryOp::Found(charter(1))), Ok(Answer::Done));
    let founded = registry::charter_version(&meta.table);
    assert_eq!(meta.registry(replace(2, 2, 7)), Ok(Answer::Done));
    assert!(registry::charter_version(&meta.table) > founded);
    assert_eq!(meta.registry(replace(2, 2, 7)), Ok(Answer::Done), "once more does no harm");
    assert_eq!(meta.registry(RegistryOp::Found(charter(1))), Ok(Answer::Done), "nor does this");
    assert!(matches!(meta.registry(RegistryOp::Found(charter(2))), Err(Refusal::Invalid(_))));
    for refused in [replace(2, 2, 8), replace(3, 3, 8), replace(1, 1, 7)] {
        assert!(matches!(meta.registry(refused), Err(Refusal::Invalid(_))));
    }
    let charter = registry::charter(&meta.table).unwrap();
    assert_eq!(charter.version, 1);
    assert!(charter.names(NodeId(1), store(1)) && charter.names(NodeId(2), store(7)));
}

/// A cluster of one meta group and a few shards, driven by procedures that may be lost, run twice and
/// have their commands delayed.
struct World {
    rng: Rng,
    meta: Group,
    shards: Vec<Group>,
    procedures: Vec<Procedure>,
    /// Commands of procedures, also lost ones', that have not arrived yet.
    underway: Vec<(usize, Ticket, Proposal)>,
    now: Instant,
    ends: Vec<End>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        // All shards say that they are the same one: nothing here looks at it.
        let shards = vec![Group::at(HOME.group()); rng.between(1, 9) as usize];
        let meta = Group::at(GroupId::META);
        let (procedures, underway, ends) = (Vec::new(), Vec::new(), Vec::new());
        Self { rng, meta, shards, procedures, underway, now: Instant(0), ends }
    }

    /// Runs until the bucket is settled. `write` is tried at random shards on the way.
    fn settle(&mut self, mut write: impl FnMut(&mut Rng, &mut [Group])) {
        for _ in 0..100_000 {
            self.now = self.now + Duration::from_millis(self.rng.below(50));
            write(&mut self.rng, &mut self.shards);
            self.elect();
            if registry::unsettled(&self.meta.table, 10).is_empty() {
                return;
            }
            for (at, procedure) in self.procedures.iter_mut().enumerate() {
                while let Some((ticket, proposal)) = procedure.poll(self.now) {
                    self.underway.push((at, ticket, proposal));
                }
            }
            self.arrive();
        }
        panic!("the bucket never settles: {:?}", registry::find(&self.meta.table, "bucket"));
    }

    /// A new leader begins from the registry; the old one may go on beside it.
    fn elect(&mut self) {
        let live = self.procedures.iter().any(|procedure| procedure.end().is_none());
        if live && !self.rng.chance(1, 200) {
            return;
        }
        for (name, record) in registry::unsettled(&self.meta.table, 10) {
            self.procedures.extend(Procedure::new(name, record, self.shards.len() as u16));
        }
    }

    /// One command arrives, in any order; it or its answer may be lost, or it arrives once more later.
    fn arrive(&mut self) {
        if self.underway.is_empty() {
            return;
        }
        let at = self.rng.below(self.underway.len() as u64) as usize;
        let (procedure, ticket, proposal) = self.underway.swap_remove(at);
        if self.rng.chance(1, 8) {
            self.underway.push((procedure, ticket, proposal.clone()));
        }
        let lost = self.rng.chance(1, 10);
        let outcome = match proposal {
            _ if lost && self.rng.chance(1, 2) => Err(Refusal::OutcomeUnknown),
            Proposal::Shard(shard, op) => self.shards[shard.0 as usize].run(op),
            Proposal::Meta(op) => self.meta.registry(op),
        };
        let outcome = if lost { Err(Refusal::OutcomeUnknown) } else { outcome };
        let procedure = &mut self.procedures[procedure];
        let before = procedure.end();
        procedure.on_outcome(self.now, ticket, &outcome);
        if before.is_none() {
            self.ends.extend(procedure.end());
        }
    }
}

#[test]
fn a_deletion_never_loses_an_acknowledged_object() {
    let (mut kept, mut gone) = (0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        let create = RegistryOp::CreateBucket { bucket: "bucket".into() };
        let made = begun("bucket", world.meta.registry(create));
        world.settle(|_, _| {});
        for shard in &world.shards {
            let installed = crate::object::bucket::state(&shard.table, made.id).unwrap();
            assert_eq!(installed.epoch, Epoch(1), "acknowledged before it is everywhere");
        }
        world.meta.registry(RegistryOp::DeleteBucket { bucket: "bucket".into() }).unwrap();
        // A writer that knows the bucket by its first epoch, until it is refused.
        let mut acknowledged = None;
        let chance = world.rng.between(1, 40);
        world.settle(|rng, shards| {
            if acknowledged.is_none() && rng.chance(1, chance) {
                let at = rng.below(shards.len() as u64) as usize;
                let target = Target { bucket: made.id, epoch: Epoch(1), key: "k".into() };
                let object = object(1, inline(b"x"));
                let condition = Condition::None;
                if shards[at].run(ObjectOp::Put { target, object, condition }).is_ok() {
                    acknowledged = Some(at);
                }
            }
        });
        // Whatever the old leaders still say changes nothing.
        let settled = registry::find(&world.meta.table, "bucket");
        for _ in 0..200 {
            world.arrive();
        }
        assert_eq!(registry::find(&world.meta.table, "bucket"), settled, "seed {seed}");
        match (acknowledged, settled) {
            (Some(at), Some(record)) => {
                kept += 1;
                assert_eq!((record.state, record.epoch), (BucketState::Active, Epoch(3)));
                let query = Query::Object { bucket: made.id, key: "k".into() };
                assert!(world.shards[at].read(&query).is_ok(), "seed {seed}: lost");
                for shard in &mut world.shards {
                    let (bucket, epoch) = (made.id, Epoch(3));
                    let target = Target { bucket, epoch, key: "new".into() };
                    assert!(shard.run(ObjectOp::OpenBlob { target }).is_ok(), "seed {seed}");
                }
                assert!(!world.ends.contains(&End::Removed));
            }
            (None, None) => {
                gone += 1;
                for shard in &world.shards {
                    assert_eq!(shard.table.len(), 1, "seed {seed}: not only the floor is left");
                }
                assert!(!world.ends.contains(&End::NotEmpty));
            }
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(kept > 20 && gone > 20, "both ends are reached: {kept} kept, {gone} gone");
}
