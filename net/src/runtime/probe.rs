//! Whether this process may use io_uring, asked of the kernel before glommio is touched.
//!
//! glommio panics inside a static initialiser where `io_uring_setup` is denied (Docker's and containerd's default seccomp
//! profiles deny it), and refuses executors below 512 KiB of lockable memory. Both are found out here, as errors with a reason.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Lockable memory that glommio insists on, bytes for the process.
pub const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

/// Entries of the ring that is set up and thrown away.
const PROBE_RING_ENTRIES: u32 = 8;

/// `IORING_FEAT_RSRC_TAGS`, present since Linux 5.13: it stands for "new enough" (5.15 is the oldest long-term kernel that has it).
const FEATURE_NEW_ENOUGH: u32 = 1 << 10;

/// Size of the kernel's `struct io_uring_params`, and where its `features` word lies.
const PARAMS_WORDS: usize = 30;
const PARAMS_FEATURES_WORD: usize = 5;

/// Why io_uring cannot be used here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The system call is refused.
    #[error(
        "io_uring is not available: io_uring_setup: {source} (kernel.io_uring_disabled={disabled}); \
         a container's seccomp profile must allow io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Denied {
        /// The system call's error.
        source: io::Error,
        /// The sysctl's value, or `unset`.
        disabled: String,
    },
    /// A kernel before 5.13.
    #[error("io_uring of this kernel is too old: 5.15 or newer is needed")]
    TooOld,
    /// Too little lockable memory, even at the hard limit.
    #[error(
        "io_uring needs {MEMLOCK_BYTES_MIN} bytes of lockable memory and the hard limit is {hard_limit}: raise RLIMIT_MEMLOCK \
         (systemd: LimitMEMLOCK=infinity)"
    )]
    Memlock {
        /// Hard limit, bytes.
        hard_limit: u64,
    },
    /// Rings can be made, and the data directory cannot be written through them.
    #[error(
        "io_uring failed a trial in the data directory: {source}; -runtime=uring does without the trial"
    )]
    Trial {
        /// What failed.
        source: io::Error,
    },
}

/// Checks that rings can be made, and raises the soft limit on lockable memory to the hard one (glommio registers its
/// buffers where it can; without room for them it only warns).
pub fn io_uring() -> Result<(), Unavailable> {
    let features = ring_features().map_err(|source| Unavailable::Denied {
        source,
        disabled: std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
            .map_or_else(|_| "unset".to_owned(), |text| text.trim().to_owned()),
    })?;
    if features & FEATURE_NEW_ENOUGH == 0 {
        return Err(Unavailable::TooOld);
    }
    let limit = raise_limit(libc::RLIMIT_MEMLOCK).unwrap_or(0);
    if limit < MEMLOCK_BYTES_MIN {
        return Err(Unavailable::Memlock { hard_limit: limit });
    }
    Ok(())
}

/// Sets a small ring up, closes it, and returns the kernel's feature bits.
fn ring_features() -> io::Result<u32> {
    let mut params = [0_u32; PARAMS_WORDS];
    // SAFETY: `params` is as large as `struct io_uring_params` (120 bytes) and zeroed, as the call demands; the kernel writes
    // nothing else. The returned descriptor is ours alone.
    let ring = unsafe {
        let fd = libc::syscall(libc::SYS_io_uring_setup, PROBE_RING_ENTRIES, params.as_mut_ptr());
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd as i32)
    };
    debug_assert!(ring.as_raw_fd() >= 0, "a ring was opened");
    Ok(params[PARAMS_FEATURES_WORD])
}

/// Raises the soft limit on open files to the hard one, as Go programs do by themselves: every connection is a file.
pub fn raise_open_files() -> io::Result<u64> {
    raise_limit(libc::RLIMIT_NOFILE)
}

/// Raises a soft limit to the hard one and returns the limit now in force.
fn raise_limit(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write only the struct they are given.
    unsafe {
        if libc::getrlimit(resource, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        if limit.rlim_cur < limit.rlim_max {
            let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
            if libc::setrlimit(resource, &raw const raised) == 0 {
                limit = raised;
            }
        }
    }
    Ok(limit.rlim_cur)
}
