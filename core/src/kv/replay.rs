//! The state of a group out of its frames, at boot.
//!
//! Frames come in the order of the table log, each with its place; only heads are kept in memory. The
//! result is the state of the last complete generation at the mark of its last frame. What the group's
//! log holds beyond is applied again.
//!
//! Records come in the order in which they were written. So they are gathered and sorted (`pending`), and a table is put together
//! anew with many of them at once: a step may take work in proportion to one group's state, while the node serves nobody.
//!
//! The log may begin anywhere, because its oldest segments are cleaned: what was current in them was
//! rewritten further on. It may end anywhere. In between nothing may be missing: after a frame that is
//! damaged or left out the state can't be trusted, until a complete snapshot follows. If none does, the
//! group needs one from its peers.

use super::batch::Seat;
use super::cow::Rubble;
use super::frame::{self, Decoded, FrameError, Kind, Place};
use super::index::IndexHead;
use super::pending::Pending;
use super::snapshot::Mark;
use super::state::State;
use super::table::{Slot, Table};

/// So many changes are taken at once at the least, and then half as many as the table has records: more at once would be a
/// little less work, and take that much more memory while they wait.
const PENDING_MIN: usize = if cfg!(test) { 16 } else { 1024 };

/// Takes frames, gives the state.
#[derive(Clone, Debug)]
pub struct Replay {
    seat: Seat,
    current: Generation,
    /// A snapshot whose installation has begun and not ended.
    building: Option<Generation>,
    generation_seen: u64,
    /// Whether a frame of the state came before, and whether one of a snapshot: only the first of each
    /// may begin in the middle, because what came before it was cleaned.
    gone_on: bool,
    installed: bool,
    anchor: Option<u64>,
    broken: Option<FrameError>,
    /// What a snapshot of the index has brought already.
    loaded: Option<Loaded>,
}

/// Where a snapshot of the index ends.
#[derive(Clone, Copy, Debug)]
struct Loaded {
    generation: u64,
    /// The first frame of that generation that is not in it.
    next: u64,
    /// Generations that it knew of.
    seen: u64,
}

/// The frames of a group can't be made a state of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The last thing that was wrong.
    pub error: FrameError,
    /// The generation for the import that heals it.
    pub next_generation: u64,
}

#[derive(Clone, Debug)]
struct Generation {
    number: u64,
    table: Table,
    /// Changes that the table does not have yet: it takes many at once.
    pending: Pending,
    mark: Mark,
    /// The number of the next frame.
    next: u64,
    /// Whether all its frames were there from the first on.
    whole: bool,
}

impl Replay {
    /// A replay for the group of this seat.
    #[must_use]
    pub fn new(seat: Seat) -> Self {
        Self {
            seat,
            current: Generation::new(1, 0),
            building: None,
            generation_seen: 1,
            gone_on: false,
            installed: false,
            anchor: None,
            broken: None,
            loaded: None,
        }
    }

    /// A replay that goes on where a snapshot of the index ends: of the group's frames it needs those that are not in that,
    /// and passes over the others.
    #[must_use]
    pub fn loaded(seat: Seat, head: &IndexHead, table: Table) -> Self {
        let IndexHead { generation, generation_seen, next, mark, anchor, .. } = *head;
        let current = Generation {
            number: generation,
            table,
            pending: Pending::default(),
            mark,
            next,
            whole: true,
        };
        Self {
            current,
            generation_seen: generation_seen.max(generation),
            // Nothing before the first frame that it takes is missing.
            gone_on: true,
            installed: true,
            anchor,
            loaded: Some(Loaded { generation, next, seen: generation_seen }),
            ..Self::new(seat)
        }
    }

    /// The replay of a group whose state is lost, after so many generations.
    #[must_use]
    pub fn lost_after(seat: Seat, generations: u64) -> Self {
        let mut replay = Self { generation_seen: generations.max(1), ..Self::new(seat) };
        replay.lost();
        replay
    }

    /// Takes the next frame of the group. Returns the table that a completed snapshot replaced, to be
    /// cleared in slices.
    ///
    /// # Errors
    /// What is wrong, for the report with file and offset. The frames after it are to be pushed all the
    /// same.
    pub fn push(
        &mut self,
        place: Place,
        payload: &[u8],
    ) -> Result<Option<Rubble<Slot>>, FrameError> {
        let result = frame::decode(payload, place).and_then(|frame| self.take(frame, place));
        if let Err(error) = result {
            self.lose(error);
        }
        result
    }

    /// The highest generation that there are frames of.
    #[must_use]
    pub const fn generation_seen(&self) -> u64 {
        self.generation_seen
    }

    /// Notes that a frame of the group was here and can't be read.
    pub fn lost(&mut self) {
        self.lose(FrameError::Head);
    }

