//! Recovery: streams what earlier runs left in their logs to the shards that own it now.
//!
//! The logs of all earlier runs, of any number of shards, are dealt to the shards of this run. Each reads its logs one after
//! the other, groups the records by owner and sends them in batches, one under way to each owner, so that the order within a
//! log is kept. Logs stay where they are: nothing else holds their records yet. Unused tails of zeros are cut off, and logs
//! without a record removed: first of all, for a killed run leaves whole segments behind, and runs may be killed again and
//! again before any gets to the end of its recovery.
//!
//! Bounded: [`BATCH_BYTES`] collected and as much under way for each owner, one read of the log.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use engine::route::{ShardId, shard_of};
use engine::wal::{
    BLOCK_BYTES, LogEnd, RecordError, RecordRoute, Replay, ReplayError, ReplayStep, Replayed,
    SEGMENT_HEADER_BYTES, SegmentFile,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use proto::rpc::append::{ReplayReply, ReplayRequest};
use proto::rpc::{Failure, Reply, Request};

use super::directory::{ROOT, log_path, run_of, run_path, segment_name, segment_of};
use crate::mesh::Mesh;
use crate::runtime::{File, Open, Runtime};

/// Bytes of records sent to an owner at once: large enough that a message costs nothing, small enough that an owner's turn
/// on it stays short and a node of 64 shards holds 32 MiB a reading shard at most.
pub const BATCH_BYTES: usize = 256 << 10;

/// Records of one batch at most, however small.
pub const BATCH_RECORDS_MAX: usize = 256;

/// Takes batches to the shards that own them.
pub trait Owners {
    /// Hands a batch to its owner; completes when all of it is in the heads.
    fn replay(
        &self,
        owner: ShardId,
        batch: ReplayRequest,
    ) -> impl Future<Output = Result<ReplayReply, Failure>>;
}

/// Through the mesh, as [`Request::Replay`].
impl Owners for Mesh {
    async fn replay(&self, owner: ShardId, batch: ReplayRequest) -> Result<ReplayReply, Failure> {
        match self.call(owner, Request::Replay(batch)).await? {
            Reply::Replay(reply) => Ok(reply),
            other => panic!("a replay is answered by a replay's reply, not by {other:?}"),
        }
    }
}

/// Which logs a shard reads.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    own: ShardId,
    shards_count: u16,
    own_run: u128,
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
            #[cfg(feature = "planted-bugs")]
            bug: None,
        }
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Logs read to their end.
    pub logs: u64,
    /// Records handed to their owners.
    pub records: u64,
    /// Logs whose last group a crash had cut.
    pub torn: u64,
}

/// Why recovery stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// A file cannot be read.
    #[error("reading {path} failed")]
    Io {
        /// File or directory.
        path: String,
        /// The error.
        source: io::Error,
    },
    /// A log is damaged where no crash can have damaged it.
    #[error("{path} is damaged: {source}")]
    Damaged {
        /// The file.
        path: String,
        /// Where in it, and what was expected there.
        source: ReplayError,
    },
    /// A record does not read.
    #[error("record {lsn} of {path} cannot be read: {source}")]
    Record {
        /// Directory of the log.
        path: String,
        /// Its log sequence number.
        lsn: u64,
        /// What is wrong with it.
        source: RecordError,
    },
    /// An owner found that a record is not what a log's writer writes.
    #[error("a record of {path} cannot be read: {text}")]
    Refused {
        /// Directory of the log.
        path: String,
        /// The owner's words.
        text: String,
    },
    /// The records do not fit in memory.
    #[error(
        "the records of {path} do not fit in memory: {text}. Start again with a -memory.limit as high as that of the run \
         that wrote them"
    )]
    NoRoom {
        /// Directory of the log.
        path: String,
        /// The owner's words.
        text: String,
    },
    /// An owner did not answer.
    #[error("shard {} did not take records of {path}: {}", owner.0, failure.message)]
    Owner {
        /// Directory of the log.
        path: String,
        /// The owner.
        owner: ShardId,
        /// What it said.
        failure: Failure,
    },
}

