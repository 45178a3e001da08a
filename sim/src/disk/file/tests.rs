use super::*;
use crate::draw::Domain;

fn filled(byte: u8, len: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![byte; len])]
}

fn write(file: &mut File, offset: usize, byte: u8, len: usize) {
    file.write(offset, &filled(byte, len), |_| true);
}

/// Every outcome that a power loss has on this file, over many seeds.
fn outcomes(file: &File) -> std::collections::BTreeSet<Vec<u8>> {
    (0..400)
        .map(|seed| {
            let mut file = file.clone();
            file.lose_power(&mut Draw::new(seed, Domain::Crash, &[]));
            file.read(0, usize::MAX).to_vec()
        })
        .collect()
}

#[test]
fn a_power_loss_keeps_any_subset_of_unsynced_sectors_and_every_synced_one() {
    let mut file = File::default();
    file.set_len(4 * SECTOR);
    file.synced(file.writes(), file.len());
    write(&mut file, 0, 1, SECTOR);
    file.synced(file.writes(), file.len());
    write(&mut file, SECTOR, 2, 2 * SECTOR);
    let seen = outcomes(&file);
    assert_eq!(seen.len(), 4, "two unsynced sectors have four outcomes");
    assert!(seen.iter().all(|bytes| bytes[..SECTOR] == [1; SECTOR]));
    assert!(seen.iter().all(|bytes| bytes[3 * SECTOR..] == [0; SECTOR]));
    assert_eq!(&file.read_durable(0, 4 * SECTOR)[..SECTOR], [1; SECTOR]);
    assert_eq!(&file.read_durable(0, 4 * SECTOR)[SECTOR..], [0; 3 * SECTOR]);
}

#[test]
fn a_sync_covers_the_writes_completed_before_it_was_issued_and_no_later_one() {
    let mut file = File::default();
    file.set_len(SECTOR);
    file.synced(file.writes(), file.len());
    write(&mut file, 0, 1, SECTOR);
    let covers = file.writes();
    write(&mut file, 0, 2, SECTOR);
    file.synced(covers, file.len());
    let seen: Vec<u8> = outcomes(&file).iter().map(|bytes| bytes[0]).collect();
    assert_eq!(seen, [1, 2], "the synced contents or the newer ones, never the oldest");
    assert_eq!(file.read_durable(0, 1), [1]);
    file.synced(file.writes(), file.len());
    assert!(file.is_synced());
}

#[test]
fn a_torn_write_keeps_the_sectors_it_is_told_to() {
    let mut file = File::default();
    file.set_len(3 * SECTOR);
    let pieces = vec![Bytes::from(vec![7; 100]), Bytes::from(vec![8; 3 * SECTOR - 100])];
    file.write(0, &pieces, |sector| sector != 1);
    let bytes = file.read(0, 3 * SECTOR);
    assert_eq!((bytes[0], bytes[100], bytes[SECTOR], bytes[2 * SECTOR]), (7, 8, 0, 8));
}

#[test]
fn what_is_shared_with_a_writer_or_reader_changes_for_nobody_else() {
    let mut draw = Draw::new(9, Domain::Crash, &[]);
    let mut file = File::default();
    let mut model = vec![0; 24 * PAGE];
    file.set_len(model.len());
    let mut read: Vec<(Bytes, Vec<u8>)> = Vec::new();
    for round in 0..3_000_u64 {
        let offset = draw.below(20 * PAGE as u64) as usize & !(draw.below(2) as usize * 511);
        let len = draw.below(3 * PAGE as u64) as usize;
        match draw.below(6) {
            0 => {
                let pieces = vec![round as u8; len];
                let at = draw.below(len as u64 + 1) as usize;
                let pieces = [Bytes::from(pieces[..at].to_vec()), pieces[at..].to_vec().into()];
                let torn = draw.below(2) == 0;
                let mut kept = |_| !torn || draw.below(2) == 0;
                let mut sectors = BTreeMap::new();
                file.write(offset, &pieces, |sector| {
                    let keeps = kept(sector);
                    assert_eq!(sectors.insert(sector + offset / SECTOR, keeps), None);
                    keeps
                });
                for (at, byte) in model[offset..offset + len].iter_mut().enumerate() {
                    if sectors[&((offset + at) / SECTOR)] {
                        *byte = round as u8;
                    }
                }
            }
            1 => file.synced(file.writes(), file.len()),
            2 if file.flip(offset, 3) => model[offset] ^= 8,
            3 => {
                file.lose_power(&mut draw);
                model.clone_from(&file.copy(0, file.len()));
                file.set_len(24 * PAGE);
                model.resize(24 * PAGE, 0);
            }
            _ => {
                let bytes = file.read_again(offset, len);
                assert_eq!(bytes, model[offset..offset + len], "{round}: {len} at {offset}");
                read.push((bytes.clone(), bytes.to_vec()));
            }
        }
        assert_eq!(file.read(offset, len), model[offset..offset + len], "{round}");
        assert_eq!(file.copy(offset, offset + len), model[offset..offset + len], "{round}");
    }
    assert!(read.iter().all(|(bytes, then)| bytes == then));
    assert!(read.len() > 500);
}

#[test]
fn growth_that_was_not_synced_may_be_cut_off_but_synced_length_stays() {
    let mut file = File::default();
    file.set_len(SECTOR);
    file.synced(file.writes(), file.len());
    write(&mut file, SECTOR, 3, 10);
    let lengths: std::collections::BTreeSet<usize> = outcomes(&file).iter().map(Vec::len).collect();
    assert_eq!(lengths, [SECTOR, SECTOR + 10].into());
}

#[test]
fn a_failed_sync_leaves_the_file_clean_and_may_have_dropped_the_data() {
    let mut file = File::default();
    file.set_len(SECTOR);
    file.synced(file.writes(), file.len());
    write(&mut file, 0, 9, SECTOR);
    let mut dropped = 0;
    for seed in 0..100 {
        let mut file = file.clone();
        file.drop_dirty(&mut Draw::new(seed, Domain::Crash, &[]));
        assert!(file.is_synced());
        dropped += u32::from(file.read(0, 1)[0] == 0);
    }
    assert!((20..80).contains(&dropped), "{dropped} of 100 dropped");
}
