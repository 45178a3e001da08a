//! What clients asked and what they were answered: the input of the checkers.
//!
//! An entry is one request as the store saw it, in world time. A call whose answer never came, or came
//! as "outcome unknown", stays open: it may have happened at any time after it was made, or never.
//! Bulk requests are left out: what they carry is checked where it is read ([`crate::workload`]).

use ironseed_core::object::api::{Outcome, Refusal, Request};
use ironseed_core::types::NodeId;

/// One request of one client.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who asked.
    pub client: u32,
    /// Which node was asked.
    pub node: NodeId,
    /// When: world nanoseconds.
    pub called: u64,
    /// When the answer came, if it did and says what happened.
    pub returned: Option<u64>,
    /// What was asked.
    pub request: Request,
    /// What was answered, unless the outcome is unknown.
    pub outcome: Option<Outcome>,
}

/// All entries in the order of their calls.
#[derive(Clone, Debug, Default)]
pub struct History {
    entries: Vec<Entry>,
}

/// A call in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(usize);

impl History {
    /// A request goes out. `None` for requests that no checker looks at.
    pub fn call(
        &mut self,
        now: u64,
        client: u32,
        node: NodeId,
        request: &Request,
    ) -> Option<CallId> {
        let bulk = matches!(
            request,
            Request::WriteChunk { .. } | Request::ReadChunk { .. } | Request::ReadExtents { .. }
        );
        if bulk {
            return None;
        }
        let request = request.clone();
        self.entries.push(Entry {
            client,
            node,
            called: now,
            returned: None,
            request,
            outcome: None,
        });
        Some(CallId(self.entries.len() - 1))
    }

    /// The answer has come. An unknown outcome leaves the call open.
    pub fn returned(&mut self, call: CallId, now: u64, outcome: &Outcome) {
        if matches!(outcome, Err(Refusal::OutcomeUnknown)) {
            return;
        }
        let entry = &mut self.entries[call.0];
        assert!(entry.returned.is_none(), "answered twice: {entry:?}");
        entry.returned = Some(now);
        entry.outcome = Some(outcome.clone());
    }

    /// All entries in the order of their calls.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
