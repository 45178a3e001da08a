//! Where the frames of a node's states go: its own table log, or an engine of somebody else's. What is said of both is the
//! same, and the replicas do not know which it is.

use super::engine::{self, Engine};
use super::patient::{Patient, Report};
use super::store::{FRAME, FrameTag, Out};
use crate::kv::frame::Frame;
use crate::kv::table::RecordLocation;
use crate::machine::{FileId, FileKind, Instant, IoDone, IoOp, IoResult, OpIds};
use crate::planted::Planted;
use crate::types::{Damage, GroupId, OpId, Position};
use crate::wal::{Identity, Record, SegmentLog};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// What recovery found of it.
pub(super) enum Found {
    Log(Box<SegmentLog>),
    Engine(engine::Found),
}

/// The table behind the shards of a node.
#[derive(Clone, Debug)]
pub(super) enum Table {
    Log(Box<Patient<FrameTag>>),
    Engine(Box<Engine>),
}

impl Table {
    pub(super) fn new(found: Found, segment_bytes: u64, planted: Planted, ops: OpIds) -> Self {
        match found {
            Found::Log(log) => Self::Log(Box::new(Patient::new(*log, ops))),
            Found::Engine(found) => {
                Self::Engine(Box::new(Engine::new(found, segment_bytes, planted, ops)))
            }
        }
    }

    /// The table log, if it is that.
    pub(super) const fn log(&self) -> Option<&SegmentLog> {
        match self {
            Self::Log(patient) => Some(&patient.log),
            Self::Engine(_) => None,
        }
    }

    /// The table log, if it is that.
    pub(super) const fn log_mut(&mut self) -> Option<&mut SegmentLog> {
        match self {
            Self::Log(patient) => Some(&mut patient.log),
            Self::Engine(_) => None,
        }
    }

    pub(super) fn append(&mut self, group: GroupId, frame: Frame) {
        let position = frame.mark.position;
        match self {
            Self::Log(patient) => {
                let Frame { payload, placed, .. } = frame;
                let Position { term, index } = position;
                let identity = Identity { kind: FRAME, group, index, term };
                let note = Bytes::new();
                let record = Record { identity, note, payload, payload_crc: None };
                patient.append(record, FrameTag { group, position, placed });
            }
            Self::Engine(engine) => engine.append(group, frame, position),
        }
    }

    /// A replica of the group begins, with nothing.
    pub(super) fn forget(&mut self, group: GroupId) {
        // Of frames it takes those of its own generation.
        if let Self::Engine(engine) = self {
            engine.forget(group);
        }
    }

    /// Reads the body at this place; what comes of it is for [`Self::body`].
    pub(super) fn read(&self, location: RecordLocation, ops: &mut OpIds) -> IoOp {
        match self {
            Self::Log(patient) => patient.log.read(location, ops),
            Self::Engine(_) => Engine::read(location, ops),
        }
    }

    /// The body that was read.
    pub(super) fn body(
        &self,
        location: RecordLocation,
        result: &IoResult,
    ) -> Result<Bytes, Damage> {
        let found = match (self, result) {
            (Self::Log(_), Ok(IoDone::Data(bytes))) => Some(bytes.clone()),
            (Self::Engine(_), Ok(IoDone::Data(row))) => Engine::body(row),
            _ => return Err(self.damage_at(location, "record can't be read")),
        };
        let good = found.filter(|bytes| location.verify(bytes));
        good.ok_or_else(|| self.damage_at(location, "record does not match its checksum"))
    }

    fn damage_at(&self, location: RecordLocation, what: &str) -> Damage {
        let kind = match self {
            Self::Log(_) => FileKind::Table,
            Self::Engine(_) => FileKind::Engine,
        };
        let file = FileId::new(kind, location.segment);
        Damage { file, offset: location.offset, what: String::from(what) }
    }

    pub(super) fn request_sync(&mut self) {
        match self {
            Self::Log(patient) => patient.log.request_sync(),
            Self::Engine(engine) => engine.request_sync(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Log(patient) => patient.deadline(),
            Self::Engine(engine) => engine.deadline(),
        }
    }

    pub(super) fn pump(&mut self, now: Instant, out: &mut Out<'_>) -> Vec<Report<FrameTag>> {
        match self {
            Self::Log(patient) => patient.pump(now, out),
            Self::Engine(engine) => {
                engine.pump(now, out);
                Vec::new()
            }
        }
    }

    pub(super) fn on_done(
        &mut self,
        now: Instant,
        op: OpId,
        result: &IoResult,
        out: &mut Out<'_>,
    ) -> Option<Vec<Report<FrameTag>>> {
        match self {
            Self::Log(patient) => patient.on_done(now, op, result, out),
            Self::Engine(engine) => engine.on_done(now, op, result, out),
        }
    }

    /// Whether the disk was full when last written to.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Log(patient) => patient.full,
            Self::Engine(engine) => engine.full,
        }
    }

    /// Whether everything that was appended is in the files, and what is to be durable is.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::Log(patient) => patient.is_written() && patient.log.is_settled(),
            Self::Engine(engine) => engine.is_written() && engine.is_settled(),
        }
    }
}
