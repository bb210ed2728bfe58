//! A trial of io_uring on the data directory's file system: what a shard does to a log, done once to a small file.
//!
//! [`probe`](crate::runtime::probe) asks the kernel whether rings can be made; this finds out whether the file system takes what
//! glommio then asks of it. It runs on a thread of its own, because a kernel that loses a completion would hold up the start for ever.

use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use engine::route::ShardId;

use super::Uring;
use crate::runtime::cpu_plan::{Cpus, SHARDS_MAX, Seat};
use crate::runtime::host::{HostRuntime as _, ShardHandle, ShardThread};
use crate::runtime::watchdog::{Pulse, Watchdog};
use crate::runtime::{AlignedBytes, DISK_ALIGN, Disk as _, File as _, Open, ReadFile as _};

/// A trial that has not ended by then has failed. It takes some tens of milliseconds, most of them for the executor's memory.
const TRIAL_MAX: Duration = Duration::from_secs(2);

/// File of the trial, removed at its end.
const TRIAL_FILE: &str = "io-trial";

/// Number of the trial's shard; others have smaller ones.
const TRIAL_SHARD: ShardId = ShardId(SHARDS_MAX);

/// Names of the trial's threads. glommio panics where it cannot go on, and there that is an answer.
const TRIAL_THREADS: [&str; 2] = ["io-trial", "shard-1024"];

/// Writes, extends, overwrites, syncs and reads a file of the data directory, on which
/// [`prepare_data_dir`](crate::runtime::host::prepare_data_dir) was called; `Err` says what failed.
///
/// A trial that takes too long goes on by itself and is heard of no more.
pub fn try_out(data_path: &Path) -> io::Result<()> {
    let pulse = Pulse::default();
    let seat = Seat::Fenced(Cpus::of_this_process()?.allowed);
    let data_path = data_path.to_owned();
    let (done, result) = mpsc::channel();
    // A shard may park for good, and the watchdog is what ends that.
    let _watchdog = Watchdog::start(vec![pulse.clone()])?;
    std::thread::Builder::new().name(TRIAL_THREADS[0].to_owned()).spawn(move || {
        let thread = ShardThread { id: TRIAL_SHARD, seat, data_path, pulse };
        let shard = Uring::spawn_shard(thread, exercise);
        let _ = done.send(shard.and_then(ShardHandle::join).flatten()); // too late, perhaps
    })?;
    match result.recv_timeout(TRIAL_MAX) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(io::Error::other("it panicked")),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it did not end within {TRIAL_MAX:?}"),
        )),
    }
}

/// Whether a thread of this name may panic and the process go on.
pub fn is_trial(thread: &str) -> bool {
    TRIAL_THREADS.contains(&thread)
}

async fn exercise(rt: Uring) -> io::Result<()> {
    match rt.remove_file(TRIAL_FILE).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {} // there, of a process that was killed during its trial
    }
    let block = |byte| AlignedBytes::padded(vec![byte; DISK_ALIGN]);
    let file = rt.open(TRIAL_FILE, Open::New).await?;
    file.allocate(2 * DISK_ALIGN as u64).await?;
    file.write_at(block(1), 0).await?;
    file.write_at(block(2), 2 * DISK_ALIGN as u64).await?;
    file.datasync().await?;
    file.write_durably_at(block(3), 0).await?;
    file.write_durably_at(block(4), DISK_ALIGN as u64).await?;
    let read = file.read_at(0, 3 * DISK_ALIGN).await?;
    let expected: Vec<u8> = [3, 4, 2].iter().flat_map(|byte| [*byte; DISK_ALIGN]).collect();
    if read != expected {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what was written reads otherwise"));
    }
    file.close().await?;
    let file = rt.open_to_read(TRIAL_FILE).await?;
    if file.read_at(0, 3 * DISK_ALIGN).await? != expected {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "buffered, it reads otherwise"));
    }
    file.close().await?;
    rt.remove_file(TRIAL_FILE).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::host::prepare_data_dir;

    #[test]
    fn the_trial_knows_its_threads() {
        assert_eq!(TRIAL_THREADS[1], format!("shard-{}", TRIAL_SHARD.0));
        assert!(!is_trial("shard-0"));
    }

    #[test]
    fn a_trial_says_what_failed_and_leaves_nothing() {
        if std::env::var("PYRITE_RUNTIME").is_ok_and(|named| named == "portable") {
            return; // io_uring may not be had here
        }
        // Beside the test binary: that is a disk, where /tmp may be memory.
        let beside = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let data = tempfile::tempdir_in(beside).unwrap();
        let error = try_out(data.path()).unwrap_err();
        assert!(
            error.to_string().contains("No such file"),
            "without the file to read first: {error}"
        );
        prepare_data_dir(data.path()).unwrap();
        std::fs::write(data.path().join(TRIAL_FILE), "left by a killed process").unwrap();
        try_out(data.path()).unwrap();
        assert!(!data.path().join(TRIAL_FILE).exists());
    }
}
