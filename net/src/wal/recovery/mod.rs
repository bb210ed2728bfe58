//! Recovery: streams what earlier runs left in their logs to the shards that own it now.
//!
//! The logs of all earlier runs, of any number of shards, are dealt to the shards of this run. Each reads its logs one after
//! the other, groups the records by owner and sends them in batches, one under way to each owner, so that the order within a
//! log is kept. Unused tails are cut off, and logs without a record removed: first of all, for a killed run leaves whole
//! segments behind, and runs may be killed again and again before any gets to the end of its recovery.
//!
//! ```text
//! read a log ─► owners put its records back ─► … all logs of the shard read ─► every owner is asked to publish ─┐
//!                 (cut into blocks meanwhile)                                                                  │
//!         the logs are removed, last segment first ◄── all have answered ◄── asked by all: cuts what is left ◄─┘
//! ```
//! A log stays until then: nothing else may hold the rest of its records. A crash at any point repeats nothing, for a record
//! that a block has ((origin, seq) intervals) is not put back. Records of a tenant with a block that does not open are withheld,
//! and their logs kept: what that block holds is not known.
//!
//! Bounded: [`BATCH_BYTES`] collected and as much under way for each owner, one read of the log.

mod batches;
mod error;
mod list;
mod read;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::RangeInclusive;

use engine::route::ShardId;
use engine::wal::LogEnd;

use self::list::OldLog;
use crate::runtime::Runtime;
use crate::wal::directory::log_path;
use crate::wal::remove::{AtStep, remove_directory, remove_segments};

pub use self::batches::{BATCH_BYTES, BATCH_RECORDS_MAX, Owners};
pub use self::error::RecoveryError;

/// `-wal.repair`: what becomes of a log that is damaged where no crash can have damaged it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repair {
    /// The start is refused.
    #[default]
    None,
    /// Its records up to the damage are put back, and the rest is cut off.
    Truncate,
}

/// Which logs a shard reads.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    own: ShardId,
    shards_count: u16,
    own_run: u128,
    repair: Repair,
    #[cfg(feature = "planted-bugs")]
    bug: Option<engine::planted::Bug>,
}

impl Share {
    /// The share of shard `own` of `shards_count`, to which records are routed too. The logs of `own_run` are left alone.
    pub fn new(own: ShardId, shards_count: u16, own_run: u128) -> Self {
        assert!(own.0 < shards_count, "a shard is one of its node's shards");
        Self {
            own,
            shards_count,
            own_run,
            repair: Repair::None,
            #[cfg(feature = "planted-bugs")]
            bug: None,
        }
    }

    /// What to do with damaged logs.
    #[must_use]
    pub fn repairing(self, repair: Repair) -> Self {
        Self { repair, ..self }
    }

    /// Plants a bug.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn planted(self, bug: Option<engine::planted::Bug>) -> Self {
        Self { bug, ..self }
    }
}

/// How far a shard's recovery is, for `/ready`.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of log files to read; known once they are listed.
    pub total_bytes: Cell<u64>,
    /// Bytes of files that are done with.
    pub done_bytes: Cell<u64>,
}

/// What a shard's recovery did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Logs read to their end.
    pub logs: u64,
    /// Records handed to their owners.
    pub records: u64,
    /// Logs whose last group a crash had cut.
    pub torn: u64,
    /// Records that were given up, at least, with [`Repair::Truncate`].
    pub lost: u64,
    /// Records that were not put back, for a block of their tenant does not open.
    pub withheld: u64,
    /// Logs that can go when blocks have all that was put back.
    pub finished: Vec<FinishedLog>,
}

/// A log that was read to its end, all of it put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedLog {
    run: u128,
    shard: u16,
    segments: RangeInclusive<u64>,
}

impl fmt::Display for FinishedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&log_path(self.run, self.shard))
    }
}

impl FinishedLog {
    /// Removes it; `step` tells how far that is.
    pub async fn remove<R: Runtime>(self, rt: &R, step: &AtStep) -> io::Result<()> {
        let Self { run, shard, segments } = self;
        let removed = async {
            remove_segments(rt, &log_path(run, shard), segments, step).await?;
            remove_directory(rt, run, shard, step).await
        };
        let removed = removed.await;
        step.set(None);
        removed
    }
}

/// Whether any shard will read logs: none is removed before every shard has asked.
pub async fn has_logs<R: Runtime>(rt: &R, share: Share) -> Result<bool, RecoveryError> {
    list::is_any(rt, share).await
}

/// Reads this shard's share of the logs of earlier runs. Every shard of the run does, at the same time.
pub async fn recover<R: Runtime>(
    rt: &R,
    share: Share,
    owners: &impl Owners,
    progress: &Progress,
) -> Result<Recovered, RecoveryError> {
    let logs = list::list(rt, share).await?;
    let bytes = logs.iter().flat_map(|log| &log.files).map(|file| file.len).sum();
    progress.total_bytes.set(bytes);
    let mut recovered = Recovered::default();
    for log in &logs {
        let (end, withheld) = read::read(rt, share, log, owners, progress).await?;
        recovered.logs += 1;
        recovered.records += end.records_count;
        recovered.torn += u64::from(end.torn.is_some());
        recovered.lost += end.lost.as_ref().map_or(0, |lost| lost.records_count);
        recovered.withheld += withheld;
        tell(log, &end, withheld);
        if withheld == 0 && end.records_count > 0 {
            recovered.finished.extend(log.finished());
        }
        if let Err(error) = list::trim(rt, log, &end).await {
            tracing::warn!(log = %log.path, %error, "unused tails of the log were not cut off");
        }
    }
    Ok(recovered)
}

/// Says how a log ended, where that is news.
fn tell(log: &OldLog, end: &LogEnd, withheld: u64) {
    if let Some((segment, offset)) = end.torn {
        tracing::info!(log = %log.path, segment, offset, "a crash cut the last group; it was never acknowledged");
    }
    if withheld > 0 {
        tracing::error!(
            log = %log.path, withheld,
            "records of tenants with a block that cannot be read are not put back, and the log is kept: mend or remove the block and start again"
        );
    }
    if let Some(lost) = &end.lost {
        let (segment, offset) = lost.error.place();
        let (kept_records, lost_records) = (end.records_count, lost.records_count);
        tracing::error!(
            log = %log.path, segment, offset, kept_records, lost_records, error = %lost.error,
            "a damaged log is truncated (-wal.repair=truncate): what was acknowledged behind the damage is lost"
        );
    }
}
