//! The log's driver and recovery over the simulator's disk.

mod full_disk;
mod recovery;
mod release;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::head::FrozenId;
use engine::labels::LabelSet;
use engine::profile::{Admission, Outcome, PIPELINE_VERSION};
use engine::route::ShardId;
use engine::tenant::{PartitionKey, TenantId};
use engine::wal::{Record, RecordRef};
use futures_util::future::{Either, select};
use proto::rpc::append::{ReplayReply, ReplayRequest};
use proto::rpc::{Code, Failure};

use super::recovery::{Owners, Progress, Recovered, RecoveryError, Repair, Share, recover};
use super::{Ack, IN_DOUBT, Log, Pending, SEGMENT_BYTES_MIN, Settings, is_spare};
use crate::runtime::sim::{DiskFaults, NodeId, Sim, World};
use crate::runtime::{Class, Clock, Disk, Spawn};

const NODE: NodeId = NodeId(0);
const SMALL: Settings = Settings {
    segment_bytes: SEGMENT_BYTES_MIN,
    bytes_max: 1 << 30,
    ack: Ack::Fsync,
    pending_bytes_max: 1 << 20,
};

async fn append(
    log: &Log<Sim>,
    service: &str,
    seq: u64,
    profile: &[u8],
) -> Result<Pending, Failure> {
    let partition =
        PartitionKey { tenant: TenantId::anonymous(), service_name: Arc::from(service), split: 0 };
    let labels = LabelSet::from_pairs(vec![("service_name".to_owned(), service.to_owned())]);
    let admission = Admission {
        pipeline_version: PIPELINE_VERSION,
        time_ns: seq as i64,
        stacktrace_depth_max: 1000,
        symbol_bytes_max: 65_535,
        go_fixes: false,
        labels,
        outcomes: vec![Outcome::Plain],
    };
    log.append(&RecordRef {
        partition: &partition,
        origin: 1,
        seq,
        receive_time_ms: 7,
        admission: &admission,
        profile,
    })
    .await
}

/// Collects what owners are handed.
#[derive(Default)]
struct Collected(RefCell<Vec<(ShardId, Record)>>);

impl Owners for Collected {
    async fn replay(&self, owner: ShardId, batch: ReplayRequest) -> Result<ReplayReply, Failure> {
        for body in &batch.records {
            let record = Record::decode(body).expect("the writer wrote it");
            self.0.borrow_mut().push((owner, record));
        }
        Ok(ReplayReply::Done { withheld: 0 })
    }
}

/// Recovers with `shards` shards; the sequence numbers in the order the owners saw them.
fn recovered(
    world: &World,
    shards: u16,
) -> (Vec<u64>, Vec<Result<Recovered, RecoveryError>>, Rc<Collected>) {
    let collected = Rc::new(Collected::default());
    let results = (0..shards)
        .map(|own| {
            let (rt, owners) = (world.shard(NODE, own), Rc::clone(&collected));
            let share = Share::new(ShardId(own), shards, u128::MAX);
            let run = async move {
                let progress = Progress::default();
                let result = recover(&rt, share, &*owners, &progress).await;
                assert!(result.is_err() || progress.done_bytes == progress.total_bytes);
                result
            };
            world.complete(&world.shard(NODE, own), run).expect("recovery ends")
        })
        .collect();
    let seqs = collected.0.borrow().iter().map(|(_, record)| record.seq).collect();
    (seqs, results, collected)
}

/// What one shard alone recovers.
fn recovered_as(world: &World, share: Share) -> (Vec<u64>, Result<Recovered, RecoveryError>) {
    let rt = world.shard(NODE, 0);
    let shard = rt.clone();
    let recovery = async move {
        let collected = Collected::default();
        let result = recover(&rt, share, &collected, &Progress::default()).await;
        (collected.0.into_inner().iter().map(|(_, record)| record.seq).collect(), result)
    };
    world.complete(&shard, recovery).expect("recovery ends")
}

/// Runs `act` with a new log of shard 0.
fn with_log<T: 'static, F: Future<Output = T> + 'static>(
    world: &World,
    run: u128,
    settings: Settings,
    act: impl FnOnce(Log<Sim>) -> F + 'static,
) -> T {
    let rt = world.shard(NODE, 0);
    let shard = rt.clone();
    let acted = async move {
        let log = Log::create(rt, run, 0, settings).await.unwrap();
        act(log).await
    };
    world.complete(&shard, acted).expect("it ends")
}

fn files(world: &World, path: &str) -> Vec<String> {
    let rt = world.shard(NODE, 0);
    let (shard, path) = (rt.clone(), path.to_owned());
    world.complete(&shard, async move { rt.list(&path).await.unwrap() }).unwrap()
}

