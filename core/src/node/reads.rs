//! Reads on a replica's state: from a query to its answer, with the bodies that are only on disk fetched
//! in between.

use super::message::{Query, Reply};
use crate::kv::api::{KvAnswer, KvRequest};
use crate::kv::query as kv;
use crate::kv::state::State;
use crate::kv::table::RecordLocation;
use crate::object::api::{Answer, Outcome, Refusal, Request};
use crate::object::merge::ListUploads;
use crate::object::query::{self as object, Reading};
use crate::object::registry;
use crate::types::{BlobId, ShardId};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;
use bytes::Bytes;

/// An answer whose bodies are being fetched.
#[derive(Clone, Debug)]
pub(super) struct Found {
    plan: Plan,
    wants: VecDeque<RecordLocation>,
    got: Vec<Bytes>,
}

#[derive(Clone, Debug)]
enum Plan {
    Ready(Reply),
    Object(Reading),
    Value(kv::Found),
    Entries(kv::Page),
}

impl Found {
    fn ready(reply: Reply) -> Self {
        Self { plan: Plan::Ready(reply), wants: VecDeque::new(), got: Vec::new() }
    }

    fn decided(outcome: Outcome) -> Self {
        Self::ready(Reply::Outcome(Box::new(outcome)))
    }

    fn new(plan: Plan, wants: impl IntoIterator<Item = RecordLocation>) -> Self {
        Self { plan, wants: wants.into_iter().collect(), got: Vec::new() }
    }

    /// The next body to fetch.
    pub(super) fn wants(&self) -> Option<RecordLocation> {
        self.wants.front().copied()
    }

    /// All bodies that are still to be fetched.
    pub(super) fn all_wanted(&self) -> impl Iterator<Item = RecordLocation> {
        self.wants.iter().copied()
    }

    /// The body asked for, which matches its checksum.
    pub(super) fn give(&mut self, bytes: Bytes) {
        self.wants.pop_front();
        self.got.push(bytes);
    }

    /// The blob that the answer lets its reader read.
    pub(super) const fn pins(&self) -> Option<BlobId> {
        match &self.plan {
            Plan::Object(reading) => reading.pins(),
            _ => None,
        }
    }

    /// The answer, once nothing is wanted any more.
    pub(super) fn finish(self) -> Reply {
        let mut got = self.got.into_iter();
        let outcome: Outcome = match self.plan {
            Plan::Ready(reply) => return reply,
            // What was fetched matched its checksum: a record that still makes no sense is damage that
            // nothing below could see.
            Plan::Object(reading) => {
                reading.finish(got).map_err(|error| Refusal::Unavailable(error.to_string()))
            }
            Plan::Value(found) => Ok(Answer::Kv(KvAnswer::Value(found.finish(got.next())))),
            Plan::Entries(page) => {
                let entries = page.entries.into_iter().filter_map(|found| {
                    let read = if found.value.is_err() { got.next() } else { None };
                    found.finish(read)
                });
                let (entries, truncated) = (entries.collect(), page.truncated);
                Ok(Answer::Kv(KvAnswer::Entries { entries, truncated }))
            }
        };
        Reply::Outcome(Box::new(outcome))
    }
}

/// Evaluates a query on a state that is current enough.
pub(super) fn evaluate(state: &State, query: &Query) -> Found {
    let table = state.table();
    let (bucket, request) = match query {
        Query::Resolve { bucket } => {
            return Found::ready(Reply::Resolved(registry::find(table, bucket)));
        }
        Query::Settled(at) => {
            return Found::decided(registry::settled(table, at, state.seat().planted));
        }
        Query::Client { bucket, request } => (bucket, &**request),
    };
    match request {
        Request::HeadBucket { bucket } => Found::decided(registry::head(table, bucket)),
        Request::ListBuckets { prefix, after, limit } => {
            let answer = registry::list(table, prefix, after.as_deref(), *limit);
            Found::decided(Ok(answer))
        }
        Request::Kv(KvRequest::Get { key }) => match kv::get(table, key) {
            None => Found::decided(Ok(Answer::Kv(KvAnswer::Value(None)))),
            Some(found) => {
                let wants = found.value.as_ref().err().copied();
                Found::new(Plan::Value(found), wants)
            }
        },
        Request::Kv(KvRequest::Scan { from, limit, .. }) => {
            let page = kv::scan(table, from, *limit);
            let wants: Vec<RecordLocation> = page
                .entries
                .iter()
                .filter_map(|found| found.value.as_ref().err().copied())
                .collect();
            Found::new(Plan::Entries(page), wants)
        }
        request => {
            let Some(home) = state.seat().shard() else { return refuse(request) };
            let bucket = bucket.map(|(bucket, _)| bucket);
            match object_query(request, bucket) {
                Some(query) => evaluate_object(state, home, &query),
                None => refuse(request),
            }
        }
    }
}

fn evaluate_object(state: &State, home: ShardId, query: &object::Query) -> Found {
    match object::read(state.table(), home, query) {
        Ok(reading) => {
            let wants: Vec<RecordLocation> = reading.wants().collect();
            Found::new(Plan::Object(reading), wants)
        }
        Err(refusal) => Found::decided(Err(refusal)),
    }
}

fn object_query(
    request: &Request,
    bucket: Option<crate::types::BucketId>,
) -> Option<object::Query> {
    match request {
        Request::ListObjects(list) => {
            Some(object::Query::Objects { bucket: bucket?, list: list.clone() })
        }
        Request::ListUploads { prefix, delimiter, after, limit, .. } => {
            Some(object::Query::Uploads(ListUploads {
                bucket: bucket?,
                prefix: prefix.clone(),
                delimiter: delimiter.clone(),
                after: after.clone(),
                limit: *limit,
            }))
        }
        request => object::Query::of(request, bucket),
    }
}

/// A request that is no read of this group: a router's mistake, refused rather than trusted.
fn refuse(request: &Request) -> Found {
    let why = alloc::format!("no read of this group: {request:?}").chars().take(100).collect();
    Found::decided(Err(Refusal::Invalid(why)))
}
