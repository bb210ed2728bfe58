//! Time that a thread spent on a CPU: on a machine that others use too, the wall clock measures them.

use std::time::Duration;

/// CPU time of the calling thread since it started.
pub fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write, and the clock exists on every Linux.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(status, 0, "Linux has a CPU clock for every thread");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time that `f` takes.
pub fn time(f: impl FnOnce()) -> Duration {
    let start = now();
    f();
    now().saturating_sub(start)
}