#[test]
fn what_was_acknowledged_is_replayed_in_order_after_a_crash() {
    for seed in 0..20 {
        let world = World::new(seed);
        with_log(&world, 1, SMALL, |log| async move {
            for seq in 1..=60 {
                append(&log, "a", seq, &[seq as u8; 3000]).await.unwrap().await.unwrap();
            }
            assert!(log.metrics().segments.get() >= 3, "several segments were filled");
        });
        world.crash(NODE);
        let (seqs, results, collected) = recovered(&world, 1);
        assert_eq!(seqs, (1..=60).collect::<Vec<_>>());
        assert_eq!(results[0].as_ref().unwrap().records, 60);
        assert_eq!(collected.0.borrow()[6].1.profile, [7; 3000][..]);
        // Nothing is consumed: the next start finds the same.
        assert_eq!(recovered(&world, 1).0, seqs);
    }
}

#[test]
fn records_that_wait_together_are_one_group() {
    let world = World::new(1);
    with_log(&world, 1, SMALL, |log| async move {
        let mut waiting = Vec::new();
        for seq in 1..=20 {
            waiting.push(append(&log, "a", seq, b"profile").await.unwrap());
        }
        for pending in waiting {
            pending.await.unwrap();
        }
        let metrics = log.metrics();
        assert_eq!((metrics.commits.get(), metrics.records.get()), (1, 20));
        assert_eq!((metrics.group_bytes.get(), metrics.pending_bytes.get()), (4096, 0));
    });
}

#[test]
fn a_closed_log_has_no_unused_tail_and_an_empty_one_leaves_nothing() {
    let world = World::new(1);
    with_log(&world, 1, SMALL, |log| async move {
        append(&log, "a", 1, b"profile").await.unwrap().await.unwrap();
        let waits = append(&log, "a", 2, &vec![2; 20_000]).await.unwrap();
        log.close().await.unwrap();
        waits.await.expect("closing writes what was appended");
        let refused = append(&log, "a", 3, b"late").await.unwrap_err();
        assert_eq!(refused.code, Code::Unavailable);
    });
    with_log(&world, 2, SMALL, |log| async move { log.close().await.unwrap() });
    let runs = files(&world, "wal");
    assert_eq!(runs.len(), 1, "the empty log of the second run is gone");
    let log = format!("wal/{}/0", runs[0]);
    assert_eq!(files(&world, &log), ["00000001.wal"], "one segment, nothing prepared");
    let mut len = 0;
    world.damage(NODE, &format!("{log}/00000001.wal"), |bytes| len = bytes.len());
    assert_eq!(len, 4096 + 4096 + 20_480, "header, a small group, a group of 20 kB");
    world.crash(NODE);
    assert_eq!(recovered(&world, 1).0, [1, 2]);
}

#[test]
fn closing_writes_everything_that_waits_across_segments() {
    let world = World::new(2);
    with_log(&world, 1, SMALL, |log| async move {
        let mut waiting = Vec::new();
        for seq in 1..=20 {
            waiting.push(append(&log, "a", seq, &vec![1; 30_000]).await.unwrap());
        }
        log.close().await.unwrap();
        for pending in waiting {
            pending.await.unwrap();
        }
    });
    world.crash(NODE);
    assert_eq!(recovered(&world, 2).0, (1..=20).collect::<Vec<_>>());
}

#[test]
fn what_waits_is_bounded_and_a_record_larger_than_a_segment_is_refused() {
    let world = World::new(10);
    let settings = Settings { pending_bytes_max: 10_000, ..SMALL };
    with_log(&world, 1, settings, |log| async move {
        let first =
            append(&log, "a", 1, &vec![1; 20_000]).await.expect("one record alone may be larger");
        let refused = append(&log, "a", 2, b"profile").await.unwrap_err();
        assert_eq!((refused.code, refused.reason), (Code::ResourceExhausted, "wal_pending_full"));
        first.await.unwrap();
        append(&log, "a", 3, b"profile").await.unwrap().await.unwrap();
        let refused = append(&log, "a", 4, &vec![1; SEGMENT_BYTES_MIN as usize]).await.unwrap_err();
        assert_eq!(refused.code, Code::InvalidArgument);
        assert!(refused.message.contains("larger than a WAL segment holds"));
        // The largest that fits does.
        append(&log, "a", 5, &vec![1; SEGMENT_BYTES_MIN as usize - 4096 - 64 - 200])
            .await
            .unwrap()
            .await
            .unwrap();
    });
    world.crash(NODE);
    assert_eq!(recovered(&world, 1).0, [1, 3, 5]);
}

#[test]
fn settings_out_of_range_are_told() {
    let too_small = Settings { segment_bytes: 4096, ..SMALL };
    assert_eq!(too_small.check().unwrap_err().0, "wal.segment-bytes");
    let too_few = Settings { bytes_max: 4 * SEGMENT_BYTES_MIN - 1, ..SMALL };
    assert_eq!(too_few.check().unwrap_err().0, "wal.max-bytes");
    assert_eq!(Settings::default().check(), Ok(()));
}