/// One log of an earlier run, as listed.
#[derive(Debug)]
struct OldLog {
    run: u128,
    shard: u16,
    path: String,
    files: Vec<SegmentFile>,
    rest: Rest,
}

/// What a log seems to give back when it is read; those that give most are read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rest {
    /// All of it: no group stands where the first one would.
    Everything,
    /// Its last file ends in zeros.
    Tail,
    /// Nothing: it was closed, or read by an earlier start.
    Nothing,
}

/// Reads this shard's share of the logs of earlier runs. Every shard of the run does, at the same time.
pub async fn recover<R: Runtime>(
    rt: &R,
    share: Share,
    owners: &impl Owners,
    progress: &Progress,
) -> Result<Recovered, RecoveryError> {
    let logs = list(rt, share).await?;
    let bytes = logs.iter().flat_map(|log| &log.files).map(|file| file.len).sum();
    progress.total_bytes.set(bytes);
    let mut recovered = Recovered::default();
    for log in &logs {
        let end = read(rt, share, log, owners, progress).await?;
        recovered.logs += 1;
        recovered.records += end.records_count;
        recovered.torn += u64::from(end.torn.is_some());
        if let Some((segment, offset)) = end.torn {
            tracing::info!(log = %log.path, segment, offset, "a crash cut the last group; it was never acknowledged");
        }
        if let Err(error) = trim(rt, log, &end).await {
            tracing::warn!(log = %log.path, %error, "unused tails of the log were not cut off");
        }
    }
    Ok(recovered)
}

