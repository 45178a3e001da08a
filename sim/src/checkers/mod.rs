//! Properties.
pub mod linearizable;
