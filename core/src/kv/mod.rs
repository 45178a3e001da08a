//! To come.

pub mod api;
pub mod batch;
pub mod command;
pub mod cow;
pub mod session;
pub mod space;
pub mod table;
