//! One file: what a read sees, and what a power loss may make of it.

use super::kept::Kept;
use super::page::{PAGE, Page};
use crate::draw::Draw;
use bytes::Bytes;
use core::ops::Range;
use std::collections::BTreeMap;

/// What a disk writes whole or not at all.
pub const SECTOR: usize = 512;

/// What a read of the untouched finds.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

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
    /// The sector, the write that replaced them, and the contents; in the order of the writes. Nearly all of them go with
    /// the next sync, so it is a list and no map.
    unsynced: Vec<(usize, u64, Contents)>,
    /// What it held when it was given to another use.
    before: Vec<Option<Page>>,
    /// Ranges of it that somebody has in his hand as well.
    kept: Kept,
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
            self.unsynced.retain(|(sector, ..)| *sector < len.div_ceil(SECTOR));
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
        self.kept.forget(offset, offset + total);
        let first = offset / SECTOR;
        let mut kept = None;
        let mut all = true;
        let mut at = offset;
        for whole in data {
            let mut piece = whole.as_ref();
            while !piece.is_empty() {
                if at.is_multiple_of(PAGE) && piece.len() >= PAGE {
                    let start = whole.len() - piece.len();
                    let bytes = whole.slice(start..start + PAGE);
                    all &= self.write_page(at, bytes, |sector| keeps(sector - first));
                    at += PAGE;
                    piece = &piece[PAGE..];
                    continue;
                }
                let sector = at / SECTOR;
                let take = piece.len().min((sector + 1) * SECTOR - at);
                // Two pieces may share a sector: it is drawn, and remembered, once.
                if kept.is_none_or(|(last, _)| last != sector) {
                    kept = Some((sector, keeps(sector - first)));
                    match kept {
                        Some((_, true)) => self.remember(sector),
                        _ => all = false,
                    }
                }
                if kept == Some((sector, true)) {
                    self.page(at)[at % PAGE..at % PAGE + take].copy_from_slice(&piece[..take]);
                }
                at += take;
                piece = &piece[take..];
            }
        }
        let mut at = offset;
        for piece in data.iter().filter(|_| all) {
            self.kept.keep(at, piece, self.len);
            at += piece.len();
        }
    }

    /// Where the page of this byte stands.
    fn place(&mut self, at: usize) -> &mut Option<Page> {
        let page = at / PAGE;
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        &mut self.pages[page]
    }

    /// The page of this byte, made if there is none.
    fn page(&mut self, at: usize) -> &mut [u8; PAGE] {
        self.place(at).get_or_insert_with(|| Page::Own(Box::new([0; PAGE]))).bytes_mut()
    }

    /// Writes a whole page, and shares what is written if all of it arrives: then it says so.
    fn write_page(
        &mut self,
        at: usize,
        bytes: Bytes,
        mut keeps: impl FnMut(usize) -> bool,
    ) -> bool {
        let sectors = at / SECTOR..(at + PAGE) / SECTOR;
        let kept: Vec<usize> = sectors.clone().filter(|sector| keeps(*sector)).collect();
        kept.iter().for_each(|sector| self.remember(*sector));
        if kept.len() == sectors.len() {
            *self.place(at) = Some(Page::Shared(bytes));
            return true;
        }
        for sector in kept {
            let range = sector * SECTOR - at..(sector + 1) * SECTOR - at;
            self.page(at)[range.clone()].copy_from_slice(&bytes[range]);
        }
        false
    }

    /// Gives it this length; what comes behind it is gone.
    fn cut(&mut self, len: usize) {
        self.kept.forget(len, usize::MAX);
        self.len = len;
        self.pages.truncate(len.div_ceil(PAGE));
        if !len.is_multiple_of(PAGE)
            && let Some(Some(page)) = self.pages.get_mut(len / PAGE)
        {
            page.bytes_mut()[len % PAGE..].fill(0);
        }
    }

    /// Keeps what a power loss may bring back of a sector that is about to be overwritten.
    fn remember(&mut self, sector: usize) {
        let now = self.sector(sector);
        self.unsynced.push((sector, self.writes, now));
    }

    /// What a read sees of a sector.
    fn sector(&self, sector: usize) -> Contents {
        let at = sector * SECTOR;
        let page = self.pages.get(at / PAGE)?.as_ref()?;
        let (sectors, _) = page.bytes().as_chunks::<SECTOR>();
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
        self.kept.forget(start, end);
        let place = &mut self.page(start)[start % PAGE..start % PAGE + end - start];
        place.copy_from_slice(&old.unwrap_or(&[0; SECTOR])[..end - start]);
    }

    /// A sync that was issued after write `covers` has completed, on a file that had `len` bytes then.
    pub fn synced(&mut self, covers: u64, len: usize) {
        self.bytes_durable = self.bytes_durable.max(len.min(self.len));
        // What the sync covered is the new durable state; nothing that it replaced can come back.
        let covered = self.unsynced.partition_point(|(_, replaced_by, _)| *replaced_by <= covers);
        self.unsynced.drain(..covered);
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
        for (sector, _, old) in core::mem::take(&mut self.unsynced) {
            sectors.entry(sector).or_default().push(old);
        }
        sectors
    }

    /// What was in the unsynced sectors of this range before; of each the durable contents come last.
    fn unsynced(&self, sectors: Range<usize>) -> impl Iterator<Item = (usize, &Contents)> {
        // The latest first, so that the oldest, which is the durable one, is the last word.
        let all = self.unsynced.iter().rev().filter(move |(sector, ..)| sectors.contains(sector));
        all.map(|(sector, _, older)| (*sector, older))
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
        self.kept.get(start, end).unwrap_or_else(|| self.copy(start, end).into())
    }

    /// The same for somebody who is likely to come again.
    pub fn read_again(&mut self, offset: usize, len: usize) -> Bytes {
        let bytes = self.read(offset, len);
        self.kept.keep(offset, &bytes, self.len);
        bytes
    }

    /// The bytes from here to there, within the length.
    fn copy(&self, start: usize, end: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(end - start);
        while start + bytes.len() < end {
            let at = start + bytes.len();
            let take = (PAGE - at % PAGE).min(end - at);
            match self.pages.get(at / PAGE) {
                Some(Some(page)) => {
                    bytes.extend_from_slice(&page.bytes()[at % PAGE..at % PAGE + take])
                }
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
            let (from, to) = ((sector * SECTOR).max(start), ((sector + 1) * SECTOR).min(end));
            let durable = durable.as_deref().unwrap_or(&[0; SECTOR]);
            let durable = &durable[from - sector * SECTOR..to - sector * SECTOR];
            bytes[from - start..to - start].copy_from_slice(durable);
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
        self.kept.forget(offset, offset + bytes.len());
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
        self.kept.forget(offset, offset + 1);
        let byte = &mut self.page(offset)[offset % PAGE];
        let before = *byte;
        *byte ^= mask;
        Some(before)
    }

    /// Flips one bit at rest. `false` when the sector is not at rest: a rewrite of it is under way.
    pub fn flip(&mut self, offset: usize, bit: u32) -> bool {
        self.change(offset, 1 << (bit % 8)).is_some()
    }
}

#[cfg(test)]
mod tests;
