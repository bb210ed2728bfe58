//! Removing logs: whatever a crash leaves of one is a log that ends earlier.

use std::cell::Cell;
use std::io;
use std::ops::RangeInclusive;

use super::directory::{log_path, run_path, segment_name};
use crate::runtime::Runtime;

/// What is being done to remove a log, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalStep {
    /// Removes the last of its segments.
    RemoveSegment,
    /// Makes that durable.
    SyncDirectory,
    /// Removes its directory, which is empty.
    RemoveDirectory,
    /// Removes the run's, where it was the run's last log.
    RemoveRun,
}

impl RemovalStep {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::RemoveSegment, Self::SyncDirectory, Self::RemoveDirectory, Self::RemoveRun];
}

/// Where a removal is; `None` between two.
pub type AtStep = Cell<Option<RemovalStep>>;

/// Removes segments of a log that has no others behind them, the last first, each when the one behind it is durably gone. Some
/// may be gone already.
pub(super) async fn remove_segments<R: Runtime>(
    rt: &R,
    directory: &str,
    numbers: RangeInclusive<u64>,
    step: &AtStep,
) -> io::Result<()> {
    for number in numbers.rev() {
        step.set(Some(RemovalStep::RemoveSegment));
        match rt.remove_file(&format!("{directory}/{}", segment_name(number))).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            removed => removed?,
        }
        step.set(Some(RemovalStep::SyncDirectory));
        rt.sync_dir(directory).await?;
    }
    Ok(())
}

/// Removes the directory of a log without files; the last log of a run removes the run.
pub(super) async fn remove_directory<R: Runtime>(
    rt: &R,
    run: u128,
    shard: u16,
    step: &AtStep,
) -> io::Result<()> {
    step.set(Some(RemovalStep::RemoveDirectory));
    rt.remove_dir(&log_path(run, shard)).await?;
    step.set(Some(RemovalStep::RemoveRun));
    remove_empty_run(rt, run).await
}

/// Other shards may remove theirs at the same time: whoever finds the run empty removes it.
pub(super) async fn remove_empty_run<R: Runtime>(rt: &R, run: u128) -> io::Result<()> {
    let path = run_path(run);
    if !rt.list(&path).await?.is_empty() {
        return Ok(());
    }
    match rt.remove_dir(&path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
