//! What happened, as an output: metrics, logs, histories and checkers are views of these events.

use crate::types::{GroupId, Position, RequestId};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// A write is about to be acknowledged; its command is at this log position.
    Acknowledged {
        /// The client's request.
        request: RequestId,
        /// The group that committed it.
        group: GroupId,
        /// Where in its log.
        position: Position,
    },
}
