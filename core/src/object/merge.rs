//! One page of a listing out of the pages of many shards.
//!
//! Every shard of a bucket answers its own keys in order, and stops after as many entries as it was asked for.
//! Past the last entry of a page that was cut, nothing is known of that shard: so of all entries only those up
//! to the **lowest** such last entry are certain to have nothing missing between them. A merge says which
//! shards to ask, from where and for how many entries, until one page more than one entry long
//! is certain (the one more tells whether the page is truncated) or all shards are read to their ends.
//!
//! Shards share a listing about evenly, so each is first asked for its share and some more; asking
//! each for a whole page would read 256 pages for one.
//!
//! - A common prefix comes once, however many shards have keys below it.
//! - Shards have different keys, so entries of two shards never collide but as the same common prefix.
//! - Every request of a shard begins after the last entry that it gave, so a merge ends.

use super::api::{ListFrom, ListObjects, ListedObject, ListedUpload, Listing, PAGE_MAX};
use crate::types::{BlobId, BucketId, ShardId};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};

/// A page of uploads in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadsPage {
    /// By key, then upload.
    pub uploads: Vec<ListedUpload>,
    /// The common prefixes.
    pub common_prefixes: Vec<String>,
    /// Whether the page was cut off.
    pub truncated: bool,
}

/// Which uploads in progress to list: [`super::api::Request::ListUploads`] without the bucket's name.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ListUploads {
    /// The bucket.
    pub bucket: BucketId,
    /// Only keys that begin with this.
    pub prefix: String,
    /// As in [`ListObjects`].
    pub delimiter: Option<String>,
    /// Only uploads after this key, or after this upload of the key.
    pub after: Option<(String, Option<BlobId>)>,
    /// How many at the most.
    pub limit: u32,
}

/// Merges a page of objects.
#[derive(Clone, Debug)]
pub struct ObjectMerge {
    request: ListObjects,
    merge: Merge<ListedObject>,
}

impl ObjectMerge {
    /// A page of this request over these shards.
    #[must_use]
    pub fn new(request: ListObjects, shards: impl IntoIterator<Item = ShardId>) -> Self {
        let merge = Merge::new(request.limit, shards);
        Self { request, merge }
    }

    /// What to ask which shards now. Each is answered with [`Self::on_page`]; empty while answers
    /// are outstanding that decide what comes next, and when the page is ready.
    pub fn asks(&mut self) -> Vec<(ShardId, ListObjects)> {
        let ask = |(shard, after, limit): (ShardId, Option<Cut>, u32)| {
            let from = after.map_or_else(|| self.request.from.clone(), Cut::into_list_from);
            (shard, ListObjects { from, limit, ..self.request.clone() })
        };
        self.merge.asks().into_iter().map(ask).collect()
    }

    /// A shard's answer.
    pub fn on_page(&mut self, shard: ShardId, page: Listing) {
        let truncated = page.next.is_some();
        let objects = page.objects.into_iter().map(|object| (Place::object(&object), Some(object)));
        let prefixes = page.common_prefixes.into_iter().map(|prefix| (Place::prefix(prefix), None));
        self.merge.on_page(shard, objects.chain(prefixes), truncated);
    }

    /// The page, once it is certain.
    #[must_use]
    pub fn page(&self) -> Option<Listing> {
        let (rows, next) = self.merge.page()?;
        let mut listing = Listing { next: next.map(Cut::into_list_from), ..Listing::default() };
        for (place, row) in rows {
            match row {
                Some(object) => listing.objects.push(object.clone()),
                None => listing.common_prefixes.push(place.name.clone()),
            }
        }
        Some(listing)
    }
}

/// Merges a page of uploads in progress.
#[derive(Clone, Debug)]
pub struct UploadMerge {
    request: ListUploads,
    merge: Merge<ListedUpload>,
}

impl UploadMerge {
    /// A page of this request over these shards.
    #[must_use]
    pub fn new(request: ListUploads, shards: impl IntoIterator<Item = ShardId>) -> Self {
        let merge = Merge::new(request.limit, shards);
        Self { request, merge }
    }

    /// As [`ObjectMerge::asks`].
    pub fn asks(&mut self) -> Vec<(ShardId, ListUploads)> {
        let ask = |(shard, after, limit): (ShardId, Option<Cut>, u32)| {
            let after = after.map(|cut| (cut.place.name, cut.place.upload));
            let after = after.or_else(|| self.request.after.clone());
            (shard, ListUploads { after, limit, ..self.request.clone() })
        };
        self.merge.asks().into_iter().map(ask).collect()
    }

    /// A shard's answer.
    pub fn on_page(&mut self, shard: ShardId, page: UploadsPage) {
        let uploads = page.uploads.into_iter().map(|upload| (Place::upload(&upload), Some(upload)));
        let prefixes = page.common_prefixes.into_iter().map(|prefix| (Place::prefix(prefix), None));
        self.merge.on_page(shard, uploads.chain(prefixes), page.truncated);
    }

    /// The page, once it is certain.
    #[must_use]
    pub fn page(&self) -> Option<UploadsPage> {
        let (rows, next) = self.merge.page()?;
        let mut page = UploadsPage { truncated: next.is_some(), ..UploadsPage::default() };
        for (place, row) in rows {
            match row {
                Some(upload) => page.uploads.push(upload.clone()),
                None => page.common_prefixes.push(place.name.clone()),
            }
        }
        Some(page)
    }
}

