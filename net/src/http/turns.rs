//! A runtime for unit tests: counts the turns given to others.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use crate::runtime::{Class, Clock, Spawn};

/// Counts turns; time stands still.
#[derive(Debug, Default)]
pub(crate) struct Turns(Cell<usize>);

impl Turns {
    pub(crate) fn count(&self) -> usize {
        self.0.get()
    }
}

impl Spawn for Turns {
    fn spawn(&self, _: Class, _: impl Future<Output = ()> + 'static) {
        unreachable!("nothing under test spawns");
    }

    async fn yield_if_needed(&self) {
        self.0.set(self.0.get() + 1);
    }
}

impl Clock for Turns {
    fn now_ns(&self) -> u64 {
        0
    }

    fn unix_ms(&self) -> i64 {
        0
    }

    /// Over at once, so a test of a timeout needs no time.
    async fn sleep(&self, _: Duration) {}
}
