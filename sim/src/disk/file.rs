//! One file: what a read sees, and what a power loss may make of it.

use crate::draw::Draw;
use bytes::Bytes;
use core::ops::Range;
use std::collections::BTreeMap;

/// What a disk writes whole or not at all.
pub const SECTOR: usize = 512;

/// What a read of the untouched finds.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// Bytes of a page, which is all sectors of a place that were ever written, and the others.
const PAGE: usize = 8 * SECTOR;

type Page = Box<[u8; PAGE]>;

/// A file's bytes, volatile and durable.
///
/// - `pages` are what a read sees: every completed write. Where there is none up to `len`, all is zero: the untouched
///   part of a preallocated segment costs nothing. Behind `len` a page is zero.
/// - A sector in `unsynced` has contents that only a later sync makes durable. What stands there under its number is
///   what a power loss may bring back, oldest first: the durable contents, then each overwritten one.
/// - A sector that is not in `unsynced` is durable as it reads.
#[derive(Clone, Debug, Default)]
pub struct File {
    pages: Vec<Option<Page>>,
    len: usize,
    /// Length that a power loss can't take below.
    bytes_durable: usize,
    /// Completed writes so far. A sync covers those that it found here when it was issued.
    writes: u64,
    /// By sector and the write that replaced them.
    unsynced: BTreeMap<(usize, u64), Contents>,
    /// What it held when it was given to another use.
    before: Vec<Option<Page>>,
}

/// A sector's contents; `None` is all zeros, the usual case in a preallocated segment.
type Contents = Option<Box<[u8; SECTOR]>>;

impl File {
    /// Its length as a read sees it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of the last completed write: what a sync issued now will cover.
    #[must_use]
    pub const fn writes(&self) -> u64 {
        self.writes
    }