async fn list<R: Runtime>(rt: &R, share: Share) -> Result<Vec<OldLog>, RecoveryError> {
    let mut logs = Vec::new();
    for (run, path) in named(rt, ROOT, run_of).await? {
        if run == share.own_run {
            continue;
        }
        for (shard, path) in named(rt, &path, super::directory::shard_of).await? {
            if reader_of(run, shard, share.shards_count) == share.own.0 {
                let files = segment_files(rt, &path).await?;
                let rest = rest_of(rt, &path, &files).await?;
                logs.push(OldLog { run, shard, path, files, rest });
            }
        }
    }
    logs.sort_by_key(|log| log.rest); // stable: else by run and shard
    Ok(logs)
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
    let ends_in_zeros = is_zero(rt, directory, last, last_block).await?;
    Ok(if ends_in_zeros { Rest::Tail } else { Rest::Nothing })
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

/// Reads one log to its end.
async fn read<R: Runtime>(
    rt: &R,
    share: Share,
    log: &OldLog,
    owners: &impl Owners,
    progress: &Progress,
) -> Result<LogEnd, RecoveryError> {
    let mut replay = Replay::new(log.run, log.shard, log.files.clone());
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
                batches.finish().await?;
                reader.report(progress, log.files.len(), 0);
                reader.close().await?;
                return Ok(end);
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

/// Records on their way to their owners.
struct Batches<'a, O: Owners> {
    share: Share,
    log: &'a OldLog,
    owners: &'a O,
    collected: Vec<Batch>,
    /// Owners with a batch under way: the next one waits, so that the log's order is kept.
    busy: Vec<bool>,
    under_way: FuturesUnordered<Pin<Box<dyn Future<Output = Sent> + 'a>>>,
}

#[derive(Default)]
struct Batch {
    records: Vec<Bytes>,
    bytes: usize,
}

type Sent = (ShardId, Result<ReplayReply, Failure>);

impl<'a, O: Owners> Batches<'a, O> {
    fn new(share: Share, log: &'a OldLog, owners: &'a O) -> Self {
        let shards = usize::from(share.shards_count);
        Self {
            share,
            log,
            owners,
            collected: (0..shards).map(|_| Batch::default()).collect(),
            busy: vec![false; shards],
            under_way: FuturesUnordered::new(),
        }
    }

    async fn add(&mut self, record: &Replayed) -> Result<(), RecoveryError> {
        let route = RecordRoute::of(&record.body).map_err(|source| RecoveryError::Record {
            path: self.log.path.clone(),
            lsn: record.lsn,
            source,
        })?;
        let owner =
            shard_of(route.tenant, route.service_name, route.split, self.share.shards_count);
        let batch = &mut self.collected[usize::from(owner.0)];
        // A copy: the record is a part of a whole window of the file, which one slow owner would hold in memory.
        batch.records.push(Bytes::copy_from_slice(&record.body));
        batch.bytes += record.body.len();
        if batch.bytes >= BATCH_BYTES || batch.records.len() >= BATCH_RECORDS_MAX {
            self.send(owner).await?;
        }
        Ok(())
    }

    async fn send(&mut self, owner: ShardId) -> Result<(), RecoveryError> {
        while self.busy[usize::from(owner.0)] {
            self.settle_one().await?;
        }
        let batch = std::mem::take(&mut self.collected[usize::from(owner.0)]);
        if batch.records.is_empty() {
            return Ok(());
        }
        self.busy[usize::from(owner.0)] = true;
        let owners = self.owners;
        #[cfg(feature = "planted-bugs")]
        let twice = self.share.bug == Some(engine::planted::Bug::ReplayTwice);
        #[cfg(not(feature = "planted-bugs"))]
        let twice = false;
        self.under_way.push(Box::pin(async move {
            let request = ReplayRequest { records: batch.records };
            if twice && let Err(failure) = owners.replay(owner, request.clone()).await {
                return (owner, Err(failure));
            }
            (owner, owners.replay(owner, request).await)
        }));
        // The first poll is what sends it; the next read of the log need not be over for that.
        let polled = poll_fn(|context| Poll::Ready(self.under_way.poll_next_unpin(context))).await;
        match polled {
            Poll::Ready(Some(sent)) => self.settle(sent),
            Poll::Ready(None) | Poll::Pending => Ok(()),
        }
    }

    /// Waits for one batch under way.
    async fn settle_one(&mut self) -> Result<(), RecoveryError> {
        match self.under_way.next().await {
            Some(sent) => self.settle(sent),
            None => Ok(()),
        }
    }

    fn settle(&mut self, (owner, reply): Sent) -> Result<(), RecoveryError> {
        self.busy[usize::from(owner.0)] = false;
        let path = || self.log.path.clone();
        match reply {
            Ok(ReplayReply::Done) => Ok(()),
            Ok(ReplayReply::Damaged(text)) => Err(RecoveryError::Refused { path: path(), text }),
            Ok(ReplayReply::NoRoom(text)) => Err(RecoveryError::NoRoom { path: path(), text }),
            Err(failure) => Err(RecoveryError::Owner { path: path(), owner, failure }),
        }
    }

    async fn finish(&mut self) -> Result<(), RecoveryError> {
        for owner in 0..self.share.shards_count {
            self.send(ShardId(owner)).await?;
        }
        while !self.under_way.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }
}

/// Cuts off what the log's run had made ready and not used; a log without a record goes.
async fn trim<R: Runtime>(rt: &R, log: &OldLog, end: &LogEnd) -> io::Result<()> {
    let empty = end.records_count == 0
        && end.torn.is_none()
        && end.used_bytes.iter().all(|used| *used <= SEGMENT_HEADER_BYTES as u64);
    for (file, used) in log.files.iter().zip(&end.used_bytes) {
        let path = format!("{}/{}", log.path, segment_name(file.number));
        if empty || *used == 0 {
            rt.remove_file(&path).await?;
        } else if *used < file.len {
            let opened = rt.open(&path, Open::Existing).await?;
            opened.truncate(*used).await?;
            opened.datasync().await?;
            opened.close().await?;
        }
    }
    rt.sync_dir(&log.path).await?;
    if empty {
        rt.remove_dir(&log_path(log.run, log.shard)).await?;
        let run_path = run_path(log.run);
        // Its other logs may be with other shards: whoever finds the run empty removes it.
        if rt.list(&run_path).await?.is_empty() {
            match rt.remove_dir(&run_path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn io_error(path: &str, source: io::Error) -> RecoveryError {
    RecoveryError::Io { path: path.to_owned(), source }
}

fn damaged(log: &OldLog, source: ReplayError) -> RecoveryError {
    let path = format!("{}/{}", log.path, segment_name(source.segment()));
    RecoveryError::Damaged { path, source }
}
