//! Logs of a data directory: each is read to its end, each record decoded.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use engine::wal::{LogEnd, ReadRange, Record, Replay, ReplayStep, SegmentFile};

use super::check::Findings;
use super::{OfflineError, names};
use crate::wal::{ROOT, is_spare, run_of, segment_name, segment_of, shard_of};

/// Records that cannot be read and are told one by one, of a log; the others are counted.
const RECORDS_TOLD_MAX: u64 = 10;

/// Checks all logs.
pub(super) fn logs(directory: &Path, findings: &mut Findings<'_>) -> Result<(), OfflineError> {
    for run in names(&directory.join(ROOT))? {
        let place = format!("{ROOT}/{run}");
        let Some(run) = run_of(&run) else {
            findings.note(format_args!("{place}: not a run's directory"))?;
            continue;
        };
        for shard in names(&directory.join(&place))? {
            let place = format!("{place}/{shard}");
            match shard_of(&shard) {
                Some(shard) => log(directory, &place, (run, shard), findings)?,
                None => findings.note(format_args!("{place}: not a log"))?,
            }
        }
    }
    Ok(())
}

fn log(
    directory: &Path,
    place: &str,
    (run, shard): (u128, u16),
    findings: &mut Findings<'_>,
) -> Result<(), OfflineError> {
    let path = directory.join(place);
    let mut files = Vec::new();
    for name in names(&path)? {
        if is_spare(&name) {
            continue; // a released segment, kept for reuse
        }
        let Some(number) = segment_of(&name) else {
            findings.note(format_args!("{place}/{name}: not a WAL segment"))?;
            continue;
        };
        match std::fs::metadata(path.join(&name)) {
            Ok(facts) => files.push(SegmentFile { number, len: facts.len() }),
            Err(error) => return findings.fault(format_args!("{place}/{name}: {error}")),
        }
    }
    files.sort_by_key(|file| file.number);
    findings.report.logs += 1;
    let end = records(&path, place, Replay::new(run, shard, files.clone()), &files, findings)?;
    if let Some((segment, offset)) = end.and_then(|end| end.torn) {
        let name = segment_name(segment);
        findings.note(format_args!(
            "{place}/{name}: a crash cut the group at offset {offset}; it was never acknowledged"
        ))?;
    }
    Ok(())
}

/// Reads a log; `None` where it ends in a fault.
fn records(
    path: &Path,
    place: &str,
    mut replay: Replay,
    files: &[SegmentFile],
    findings: &mut Findings<'_>,
) -> Result<Option<LogEnd>, OfflineError> {
    let mut open: Option<(usize, File)> = None;
    let mut unreadable = 0;
    loop {
        let next = match replay.next() {
            Ok(next) => next,
            Err(error) => {
                let name = segment_name(error.segment());
                findings.fault(format_args!("{place}/{name}: {error}"))?;
                return Ok(None);
            }
        };
        match next {
            ReplayStep::NeedsData(range) => {
                let name = segment_name(files[range.file].number);
                let supplied = match read(path, &name, range, &mut open) {
                    Ok(bytes) => replay.supply(bytes).map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(error) = supplied {
                    findings.fault(format_args!("{place}/{name}: {error}"))?;
                    return Ok(None);
                }
            }
            ReplayStep::Record(record) => {
                findings.report.records += 1;
                if let Err(error) = Record::decode(&record.body) {
                    unreadable += 1;
                    if unreadable <= RECORDS_TOLD_MAX {
                        let lsn = record.lsn;
                        findings.fault(format_args!("{place}: record {lsn}: {error}"))?;
                    }
                }
            }
            ReplayStep::Finished(end) => {
                if unreadable > RECORDS_TOLD_MAX {
                    findings.fault(format_args!(
                        "{place}: {unreadable} records in all cannot be read"
                    ))?;
                }
                return Ok(Some(end));
            }
        }
    }
}

/// What the file has of a range, which lies within the length it had when it was listed.
fn read(
    path: &Path,
    name: &str,
    range: ReadRange,
    open: &mut Option<(usize, File)>,
) -> std::io::Result<Bytes> {
    if open.as_ref().is_none_or(|(file, _)| *file != range.file) {
        *open = Some((range.file, File::open(path.join(name))?));
    }
    let (_, file) = open.as_ref().expect("the file was opened above");
    let mut bytes = vec![0; range.len];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], range.offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes.into())
}
