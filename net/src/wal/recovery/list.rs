//! Which logs earlier runs left, which shard reads each, and what is done with them when they are read.

use std::io;

use engine::wal::{BLOCK_BYTES, LogEnd, SEGMENT_HEADER_BYTES, SegmentFile};

use super::error::io_error;
use super::{FinishedLog, RecoveryError, Share};
use crate::runtime::{File, Open, Runtime};
use crate::wal::directory::{ROOT, is_spare, run_of, segment_name, segment_of, shard_of};
use crate::wal::remove::{AtStep, remove_directory};

/// One log of an earlier run, as listed.
#[derive(Debug)]
pub(super) struct OldLog {
    pub(super) run: u128,
    pub(super) shard: u16,
    /// Its directory.
    pub(super) path: String,
    pub(super) files: Vec<SegmentFile>,
    rest: Rest,
}

impl OldLog {
    /// All of it, to be removed; `None` where it has no files.
    pub(super) fn finished(&self) -> Option<FinishedLog> {
        let (first, last) = (self.files.first()?, self.files.last()?);
        let segments = first.number..=last.number;
        Some(FinishedLog { run: self.run, shard: self.shard, segments })
    }
}

/// What a log seems to give back when it is read; those that give most are read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rest {
    /// All of it: no group stands where the first one would.
    Everything,
    /// Its last file ends in zeros, or was made ready and never used.
    Tail,
    /// Nothing: it was closed, or read by an earlier start.
    Nothing,
}

/// Whether earlier runs left a log, to whichever shard.
pub(super) async fn is_any<R: Runtime>(rt: &R, share: Share) -> Result<bool, RecoveryError> {
    let runs = named(rt, ROOT, run_of).await?;
    Ok(runs.iter().any(|(run, _)| *run != share.own_run))
}

/// The logs of a share, in the order in which they are to be read.
pub(super) async fn list<R: Runtime>(rt: &R, share: Share) -> Result<Vec<OldLog>, RecoveryError> {
    let mut logs = Vec::new();
    for (run, path) in named(rt, ROOT, run_of).await? {
        if run == share.own_run {
            continue;
        }
        for (shard, path) in named(rt, &path, shard_of).await? {
            if reader_of(run, shard, share.shards_count) == share.own.0 {
                remove_spares(rt, &path).await?;
                let files = segment_files(rt, &path).await?;
                let rest = rest_of(rt, &path, &files).await?;
                logs.push(OldLog { run, shard, path, files, rest });
            }
        }
    }
    logs.sort_by_key(|log| log.rest); // stable: else by run and shard
    Ok(logs)
}

/// Removes what a killed run kept for reuse: first of all, for it is room. Nothing in it is wanted, so a start goes on without.
async fn remove_spares<R: Runtime>(rt: &R, directory: &str) -> Result<(), RecoveryError> {
    let names = rt.list(directory).await.map_err(|source| io_error(directory, source))?;
    for name in names.iter().filter(|name| is_spare(name)) {
        let path = format!("{directory}/{name}");
        if let Err(error) = rt.remove_file(&path).await {
            tracing::warn!(path, %error, "not removed: it was kept for reuse, and holds nothing");
        }
    }
    Ok(())
}

/// Two blocks tell; whether it is true is seen when the log is read.
async fn rest_of<R: Runtime>(
    rt: &R,
    directory: &str,
    files: &[SegmentFile],
) -> Result<Rest, RecoveryError> {
    let (Some(first), Some(last)) = (files.first(), files.last()) else {
        return Ok(Rest::Everything);
    };
    if is_zero(rt, directory, first, SEGMENT_HEADER_BYTES as u64).await? {
        return Ok(Rest::Everything);
    }
    let last_block = last.len.saturating_sub(1) / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    let is_unused = is_zero(rt, directory, last, 0).await?;
    Ok(if is_unused || is_zero(rt, directory, last, last_block).await? {
        Rest::Tail
    } else {
        Rest::Nothing
    })
}

/// Whether nothing but zeros stands in a block, which may lie behind the end of the file.
async fn is_zero<R: Runtime>(
    rt: &R,
    directory: &str,
    file: &SegmentFile,
    offset: u64,
) -> Result<bool, RecoveryError> {
    let path = format!("{directory}/{}", segment_name(file.number));
    let block = async {
        let file = rt.open(&path, Open::Existing).await?;
        let block = file.read_at(offset, BLOCK_BYTES).await?;
        file.close().await?;
        Ok(block)
    };
    let block = block.await.map_err(|source| io_error(&path, source))?;
    Ok(block.iter().all(|byte| *byte == 0))
}

/// Which shard reads a log: a matter of its name alone, for another shard may be removing an empty log while this one lists
/// them. The logs of one run are dealt evenly; where they begin is random, as the last bits of a ULID are.
fn reader_of(run: u128, shard: u16, shards_count: u16) -> u16 {
    let count = u128::from(shards_count);
    ((run % count + u128::from(shard)) % count) as u16
}

/// Entries of a directory that stand for something, in order, with their paths.
async fn named<R: Runtime, T: Ord>(
    rt: &R,
    directory: &str,
    meaning: impl Fn(&str) -> Option<T>,
) -> Result<Vec<(T, String)>, RecoveryError> {
    let names = rt.list(directory).await.map_err(|source| io_error(directory, source))?;
    let mut entries = Vec::new();
    for name in names {
        if let Some(entry) = meaning(&name) {
            entries.push((entry, format!("{directory}/{name}")));
        } else {
            tracing::warn!(directory, name, "not part of a log; left alone");
        }
    }
    entries.sort();
    Ok(entries)
}

async fn segment_files<R: Runtime>(
    rt: &R,
    directory: &str,
) -> Result<Vec<SegmentFile>, RecoveryError> {
    let mut files = Vec::new();
    for (number, path) in named(rt, directory, segment_of).await? {
        let len = async {
            let file = rt.open(&path, Open::Existing).await?;
            let len = file.len().await?;
            file.close().await?;
            Ok(len)
        };
        let len = len.await.map_err(|source| io_error(&path, source))?;
        files.push(SegmentFile { number, len });
    }
    Ok(files)
}

/// Cuts off what the log's run had made ready and not used, and a group that a crash cut; a log without a record goes.
pub(super) async fn trim<R: Runtime>(rt: &R, log: &OldLog, end: &LogEnd) -> io::Result<()> {
    let empty = end.records_count == 0;
    // From its end: what is left when this is interrupted is a log that ends there, or is still damaged where it was.
    for (file, used) in log.files.iter().zip(&end.used_bytes).rev() {
        let path = format!("{}/{}", log.path, segment_name(file.number));
        if empty || *used == 0 {
            rt.remove_file(&path).await?;
            // Before the one in front of it goes: a log has no gap.
            rt.sync_dir(&log.path).await?;
        } else if *used < file.len {
            let opened = rt.open(&path, Open::Existing).await?;
            opened.truncate(*used).await?;
            opened.datasync().await?;
            opened.close().await?;
        }
    }
    rt.sync_dir(&log.path).await?;
    if empty {
        remove_directory(rt, log.run, log.shard, &AtStep::default()).await?;
    }
    Ok(())
}
