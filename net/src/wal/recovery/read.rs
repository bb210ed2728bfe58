//! Reads one log, file by file.

use std::io;

use bytes::Bytes;
use engine::wal::{LogEnd, Replay, ReplayStep};

use super::batches::{Batches, Owners};
use super::error::{damaged, io_error};
use super::list::OldLog;
use super::{Progress, RecoveryError, Repair, Share};
use crate::runtime::{File, Open, Runtime};
use crate::wal::directory::segment_name;

/// Reads one log to its end: how it ended, and how many records were not put back.
pub(super) async fn read<R: Runtime>(
    rt: &R,
    share: Share,
    log: &OldLog,
    owners: &impl Owners,
    progress: &Progress,
) -> Result<(LogEnd, u64), RecoveryError> {
    let replay = Replay::new(log.run, log.shard, log.files.clone());
    let mut replay = replay.truncating(share.repair == Repair::Truncate);
    #[cfg(feature = "planted-bugs")]
    replay.plant(share.bug);
    let mut batches = Batches::new(share, log, owners);
    let mut reader = Reader { rt, log, open: None, done_before: progress.done_bytes.get() };
    loop {
        match replay.next().map_err(|source| damaged(log, source))? {
            ReplayStep::NeedsData(range) => {
                let bytes = reader.read(range.file, range.offset, range.len).await?;
                reader.report(progress, range.file, range.offset);
                replay.supply(bytes).map_err(|source| damaged(log, source))?;
                rt.yield_if_needed().await;
            }
            ReplayStep::Record(record) => {
                batches.add(&record).await?;
                rt.yield_if_needed().await;
            }
            ReplayStep::Finished(end) => {
                let withheld = batches.finish().await?;
                reader.report(progress, log.files.len(), 0);
                reader.close().await?;
                return Ok((end, withheld));
            }
        }
    }
}

/// The files of one log, one open at a time.
struct Reader<'a, R: Runtime> {
    rt: &'a R,
    log: &'a OldLog,
    open: Option<(usize, R::File)>,
    done_before: u64,
}

impl<R: Runtime> Reader<'_, R> {
    async fn read(&mut self, file: usize, offset: u64, len: usize) -> Result<Bytes, RecoveryError> {
        let path = format!("{}/{}", self.log.path, segment_name(self.log.files[file].number));
        if self.open.as_ref().is_none_or(|(open, _)| *open != file) {
            self.close().await?;
            let opened = open_synced(self.rt, &path).await;
            self.open = Some((file, opened.map_err(|source| io_error(&path, source))?));
        }
        let (_, opened) = self.open.as_ref().expect("the file was opened above");
        let bytes = opened.read_at(offset, len).await;
        bytes.map(Bytes::from).map_err(|source| io_error(&path, source))
    }

    /// Files are trimmed and removed once they are closed.
    async fn close(&mut self) -> Result<(), RecoveryError> {
        let Some((file, open)) = self.open.take() else { return Ok(()) };
        let path = format!("{}/{}", self.log.path, segment_name(self.log.files[file].number));
        open.close().await.map_err(|source| io_error(&path, source))
    }

    fn report(&self, progress: &Progress, file: usize, offset: u64) {
        let before: u64 = self.log.files[..file].iter().map(|file| file.len).sum();
        progress.done_bytes.set(self.done_before + before + offset);
    }
}

/// Opens a file and makes durable what a killed process wrote and did not sync: what is read once is there at every start.
async fn open_synced<R: Runtime>(rt: &R, path: &str) -> io::Result<R::File> {
    let file = rt.open(path, Open::Existing).await?;
    file.datasync().await?;
    Ok(file)
}
