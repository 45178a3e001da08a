//! Histories, end-to-end and real clients, over all crates.