    /// Does what [`Self::finish`] would have to do first, once the last frame was taken. Work in proportion to the state,
    /// so whoever has many states does it one by one.
    pub fn settle(&mut self) {
        if let Err(error) = self.current.settle() {
            self.lose(error);
        }
    }

    /// The state, once the last frame was taken.
    ///
    /// # Errors
    /// When frames were damaged or missing and no complete snapshot came after.
    pub fn finish(mut self) -> Result<State, Broken> {
        self.settle();
        let Self { seat, current, generation_seen, anchor, broken, .. } = self;
        let broken_by =
            |error| Broken { error, next_generation: generation_seen.saturating_add(1) };
        if let Some(error) = broken {
            return Err(broken_by(error));
        }
        let Generation { number, table, mark, next, .. } = current;
        let state = State::restored(seat, table, mark, number, next).map_err(broken_by)?;
        Ok(state.with_log(generation_seen, anchor))
    }

    fn lose(&mut self, error: FrameError) {
        (self.gone_on, self.installed) = (true, true);
        self.broken = Some(error);
        self.building = None;
    }

    fn take(
        &mut self,
        frame: Decoded<'_>,
        place: Place,
    ) -> Result<Option<Rubble<Slot>>, FrameError> {
        self.generation_seen = self.generation_seen.max(frame.generation);
        if self.has(&frame) || frame.generation < self.current.number {
            return Ok(None); // Overtaken by a snapshot, or in what was loaded.
        }
        if matches!(frame.kind, Kind::Begin | Kind::Part | Kind::End { .. }) {
            return self.build(frame, place);
        }
        if !self.gone_on {
            self.gone_on = true;
            self.current = Generation::new(frame.generation, frame.number);
        }
        if frame.generation > self.current.number {
            return Err(FrameError::Unfinished);
        }
        if self.broken.is_none() {
            self.current.take(frame)?;
            self.anchor = Some(place.segment);
        }
        Ok(None)
    }

    /// Whether what was loaded made this frame superfluous.
    fn has(&mut self, frame: &Decoded<'_>) -> bool {
        let Some(Loaded { generation, next, seen }) = self.loaded else { return false };
        let is_included = frame.generation == generation && frame.number < next;
        if is_included {
            // Whatever was damaged before this frame is in what was loaded, too.
            self.broken = None;
        }
        // The rest of an installation that had begun before: it was given up, or else it would have ended before.
        let goes_on = matches!(frame.kind, Kind::Part | Kind::End { .. });
        let begun = self.building.as_ref().is_some_and(|it| it.number == frame.generation);
        is_included || goes_on && !begun && frame.generation <= seen
    }

    /// A frame of a snapshot that is being installed.
    fn build(
        &mut self,
        frame: Decoded<'_>,
        place: Place,
    ) -> Result<Option<Rubble<Slot>>, FrameError> {
        let (kind, generation) = (frame.kind, frame.generation);
        if kind == Kind::Begin || !self.installed {
            // In place of an attempt that was given up.
            self.building = Some(Generation::new(generation, frame.number));
        }
        self.installed = true;
        let building = self.building.take().filter(|building| building.number == generation);
        let mut building = building.ok_or(FrameError::Unfinished)?;
        building.take(frame)?;
        let Kind::End { digest } = kind else {
            self.building = Some(building);
            return Ok(None);
        };
        building.settle()?;
        // Where the log begins in the middle of a snapshot, the rest of it was rewritten after its end.
        if building.whole && building.table.digest() != digest {
            return Err(FrameError::Digest);
        }
        let old = core::mem::replace(&mut self.current, building);
        self.anchor = Some(place.segment);
        self.gone_on = true;
        self.broken = None;
        Ok(Some(old.table.into_rubble()))
    }
}

impl Generation {
    fn new(number: u64, next: u64) -> Self {
        let (table, mark) = (Table::default(), Mark::default());
        Self { number, table, pending: Pending::default(), mark, next, whole: next == 0 }
    }

    fn take(&mut self, frame: Decoded<'_>) -> Result<(), FrameError> {
        if frame.number != self.next {
            return Err(FrameError::Missing { expected: self.next, found: frame.number });
        }
        let (last, index) = (self.mark.position.index, frame.mark.position.index);
        if index < last || (index == last && frame.kind == Kind::Applied) {
            return Err(FrameError::OutOfOrder);
        }
        // Nobody counts so far; a frame that says so is not one of ours.
        self.next = self.next.checked_add(1).ok_or(FrameError::OutOfOrder)?;
        self.mark = frame.mark;
        self.pending.push(frame.changes, frame.kind == Kind::Moved);
        let enough = PENDING_MIN.max(self.table.len() / 2);
        if self.pending.len() < enough { Ok(()) } else { self.settle() }
    }

    /// The table takes what is pending.
    fn settle(&mut self) -> Result<(), FrameError> {
        core::mem::take(&mut self.pending).settle(&mut self.table)
    }
}
