//! A lone node verifies what nobody reads, at its rate, and goes on where it was.

use crate::stopped::{CHUNK, config, filled_with};
use ironseed_core::machine::{Duration, FileId, FileKind};
use ironseed_core::node::api::{Config, Tuning};
use ironseed_core::node::scrub::Scrubbed;
use ironseed_core::node::trace::Trace;

const CHUNKS: u16 = 10;
/// All of them take a quarter of a minute.
const RATE: u64 = CHUNKS as u64 * CHUNK as u64 / 15;

fn scrubbing(rate: u64) -> Config {
    let config = config();
    let tuning = Tuning {
        scrub_bytes_per_second: rate,
        scrub_every: Duration::from_secs(60),
        ..config.tuning.clone()
    };
    Config { tuning, ..config }
}

#[test]
fn a_chunk_that_rots_unread_is_found_by_a_round_that_a_restart_does_not_begin_anew() {
    // The first round ended at once, for there was nothing; the second one has begun.
    let mut alone = filled_with(scrubbing(RATE), 0, CHUNKS);
    let all = u64::from(CHUNKS) * CHUNK as u64;
    let (mut seen, mut began) = (0, 0);
    while seen < all / 2 {
        alone.rest(1_000);
        let Scrubbed { rounds, began: of, bytes, .. } = alone.node.status().scrubbed;
        assert!(rounds == 1 && of > 0 && bytes <= seen + 2 * RATE, "{seen} {bytes}");
        (seen, began) = (bytes, of);
    }
    let (chunk, at) = alone.node.held_chunks().pop().expect("there are chunks");
    let file = FileId::new(FileKind::Chunk, at.segment);
    alone.reboot(|disk| assert!(disk.flip(file, at.offset + 7, 2)));
    let resumed = alone.node.status().scrubbed;
    assert!(resumed.began == began && resumed.bytes >= seen / 2, "{resumed:?}");
    assert!(resumed.after.is_some_and(|after| after < chunk), "{resumed:?}");
    alone.rest(15_000);
    let done = alone.node.status();
    let Scrubbed { rounds, whole, bytes, damaged, began: none, .. } = done.scrubbed;
    assert_eq!((rounds, whole, bytes, damaged, none), (2, began, all, 1, 0));
    assert_eq!(done.chunks_missing, 1);
    let told = |trace: &Trace| matches!(trace, Trace::Damaged { damage } if damage.file == file);
    assert!(alone.traces.iter().any(told), "{:?}", alone.traces);
    // Between rounds a restart doesn't begin one either.
    alone.reboot(|_| {});
    alone.rest(20_000);
    assert_eq!(alone.node.status().scrubbed, done.scrubbed);
    alone.rest(60_000);
    assert_eq!(alone.node.status().scrubbed.rounds, 3);
}

#[test]
fn a_scrub_that_is_turned_off_reads_nothing() {
    let mut alone = filled_with(scrubbing(0), 0, 2);
    alone.rest(200_000);
    assert_eq!(alone.node.status().scrubbed, Scrubbed::default());
}
