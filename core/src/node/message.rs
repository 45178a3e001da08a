//! What nodes say to each other.

use crate::codec::DecodeError;
use alloc::vec::Vec;
use bytes::Bytes;

/// A message between two nodes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {}

impl PeerMessage {
    /// Whether it carries bulk bytes and so travels beside the others.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        match *self {}
    }

    /// Head and bulk body of the message as they go on the wire.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, Bytes) {
        match *self {}
    }

    /// The message with this head and body.
    ///
    /// # Errors
    /// Bytes that are no message.
    pub fn decode(_head: &[u8], _body: Bytes) -> Result<Self, DecodeError> {
        Err(DecodeError::Malformed)
    }
}
