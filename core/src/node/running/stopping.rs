//! The superblock of a running node, and the graceful stop that ends with its mark.

use super::*;

/// A graceful stop waits this long for the disk.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// How far a graceful stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) enum Stopping {
    /// Leaders are giving their groups away.
    Leading { until: Instant },
    /// Everything is being made durable.
    /// Given up at `until`, without the mark of a clean stop: the disk may be full.
    Settling { until: Instant },
    /// The superblock is being marked clean.
    Marking,
    /// Done.
    Stopped,
}

impl Running {
    /// Something is durable in the log. Once the superblock says that there is one, finding none means that it was lost: not
    /// before, because a store that stops before it ever promised anything must start like a new one, and no promise is
    /// made until it does.
    pub(super) fn on_persisted(
        &mut self,
        group: GroupId,
        id: PersistId,
        effects: &mut Vec<Effect>,
    ) {
        let is_noted = self.superblock.logs && self.unnoted.is_empty();
        if is_noted {
            return self.count_persisted(group, id);
        }
        self.unnoted.push((group, id));
        if !self.superblock.logs {
            self.superblock.logs = true;
            self.write_superblock(effects);
        }
    }

    fn count_persisted(&mut self, group: GroupId, id: PersistId) {
        self.open_gate(group, id);
        self.push(Post::Replica(group, ReplicaInput::Persisted(id)));
    }

    /// Writes the superblock, or once more if it is being written.
    pub(super) fn write_superblock(&mut self, effects: &mut Vec<Effect>) {
        if self.writer.is_some() {
            self.superblock_due = true;
            return;
        }
        self.sequence += 1;
        let mut writer = Writer::new(&self.superblock, self.sequence, false);
        let mut ios: Vec<IoOp> = Vec::new();
        writer.go_on(&mut self.ops.superblock, &mut ios);
        self.writer = Some(writer);
        effects.extend(ios.into_iter().map(Effect::Io));
    }

    pub(super) fn on_superblock_written(&mut self, result: &IoResult, effects: &mut Vec<Effect>) {
        if let Err(error) = result {
            self.halted =
                Some(Halt { reason: alloc::format!("superblock: can't be written: {error:?}") });
            return;
        }
        let Some(writer) = &mut self.writer else { return };
        let mut ios = Vec::new();
        if writer.go_on(&mut self.ops.superblock, &mut ios) {
            effects.extend(ios.into_iter().map(Effect::Io));
            return;
        }
        self.writer = None;
        if core::mem::take(&mut self.superblock_due) {
            self.write_superblock(effects);
            return;
        }
        for (group, id) in core::mem::take(&mut self.unnoted) {
            self.count_persisted(group, id);
        }
        if self.stopping == Some(Stopping::Marking) {
            self.stopping = Some(Stopping::Stopped);
            effects.push(Effect::Stopped);
        }
    }

    /// Goes on with a graceful stop.
    pub(super) fn maybe_stop(&mut self, config: &Config, now: Now, effects: &mut Vec<Effect>) {
        if let Some(Stopping::Leading { until }) = self.stopping {
            let alone = self.groups.values().all(|replicas| replicas.len() == 1);
            let leads = self.replicas.values().any(Replica::leads);
            if alone || !leads || until <= now.mono {
                self.tell_replicas(&ReplicaInput::Checkpoint { compact: false });
                self.checkpoint_wanted = true;
                self.stopping = Some(Stopping::Settling { until: now.mono + SETTLE_MAX });
            }
        }
        let Some(Stopping::Settling { until }) = self.stopping else { return };
        // The posts of this step are delivered, and what they made the logs write counts too.
        if self.writer.is_some() || self.checkpoint_wanted {
            return;
        }
        if self.logs.is_settled() && self.chunks.is_settled() {
            self.superblock.clean = true;
            self.superblock.standing = Standing::Full;
            self.stopping = Some(Stopping::Marking);
            self.write_superblock(effects);
        } else if until <= now.mono {
            self.stopping = Some(Stopping::Stopped);
            effects.push(Effect::Stopped);
        } else {
            self.logs.settle();
            self.store_due = true;
            self.pump(config, now, effects);
        }
    }
}
