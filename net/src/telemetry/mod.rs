//! What the process says of itself: log lines on stderr and `/metrics`.

pub mod log;
pub mod metrics;

/// Revision that the binary was built from: what `PYRITE_REVISION` held at the build, or nothing.
pub const REVISION: &str = match option_env!("PYRITE_REVISION") {
    Some(revision) => revision,
    None => "",
};
