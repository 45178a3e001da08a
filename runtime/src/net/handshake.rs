//! How two members find out that they are members.
//!
//! ```text
//! dialler -> acceptor   Hello      who calls whom, for which channel; cluster if known; nonce
//! acceptor -> dialler   Challenge  cluster if known; nonce
//! dialler -> acceptor   Proof      keyed BLAKE3 of "dialler", Hello and Challenge
//! acceptor -> dialler   Welcome    keyed BLAKE3 of "acceptor", Hello and Challenge
//!                       or Refusal why not; only to a dialler that proved itself
//! ```
//!
//! The key is derived from the cluster's secret. Each proof covers everything that was said by both
//! sides and a nonce that the other side has just drawn, so it can't be replayed, reflected or moved to
//! another pair of nodes. The dialler proves itself first: a stranger who connects learns a random number
//! and, once, the cluster's id, but nothing to try guesses of the secret on.
//!
//! The cluster's id is compared when both sides know one: a store that was founded with another cluster
//! is not let in by a secret that was used twice. A new store knows none and learns it through messages.

use super::Channel;
use super::frame::{self, FrameError, Header, Kind};
use crate::config::Secret;
use bincode::{Decode, Encode};
use ironseed_core::codec;
use ironseed_core::types::{ClusterId, NodeId};
use std::collections::BTreeSet;
use std::fmt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

/// Separates this use of the secret from any other; changes with the handshake.
const KEY_CONTEXT: &str = "ironseed 2026-11 node port handshake v1";

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Hello {
    from: NodeId,
    to: NodeId,
    channel: Channel,
    cluster: Option<ClusterId>,
    nonce: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Challenge {
    cluster: Option<ClusterId>,
    nonce: [u8; 32],
}

/// Why a caller that knows the secret is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reason {
    /// It is not in the list of members, or says that it is the node it calls.
    NotAMember,
    /// It meant to call another node.
    WrongNode,
    /// It belongs to another cluster.
    OtherCluster,
}

/// Why a handshake failed.
#[derive(Debug)]
pub enum HandshakeError {
    /// The connection failed, or what came was no frame of the handshake.
    Frame(FrameError),
    /// The other side does not know the secret.
    WrongSecret,
    /// This side sent the other away.
    SentAway {
        /// Who it said it was.
        node: NodeId,
        /// Why.
        reason: Reason,
    },
    /// The other side sent this one away.
    Refused(Reason),
    /// The operating system has no randomness to give.
    NoRandomness,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => write!(f, "{error}"),
            Self::WrongSecret => f.write_str("the other side does not know the cluster's secret"),
            Self::SentAway { node, reason } => write!(f, "sent node {node} away: {reason:?}"),
            Self::Refused(reason) => write!(f, "refused: {reason:?}"),
            Self::NoRandomness => f.write_str("no randomness for a nonce"),
        }
    }
}

impl std::error::Error for HandshakeError {}

impl<E: Into<FrameError>> From<E> for HandshakeError {
    fn from(error: E) -> Self {
        Self::Frame(error.into())
    }
}

/// What this node proves and demands.
#[derive(Debug)]
pub struct Credentials {
    me: NodeId,
    members: BTreeSet<NodeId>,
    key: [u8; 32],
    cluster: watch::Receiver<Option<ClusterId>>,
}

impl Credentials {
    /// Those of `me` in a cluster of `members` with this secret.
    #[must_use]
    pub fn new(
        me: NodeId,
        members: BTreeSet<NodeId>,
        secret: &Secret,
        cluster: watch::Receiver<Option<ClusterId>>,
    ) -> Self {
        let key = blake3::derive_key(KEY_CONTEXT, secret.bytes());
        Self { me, members, key, cluster }
    }

