//! What the process says of itself: log lines on stderr and `/metrics`.

pub mod histogram;
pub mod log;
pub mod metrics;

/// Commit that the binary was built from (`build.rs`); empty where the build did not know.
pub const REVISION: &str = env!("PYRITE_BUILD_REVISION");

/// Its branch; empty where the build did not know.
pub const BRANCH: &str = env!("PYRITE_BUILD_BRANCH");
