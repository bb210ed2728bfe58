//! Records on their way to the shards that own them: collected by owner, sent in batches.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use engine::route::{ShardId, shard_of};
use engine::wal::{RecordRoute, Replayed};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use proto::rpc::append::{ReplayReply, ReplayRequest};
use proto::rpc::{Failure, Reply, Request};

use super::list::OldLog;
use super::{RecoveryError, Share};
use crate::mesh::Mesh;

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

/// Records on their way to their owners.
pub(super) struct Batches<'a, O: Owners> {
    share: Share,
    log: &'a OldLog,
    owners: &'a O,
    collected: Vec<Batch>,
    /// Owners with a batch under way: the next one waits, so that the log's order is kept.
    busy: Vec<bool>,
    under_way: FuturesUnordered<Pin<Box<dyn Future<Output = Sent> + 'a>>>,
    /// Records that owners did not put back.
    withheld: u64,
}

#[derive(Default)]
struct Batch {
    records: Vec<Bytes>,
    bytes: usize,
}

type Sent = (ShardId, Result<ReplayReply, Failure>);

impl<'a, O: Owners> Batches<'a, O> {
    pub(super) fn new(share: Share, log: &'a OldLog, owners: &'a O) -> Self {
        let shards = usize::from(share.shards_count);
        Self {
            share,
            log,
            owners,
            collected: (0..shards).map(|_| Batch::default()).collect(),
            busy: vec![false; shards],
            under_way: FuturesUnordered::new(),
            withheld: 0,
        }
    }

    pub(super) async fn add(&mut self, record: &Replayed) -> Result<(), RecoveryError> {
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
            Ok(ReplayReply::Done { withheld }) => {
                self.withheld += withheld;
                Ok(())
            }
            Ok(ReplayReply::Damaged(text)) => Err(RecoveryError::Refused { path: path(), text }),
            Ok(ReplayReply::NoRoom(text)) => Err(RecoveryError::NoRoom { path: path(), text }),
            Err(failure) => Err(RecoveryError::Owner { path: path(), owner, failure }),
        }
    }

    /// Waits for all owners; how many records they did not put back.
    pub(super) async fn finish(&mut self) -> Result<u64, RecoveryError> {
        for owner in 0..self.share.shards_count {
            self.send(ShardId(owner)).await?;
        }
        while !self.under_way.is_empty() {
            self.settle_one().await?;
        }
        Ok(self.withheld)
    }
}