    /// Whether a power loss could change anything.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.unsynced.is_empty() && self.bytes_durable == self.len
    }

    /// What is in it is of no use any more, and it begins another one.
    pub fn begin_life(&mut self) {
        self.before.clone_from(&self.pages);
    }

    /// What stood in a range before its present use began; zeros if that is the first.
    #[must_use]
    pub fn before_life(&self, offset: usize, len: usize) -> Vec<u8> {
        let before = Self { pages: self.before.clone(), len: offset + len, ..Self::default() };
        before.copy(offset, offset + len)
    }

    /// Gives it this length, with zeros where it grows.
    pub fn set_len(&mut self, len: usize) {
        if len < self.len {
            self.unsynced.split_off(&(len.div_ceil(SECTOR), 0));
        }
        self.cut(len);
        self.bytes_durable = self.bytes_durable.min(len);
    }

    /// Completes a write. `keeps` says of each sector touched, counted from the first, whether its new
    /// contents arrive; a write that nothing interrupts keeps all.
    pub fn write(&mut self, offset: usize, data: &[Bytes], mut keeps: impl FnMut(usize) -> bool) {
        self.writes += 1;
        let total: usize = data.iter().map(Bytes::len).sum();
        // Writing nothing makes no file longer.
        if total > 0 && self.len < offset + total {
            self.set_len(offset + total);
        }
        let first = offset / SECTOR;
        let mut kept = None;
        let mut at = offset;
        for piece in data {
            let mut piece = piece.as_ref();
            while !piece.is_empty() {
                let sector = at / SECTOR;
                let take = piece.len().min((sector + 1) * SECTOR - at);
                // Two pieces may share a sector: it is drawn, and remembered, once.
                if kept.is_none_or(|(last, _)| last != sector) {
                    kept = Some((sector, keeps(sector - first)));
                    if kept == Some((sector, true)) {
                        self.remember(sector);
                    }
                }
                if kept == Some((sector, true)) {
                    self.page(at)[at % PAGE..at % PAGE + take].copy_from_slice(&piece[..take]);
                }
                at += take;
                piece = &piece[take..];
            }
        }
    }

    /// The page of this byte, made if there is none.
    fn page(&mut self, at: usize) -> &mut Page {
        let page = at / PAGE;
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        self.pages[page].get_or_insert_with(|| Box::new([0; PAGE]))
    }

    /// Gives it this length; what comes behind it is gone.
    fn cut(&mut self, len: usize) {
        self.len = len;
        self.pages.truncate(len.div_ceil(PAGE));
        if !len.is_multiple_of(PAGE)
            && let Some(Some(page)) = self.pages.get_mut(len / PAGE)
        {
            page[len % PAGE..].fill(0);
        }
    }

    /// Keeps what a power loss may bring back of a sector that is about to be overwritten.
    fn remember(&mut self, sector: usize) {
        let now = self.sector(sector);
        self.unsynced.insert((sector, self.writes), now);
    }

    /// What a read sees of a sector.
    fn sector(&self, sector: usize) -> Contents {
        let at = sector * SECTOR;
        let page = self.pages.get(at / PAGE)?.as_ref()?;
        let (sectors, _) = page.as_chunks::<SECTOR>();
        let live = &sectors[at % PAGE / SECTOR];
        (*live != [0; SECTOR]).then(|| Box::new(*live))
    }

    /// Brings old contents of a sector back.
    fn restore(&mut self, sector: usize, old: Option<&[u8; SECTOR]>) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.len);
        if start >= end || old.is_none() && self.sector(sector).is_none() {
            return;
        }
        let place = &mut self.page(start)[start % PAGE..start % PAGE + end - start];
        place.copy_from_slice(&old.unwrap_or(&[0; SECTOR])[..end - start]);
    }

    /// A sync that was issued after write `covers` has completed, on a file that had `len` bytes then.
    pub fn synced(&mut self, covers: u64, len: usize) {
        self.bytes_durable = self.bytes_durable.max(len.min(self.len));
        // What the sync covered is the new durable state; nothing that it replaced can come back.
        self.unsynced.retain(|(_, replaced_by), _| *replaced_by > covers);
    }

    /// Power is lost: each unsynced sector becomes anything that it may be.
    pub fn lose_power(&mut self, draw: &mut Draw) {
        let how = draw.below(3);
        if self.len > self.bytes_durable && how != 0 && draw.chance(1, 2) {
            self.cut(self.bytes_durable);
        }
        for (sector, older) in self.take_unsynced() {
            // All kept, all lost, or any subset.
            let pick = match how {
                0 => older.len(),
                1 => 0,
                _ => draw.below(older.len() as u64 + 1) as usize,
            };
            if let Some(old) = older.get(pick) {
                self.restore(sector, old.as_deref());
            }
        }
        self.bytes_durable = self.len;
    }

    /// A sync has failed: the kernel drops what it could not write, and believes the file clean.
    pub fn drop_dirty(&mut self, draw: &mut Draw) {
        for (sector, older) in self.take_unsynced() {
            if let Some(durable) = older.first().filter(|_| draw.chance(1, 2)) {
                self.restore(sector, durable.as_deref());
            }
        }
        self.bytes_durable = self.len;
    }

    /// Every unsynced sector with what may come back of it, oldest first.
    fn take_unsynced(&mut self) -> BTreeMap<usize, Vec<Contents>> {
        let mut sectors = BTreeMap::<usize, Vec<Contents>>::new();
        for ((sector, _), old) in core::mem::take(&mut self.unsynced) {
            sectors.entry(sector).or_default().push(old);
        }
        sectors
    }

    /// The durable contents of the unsynced sectors of this range.
    fn unsynced(&self, sectors: Range<usize>) -> impl Iterator<Item = (usize, &Contents)> {
        let mut last = None;
        let all = self.unsynced.range((sectors.start, 0)..(sectors.end, 0));
        all.filter(move |((sector, _), _)| last.replace(*sector) != Some(*sector))
            .map(|((sector, _), oldest)| (*sector, oldest))
    }

    /// What a read sees; shorter at the end.
    #[must_use]
    pub fn read(&self, offset: usize, len: usize) -> Bytes {
        let start = offset.min(self.len);
        let end = start.saturating_add(len).min(self.len);
        let pages = start / PAGE..end.div_ceil(PAGE).min(self.pages.len());
        let untouched = self.pages.get(pages).is_none_or(|of| of.iter().all(Option::is_none));
        if untouched && end - start <= ZEROS.len() {
            return Bytes::from_static(&ZEROS[..end - start]);
        }
        self.copy(start, end).into()
    }

    /// The bytes from here to there, within the length.
    fn copy(&self, start: usize, end: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(end - start);
        while start + bytes.len() < end {
            let at = start + bytes.len();
            let take = (PAGE - at % PAGE).min(end - at);
            match self.pages.get(at / PAGE) {
                Some(Some(page)) => bytes.extend_from_slice(&page[at % PAGE..at % PAGE + take]),
                _ => bytes.resize(bytes.len() + take, 0),
            }
        }
        bytes
    }

    /// What a power loss at this moment keeps for certain of a range.
    #[must_use]
    pub fn read_durable(&self, offset: usize, len: usize) -> Vec<u8> {
        let start = offset.min(self.bytes_durable);
        let end = start.saturating_add(len).min(self.bytes_durable);
        let mut bytes = self.copy(start, end);
        let sectors = start / SECTOR..end.div_ceil(SECTOR);
        for (sector, durable) in self.unsynced(sectors) {
            let durable = durable.as_deref();
            for at in (sector * SECTOR).max(start)..((sector + 1) * SECTOR).min(end) {
                bytes[at - start] = durable.map_or(0, |sector| sector[at % SECTOR]);
            }
        }
        bytes
    }

    /// Whether all of a range is durable as it reads.
    #[must_use]
    pub fn is_at_rest(&self, offset: usize, len: usize) -> bool {
        let end = offset.saturating_add(len);
        let sectors = offset / SECTOR..end.div_ceil(SECTOR);
        end <= self.bytes_durable && self.unsynced(sectors).next().is_none()
    }

    /// Changes bytes at rest, as only a disk that errs does.
    pub fn put_at_rest(&mut self, offset: usize, bytes: &[u8]) {
        assert!(self.is_at_rest(offset, bytes.len()), "a rewrite is under way at {offset}");
        for (at, byte) in (offset..).zip(bytes) {
            self.page(at)[at % PAGE] = *byte;
        }
    }

    /// Where a page of it begins that was ever written, and how many bytes of it the file has.
    pub fn written(&self) -> impl Iterator<Item = (usize, usize)> {
        let pages = self.pages.iter().enumerate().filter(|(_, page)| page.is_some());
        pages.map(|(page, _)| (page * PAGE, PAGE.min(self.len - page * PAGE)))
    }

    /// Makes one byte at rest another one. `None` when the sector is not at rest: a rewrite of it is under way; otherwise what
    /// it was.
    pub fn change(&mut self, offset: usize, mask: u8) -> Option<u8> {
        assert!(mask != 0, "that changes nothing");
        if !self.is_at_rest(offset, 1) {
            return None;
        }
        let byte = &mut self.page(offset)[offset % PAGE];
        let before = *byte;
        *byte ^= mask;
        Some(before)
    }

    /// Flips one bit at rest. `false` when the sector is not at rest: a rewrite of it is under way.
    pub fn flip(&mut self, offset: usize, bit: u32) -> bool {
        if !self.is_at_rest(offset, 1) {
            return false;
        }
        self.page(offset)[offset % PAGE] ^= 1 << (bit % 8);
        true
    }
}

#[cfg(test)]
mod tests {
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
    fn growth_that_was_not_synced_may_be_cut_off_but_synced_length_stays() {
        let mut file = File::default();
        file.set_len(SECTOR);
        file.synced(file.writes(), file.len());
        write(&mut file, SECTOR, 3, 10);
        let lengths: std::collections::BTreeSet<usize> =
            outcomes(&file).iter().map(Vec::len).collect();
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
}
