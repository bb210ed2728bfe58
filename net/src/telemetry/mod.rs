//! What the process says of itself: log lines on stderr and `/metrics`.

pub mod log;
pub mod metrics;