/// Where an entry stands in a listing. A common prefix stands where it would as a key: nothing that a
/// listing shows is between it and the keys that it stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    name: String,
    upload: Option<BlobId>,
}

impl Place {
    fn object(object: &ListedObject) -> Self {
        Self { name: object.key.clone(), upload: None }
    }

    fn upload(upload: &ListedUpload) -> Self {
        Self { name: upload.key.clone(), upload: Some(upload.upload) }
    }

    const fn prefix(name: String) -> Self {
        Self { name, upload: None }
    }
}

/// The last entry of a page that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cut {
    place: Place,
    is_prefix: bool,
}

impl Cut {
    fn into_list_from(self) -> ListFrom {
        if self.is_prefix {
            ListFrom::AfterPrefix(self.place.name)
        } else {
            ListFrom::After(self.place.name)
        }
    }
}

/// What is known of a shard.
#[derive(Clone, Debug)]
enum Progress {
    /// Nothing yet.
    Unasked,
    /// An answer is under way.
    Asked,
    /// Everything up to here.
    Cut(Cut),
    /// Everything.
    Whole,
}

#[derive(Clone, Debug)]
struct Merge<T> {
    limit: usize,
    shards: BTreeMap<ShardId, Progress>,
    /// Everything that shards gave; `None` for a common prefix.
    rows: BTreeMap<Place, Option<T>>,
}

impl<T> Merge<T> {
    fn new(limit: u32, shards: impl IntoIterator<Item = ShardId>) -> Self {
        let shards = shards.into_iter().map(|shard| (shard, Progress::Unasked)).collect();
        Self { limit: limit.min(PAGE_MAX) as usize, shards, rows: BTreeMap::new() }
    }

    fn asks(&mut self) -> Vec<(ShardId, Option<Cut>, u32)> {
        if self.limit == 0 || self.waits() || self.is_certain() {
            return Vec::new();
        }
        // A shard that is known past the end of the page can't add to it.
        let end = self.rows.keys().nth(self.limit).cloned();
        let wanted: Vec<ShardId> = self
            .shards
            .iter()
            .filter_map(|(shard, progress)| {
                let behind = match progress {
                    Progress::Unasked => true,
                    Progress::Cut(cut) => end.as_ref().is_none_or(|end| cut.place < *end),
                    Progress::Asked | Progress::Whole => false,
                };
                behind.then_some(*shard)
            })
            .collect();
        let missing = (self.limit + 1).saturating_sub(self.certain());
        let share = missing.div_ceil(wanted.len().max(1));
        // Half more than its share, and a few for small numbers: most pages then need one round.
        let ask = u32::try_from(share + share / 2 + 8).unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let mut asks = Vec::with_capacity(wanted.len());
        for shard in wanted {
            let progress = self.shards.insert(shard, Progress::Asked);
            let after = if let Some(Progress::Cut(cut)) = progress { Some(cut) } else { None };
            asks.push((shard, after, ask));
        }
        asks
    }

    fn on_page(
        &mut self,
        shard: ShardId,
        rows: impl Iterator<Item = (Place, Option<T>)>,
        truncated: bool,
    ) {
        let Some(progress @ Progress::Asked) = self.shards.get_mut(&shard) else { return };
        let mut last: Option<Cut> = None;
        for (place, row) in rows {
            if last.as_ref().is_none_or(|last| last.place < place) {
                last = Some(Cut { place: place.clone(), is_prefix: row.is_none() });
            }
            self.rows.insert(place, row);
        }
        *progress = match last {
            Some(cut) if truncated => Progress::Cut(cut),
            // A page that was cut has an entry; one without has nothing after it either.
            _ => Progress::Whole,
        };
    }

    fn waits(&self) -> bool {
        self.shards.values().any(|progress| matches!(progress, Progress::Asked))
    }

    /// The rows up to the lowest cut. None before every shard has answered once.
    fn certain(&self) -> usize {
        let mut lowest: Option<&Place> = None;
        for progress in self.shards.values() {
            match progress {
                Progress::Unasked | Progress::Asked => return 0,
                Progress::Cut(cut) if lowest.is_none_or(|lowest| cut.place < *lowest) => {
                    lowest = Some(&cut.place);
                }
                Progress::Cut(_) | Progress::Whole => {}
            }
        }
        match lowest {
            Some(lowest) => self.rows.range(..=lowest).count(),
            None => self.rows.len(),
        }
    }

    fn is_certain(&self) -> bool {
        self.shards.values().all(|progress| matches!(progress, Progress::Whole))
            || self.certain() > self.limit
    }

    /// The rows of the page and, if there is more, its last one.
    fn page(&self) -> Option<(impl Iterator<Item = (&Place, Option<&T>)>, Option<Cut>)> {
        if self.limit > 0 && !self.is_certain() {
            return None;
        }
        let truncated = self.limit > 0 && self.rows.len() > self.limit;
        let last = self.rows.iter().take(self.limit).last().filter(|_| truncated);
        let next = last.map(|(place, row)| Cut { place: place.clone(), is_prefix: row.is_none() });
        let rows = self.rows.iter().take(self.limit).map(|(place, row)| (place, row.as_ref()));
        Some((rows, next))
    }
}

#[cfg(test)]
mod tests;
