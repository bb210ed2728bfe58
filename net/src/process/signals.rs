//! SIGTERM and SIGINT as messages: they are blocked in every thread, and one thread waits for them.

use std::io;

/// The signals that end the process in an orderly way. While one lives, they are blocked.
#[derive(Debug)]
pub(super) struct StopSignals(libc::sigset_t);

impl StopSignals {
    /// Blocks the signals in this thread and all it starts from now on; called before any other thread exists, or one that
    /// has them unblocked would end the process.
    pub(super) fn block() -> io::Result<Self> {
        // SAFETY: `sigemptyset` initialises the set before it is used; the other calls read or write only what they are given.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            libc::sigaddset(&raw mut set, libc::SIGINT);
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
                0 => Ok(Self(set)),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    /// Starts the thread that waits for them and hands each one's name to `tell`, until `tell` returns false.
    pub(super) fn listen(
        self,
        mut tell: impl FnMut(&'static str) -> bool + Send + 'static,
    ) -> io::Result<()> {
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || while tell(self.wait()) {})?;
        Ok(())
    }

    fn wait(&self) -> &'static str {
        let mut signal = 0;
        // SAFETY: the set is initialised, and the call writes only `signal`. It fails only for an invalid set.
        unsafe { libc::sigwait(&raw const self.0, &raw mut signal) };
        if signal == libc::SIGINT { "SIGINT" } else { "SIGTERM" }
    }
}