    /// The dialler's side.
    ///
    /// # Errors
    /// The other side is not the member that it should be, or sends this node away.
    pub async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        to: NodeId,
        channel: Channel,
    ) -> Result<(), HandshakeError> {
        let cluster = *self.cluster.borrow();
        let hello = codec::encode(&Hello { from: self.me, to, channel, cluster, nonce: nonce()? });
        write(stream, Kind::Hello, &hello).await?;
        let (kind, challenge) = read(stream).await?;
        expect(kind, Kind::Challenge)?;
        // Not trusted with anything but its bytes before it proves itself.
        let said: Challenge = decode(&challenge)?;
        let proof = self.prove(b"dialler", &hello, &challenge);
        write(stream, Kind::Proof, proof.as_bytes()).await?;
        let (kind, answer) = read(stream).await?;
        if kind == Kind::Refusal {
            return Err(HandshakeError::Refused(decode(&answer)?));
        }
        expect(kind, Kind::Welcome)?;
        self.verify(b"acceptor", &hello, &challenge, &answer)?;
        if differ(cluster, said.cluster) {
            return Err(HandshakeError::SentAway { node: to, reason: Reason::OtherCluster });
        }
        Ok(())
    }

    /// The acceptor's side. Returns who is there, and for what.
    ///
    /// # Errors
    /// The caller is no member.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
    ) -> Result<(NodeId, Channel), HandshakeError> {
        let (kind, hello) = read(stream).await?;
        expect(kind, Kind::Hello)?;
        let said: Hello = decode(&hello)?;
        let cluster = *self.cluster.borrow();
        let challenge = codec::encode(&Challenge { cluster, nonce: nonce()? });
        write(stream, Kind::Challenge, &challenge).await?;
        let (kind, proof) = read(stream).await?;
        expect(kind, Kind::Proof)?;
        self.verify(b"dialler", &hello, &challenge, &proof)?;
        let reason = if !self.members.contains(&said.from) || said.from == self.me {
            Some(Reason::NotAMember)
        } else if said.to != self.me {
            Some(Reason::WrongNode)
        } else if differ(cluster, said.cluster) {
            Some(Reason::OtherCluster)
        } else {
            None
        };
        if let Some(reason) = reason {
            write(stream, Kind::Refusal, &codec::encode(&reason)).await?;
            return Err(HandshakeError::SentAway { node: said.from, reason });
        }
        let proof = self.prove(b"acceptor", &hello, &challenge);
        write(stream, Kind::Welcome, proof.as_bytes()).await?;
        Ok((said.from, said.channel))
    }

    fn prove(&self, side: &[u8], hello: &[u8], challenge: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in [side, hello, challenge] {
            // With its length before it, so that no byte can move from one part to the next.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize()
    }

    fn verify(
        &self,
        side: &[u8],
        hello: &[u8],
        challenge: &[u8],
        proof: &[u8],
    ) -> Result<(), HandshakeError> {
        // Comparing a BLAKE3 hash takes the same time whatever differs.
        if self.prove(side, hello, challenge) == *proof {
            Ok(())
        } else {
            Err(HandshakeError::WrongSecret)
        }
    }
}

fn differ(ours: Option<ClusterId>, theirs: Option<ClusterId>) -> bool {
    matches!((ours, theirs), (Some(ours), Some(theirs)) if ours != theirs)
}

fn nonce() -> Result<[u8; 32], HandshakeError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|_| HandshakeError::NoRandomness)?;
    Ok(nonce)
}

fn expect(kind: Kind, wanted: Kind) -> Result<(), FrameError> {
    if kind == wanted { Ok(()) } else { Err(FrameError::Broken("out of place in a handshake")) }
}

fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, FrameError> {
    codec::decode(bytes).map_err(|_| FrameError::Broken("malformed handshake"))
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<(Kind, Vec<u8>), FrameError> {
    let Some(header) = Header::read(stream, frame::STRANGER).await? else {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    };
    let (head, _) = header.read_rest(stream).await?;
    Ok((header.kind, head))
}

async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    kind: Kind,
    head: &[u8],
) -> Result<(), FrameError> {
    let mut bytes = frame::header(kind, head, &[]).to_vec();
    bytes.extend_from_slice(head);
    stream.write_all(&bytes).await?;
    Ok(stream.flush().await?)
}
