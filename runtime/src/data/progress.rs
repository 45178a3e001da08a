//! How far a tool has come, shown where somebody looks.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar on standard error, if that is a terminal.
#[derive(Clone, Debug)]
pub struct Progress(Option<ProgressBar>);

const BYTES: &str = "{msg:24} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
const STEPS: &str = "{spinner} {msg}";

impl Progress {
    /// Shown.
    #[must_use]
    pub fn shown() -> Self {
        Self(Some(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())))
    }

    /// Not shown: for tests and callers without a terminal.
    #[must_use]
    pub const fn hidden() -> Self {
        Self(None)
    }

    /// So many bytes are to be read.
    pub(super) fn expect(&self, bytes: u64) {
        let Some(bar) = &self.0 else { return };
        bar.set_style(style(BYTES).progress_chars("=> "));
        bar.set_length(bytes);
    }

    /// The work has no length that is known.
    pub(super) fn open_ended(&self) {
        let Some(bar) = &self.0 else { return };
        bar.set_style(style(STEPS));
    }

    /// What is being done.
    pub(super) fn say(&self, what: impl Into<String>) {
        if let Some(bar) = &self.0 {
            bar.set_message(what.into());
        }
    }

    /// So many bytes more were read.
    pub(super) fn read(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }

    /// One more step of work without a known length.
    pub(super) fn tick(&self) {
        if let Some(bar) = &self.0 {
            bar.tick();
        }
    }

    /// Clears the line.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
