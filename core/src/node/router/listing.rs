//! Listings over all shards of a bucket. Every shard's leader confirms its leadership and gives its
//! page in order; `object::merge` says which shard to ask for how much more, and when the page is
//! certain.

use super::calls::{Calls, Ended, Sends, TaskId, expired};
use super::plan;
use crate::machine::Instant;
use crate::node::message::Query;
use crate::object::api::{Answer, Outcome, Request};
use crate::object::merge::{ListUploads, ObjectMerge, UploadMerge, UploadsPage};
use crate::types::{BucketId, Epoch, ShardId};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// A listing under way.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    bucket: (BucketId, Epoch),
    merge: Merge,
    /// Calls under way, by their number.
    calls: BTreeMap<u64, ShardId>,
}

#[derive(Clone, Debug)]
enum Merge {
    Objects(ObjectMerge),
    /// With the bucket's name, which the shards' requests carry.
    Uploads(UploadMerge, String),
}

/// What came of a step of a listing.
pub(super) enum Step {
    /// More answers are needed.
    Going,
    /// The page is certain.
    Done(Outcome),
    /// A shard knows the bucket in another epoch: look it up again and begin anew.
    Stale,
}

/// Where and until when a listing asks.
pub(super) struct Asking<'a> {
    pub(super) now: Instant,
    pub(super) deadline: Instant,
    pub(super) owner: TaskId,
    pub(super) calls: &'a mut Calls,
    pub(super) sends: &'a mut Sends,
}

impl Listing {
    /// A listing over all shards; `None` for a request that lists nothing.
    pub(super) fn new(request: &Request, bucket: (BucketId, Epoch), shards: u16) -> Option<Self> {
        let shards = (0..shards).map(ShardId);
        let merge = match request {
            Request::ListObjects(list) => Merge::Objects(ObjectMerge::new(list.clone(), shards)),
            Request::ListUploads { bucket: name, prefix, delimiter, after, limit } => {
                let list = ListUploads {
                    bucket: bucket.0,
                    prefix: prefix.clone(),
                    delimiter: delimiter.clone(),
                    after: after.clone(),
                    limit: *limit,
                };
                Merge::Uploads(UploadMerge::new(list, shards), name.clone())
            }
            _ => return None,
        };
        Some(Self { bucket, merge, calls: BTreeMap::new() })
    }

    /// Asks the shards that the merge wants to hear from.
    pub(super) fn ask(&mut self, asking: &mut Asking<'_>) -> Step {
        if let Some(answer) = self.page() {
            return Step::Done(Ok(answer));
        }
        for (shard, request) in self.asks() {
            let query = Query::Client { bucket: Some(self.bucket), request: Box::new(request) };
            let Asking { now, deadline, owner, calls, sends } = asking;
            let number = calls.read(*now, *owner, shard.group(), query, *deadline, sends);
            self.calls.insert(number, shard);
        }
        Step::Going
    }

    /// A shard's answer.
    pub(super) fn on_call(&mut self, number: u64, ended: Ended, asking: &mut Asking<'_>) -> Step {
        let Some(shard) = self.calls.remove(&number) else { return Step::Going };
        match (ended, &mut self.merge) {
            (Ended::Outcome(Ok(Answer::Listing(page))), Merge::Objects(merge)) => {
                merge.on_page(shard, page);
            }
            (
                Ended::Outcome(Ok(Answer::Uploads { uploads, common_prefixes, truncated })),
                Merge::Uploads(merge, _),
            ) => merge.on_page(shard, UploadsPage { uploads, common_prefixes, truncated }),
            (Ended::Outcome(Err(refusal)), _) if plan::is_stale(&refusal) => return Step::Stale,
            (Ended::Outcome(Err(refusal)), _) => return Step::Done(Err(refusal)),
            (Ended::Outcome(Ok(_)) | Ended::Resolved(_) | Ended::Expired { .. }, _) => {
                return Step::Done(Err(expired(false)));
            }
        }
        self.ask(asking)
    }

    fn asks(&mut self) -> Vec<(ShardId, Request)> {
        match &mut self.merge {
            Merge::Objects(merge) => {
                let asks = merge.asks().into_iter();
                asks.map(|(shard, list)| (shard, Request::ListObjects(list))).collect()
            }
            Merge::Uploads(merge, name) => {
                let request = |list: ListUploads| Request::ListUploads {
                    bucket: name.clone(),
                    prefix: list.prefix,
                    delimiter: list.delimiter,
                    after: list.after,
                    limit: list.limit,
                };
                merge.asks().into_iter().map(|(shard, list)| (shard, request(list))).collect()
            }
        }
    }

    fn page(&self) -> Option<Answer> {
        match &self.merge {
            Merge::Objects(merge) => merge.page().map(Answer::Listing),
            Merge::Uploads(merge, _) => {
                let UploadsPage { uploads, common_prefixes, truncated } = merge.page()?;
                Some(Answer::Uploads { uploads, common_prefixes, truncated })
            }
        }
    }
}
