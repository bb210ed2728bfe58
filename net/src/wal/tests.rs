//! The log's driver and recovery over the simulator's disk.

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

/// Four segments of some twenty records of 3 kB each.
const CAPPED: Settings = Settings { bytes_max: 4 * SEGMENT_BYTES_MIN, ..SMALL };

/// Appends a record whose rows a head of `tenant` has when this returns.
async fn store(log: &Log<Sim>, tenant: &TenantId, seq: u64) -> Result<(), Failure> {
    let pending = append(log, "a", seq, &[seq as u8; 3000]).await?;
    log.applied(pending.segment(), tenant, 7);
    pending.await
}

/// A crash at any moment leaves the records that no block has, without a gap, and nothing of a released file's earlier life.
#[test]
fn released_segments_become_later_ones_and_what_heads_need_stays() {
    let mut recycled = 0;
    for seed in 0..30 {
        let world = World::new(seed);
        let (rt, random) = (world.shard(NODE, 0), world.random());
        // What blocks hold, as far as the log has been told, and what was acknowledged.
        let (published, acknowledged) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (publishing, acknowledging) = (Rc::clone(&published), Rc::clone(&acknowledged));
        let shard = rt.clone();
        rt.spawn(Class::Ingest, async move {
            let log = Log::create(shard.clone(), 1, 0, CAPPED).await.unwrap();
            let tenant = TenantId::anonymous();
            for (seq, cut) in (1..).zip(1..) {
                store(&log, &tenant, seq).await.unwrap();
                acknowledging.set(seq);
                if cut % 25 == 0 {
                    log.frozen(&tenant, FrozenId(cut));
                    shard.sleep(Duration::from_millis(2)).await;
                    publishing.set(seq);
                    log.published(FrozenId(cut));
                }
            }
        });
        world.run_for(Duration::from_millis(random.between(1, 1000)));
        let segments =
            files(&world, "wal").first().map(|run| files(&world, &format!("wal/{run}/0")));
        assert!(segments.unwrap_or_default().len() <= 4, "released files are used again");
        world.crash(NODE);
        let (seqs, results, _) = recovered(&world, 1);
        let results = results[0].as_ref().unwrap();
        recycled += u64::from(acknowledged.get() > 100);
        let first = seqs.first().copied().unwrap_or(1);
        let is_whole = seqs.iter().copied().eq((first..).take(seqs.len()));
        assert!(is_whole && results.lost == 0, "seed {seed}: {seqs:?}");
        assert!(first <= published.get() + 1, "seed {seed}: {first} > {published:?}");
        let last = seqs.last().copied().unwrap_or(0);
        assert!(last >= acknowledged.get(), "seed {seed}: {last} < {acknowledged:?}");
    }
    assert!(recycled > 10, "most seeds came to segments that were recycled: {recycled}");
}

#[test]
fn a_log_at_its_cap_refuses_writes_until_heads_are_cut() {
    let world = World::new(15);
    let inner = world.clone();
    with_log(&world, 1, CAPPED, move |log| async move {
        let rt = inner.shard(NODE, 0);
        let [quiet, busy] = ["idle", "quick"].map(|tenant| TenantId::parse(tenant).unwrap());
        store(&log, &quiet, 1).await.unwrap();
        let mut seq = 1;
        let refused = loop {
            seq += 1;
            match store(&log, &busy, seq).await {
                Ok(()) => {}
                Err(failure) => break failure,
            }
        };
        assert_eq!((refused.code, refused.reason), (Code::Unavailable, "wal_full"));
        assert!(refused.message.contains("-wal.max-bytes=262144"), "{}", refused.message);
        assert_eq!(log.tenant_to_cut(), Some(quiet.clone()), "it needs the oldest segment, too");
        log.frozen(&quiet, FrozenId(1));
        log.published(FrozenId(1));
        rt.sleep(Duration::from_millis(100)).await;
        assert!(store(&log, &busy, seq).await.is_err(), "another needs it still");
        assert_eq!(log.tenant_to_cut(), Some(busy.clone()));
        log.frozen(&busy, FrozenId(2));
        assert_eq!(log.tenant_to_cut(), None, "all of it is being cut");
        log.published(FrozenId(2));
        rt.sleep(Duration::from_millis(100)).await;
        store(&log, &busy, seq).await.unwrap();
        assert!(!log.metrics().full.get());
        log.close().await.unwrap();
    });
    let log = format!("wal/{}/0", files(&world, "wal")[0]);
    assert_eq!(files(&world, &log).len(), 2, "the last of before, and the one that was recycled");
}

/// A shard that ingested all it could gave a cut a tenth of the core: its log was full before the cut was done, profiles were
/// decoded to be refused, and two thirds of what it could take were taken.
#[test]
fn an_append_to_a_log_at_its_cap_waits_for_a_cut() {
    let world = World::new(16);
    let inner = world.clone();
    with_log(&world, 1, CAPPED, move |log| async move {
        let rt = inner.shard(NODE, 0);
        let tenant = TenantId::anonymous();
        for seq in 1.. {
            let mut stored = pin!(store(&log, &tenant, seq));
            match select(stored.as_mut(), pin!(rt.sleep(Duration::from_secs(1)))).await {
                Either::Left((stored, _)) => stored.unwrap(),
                Either::Right(_) => {
                    assert!(seq > 30, "{seq}: it waits for nothing but room");
                    log.frozen(&tenant, FrozenId(1));
                    log.published(FrozenId(1));
                    stored.await.unwrap();
                    break;
                }
            }
        }
        assert!(!log.metrics().full.get(), "nothing was refused");
        log.close().await.unwrap();
    });
}

#[test]
fn a_log_whose_records_are_all_in_blocks_is_gone_when_it_is_closed() {
    for seed in 0..20 {
        let world = World::new(seed);
        let rt = world.shard(NODE, 0);
        let shard = rt.clone();
        let closed = async move {
            let log = Log::create(shard, 1, 0, SMALL).await.unwrap();
            let tenant = TenantId::anonymous();
            for seq in 1..=60 {
                store(&log, &tenant, seq).await.unwrap();
            }
            log.frozen(&tenant, FrozenId(1));
            log.published(FrozenId(1));
            log.close().await.unwrap();
        };
        if seed == 0 {
            world.complete(&rt, closed).unwrap();
            assert_eq!(files(&world, "wal"), Vec::<String>::new());
        } else {
            rt.spawn(Class::Ingest, closed);
            world.run_for(Duration::from_millis(world.random().between(1, 200)));
        }
        world.crash(NODE);
        let (seqs, results, _) = recovered(&world, 1);
        assert!(
            results[0].is_ok(),
            "seed {seed}: {results:?}: a crash leaves a log that ends earlier"
        );
        assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "seed {seed}: {seqs:?}");
    }
}

#[test]
fn what_a_killed_run_kept_for_reuse_is_removed() {
    let world = World::new(16);
    with_log(&world, 1, CAPPED, |log| async move {
        let tenant = TenantId::anonymous();
        for seq in 1..=60 {
            store(&log, &tenant, seq).await.unwrap();
        }
        log.frozen(&tenant, FrozenId(1));
        log.published(FrozenId(1));
    });
    world.run_for(Duration::from_secs(1));
    world.kill(NODE);
    let log = format!("wal/{}/0", files(&world, "wal")[0]);
    let spares = |world: &World| files(world, &log).iter().filter(|name| is_spare(name)).count();
    assert_eq!(spares(&world), 2, "the third is made ready again");
    let (seqs, ..) = recovered(&world, 1);
    assert!((2..=60).contains(&seqs[0]) && seqs.last() == Some(&60), "{seqs:?}");
    assert_eq!(spares(&world), 0);
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
fn records_go_to_their_owners_whatever_the_number_of_shards() {
    let world = World::new(3);
    with_log(&world, 1, SMALL, |log| async move {
        for seq in 1..=200 {
            append(&log, &format!("service-{}", seq % 10), seq, b"profile")
                .await
                .unwrap()
                .await
                .unwrap();
        }
    });
    world.crash(NODE);
    for shards in [1, 2, 3, 8] {
        let (mut seqs, results, collected) = recovered(&world, shards);
        assert!(results.iter().all(Result::is_ok));
        for (owner, record) in &*collected.0.borrow() {
            let service = &record.partition.service_name;
            let expected = engine::route::shard_of("anonymous", service, 0, shards);
            assert_eq!(*owner, expected, "{service} of {shards} shards");
        }
        for service in 0..10 {
            let of_service = seqs.iter().filter(|seq| *seq % 10 == service);
            assert!(of_service.is_sorted(), "the log's order is kept for an owner");
        }
        seqs.sort_unstable();
        assert_eq!(seqs, (1..=200).collect::<Vec<_>>());
    }
}

#[test]
fn logs_of_several_runs_are_dealt_to_the_shards_once_each() {
    let world = World::new(4);
    for run in 1..=5 {
        with_log(&world, run, SMALL, move |log| async move {
            append(&log, "a", run as u64, b"profile").await.unwrap().await.unwrap();
        });
        world.crash(NODE);
    }
    let (mut seqs, results, _) = recovered(&world, 3);
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    let logs: Vec<u64> = results.iter().map(|result| result.as_ref().unwrap().logs).collect();
    assert_eq!(logs, [1, 2, 2], "runs 3, 1 and 4, 2 and 5");
}

#[test]
fn recovery_cuts_off_what_a_crashed_run_had_made_ready() {
    let world = World::new(5);
    with_log(&world, 1, SMALL, |log| async move {
        for seq in 1..=8 {
            append(&log, "a", seq, &[1; 3000]).await.unwrap().await.unwrap();
        }
    });
    // The next segment is made ready behind the first.
    world.run_for(Duration::from_secs(1));
    world.kill(NODE);
    let log = format!("wal/{}/0", files(&world, "wal")[0]);
    assert_eq!(files(&world, &log), ["00000001.wal", "00000002.wal"]);
    assert_eq!(recovered(&world, 1).0.len(), 8);
    assert_eq!(files(&world, &log), ["00000001.wal"]);
    let mut len = 0;
    world.damage(NODE, &format!("{log}/00000001.wal"), |bytes| len = bytes.len());
    assert_eq!(len, 9 * 4096, "the header and eight groups");
    assert_eq!(recovered(&world, 1).0.len(), 8, "a trimmed log reads as before");
}

/// Never gets to take a batch.
struct Busy;

impl Owners for Busy {
    async fn replay(&self, _: ShardId, _: ReplayRequest) -> Result<ReplayReply, Failure> {
        std::future::pending().await
    }
}

/// Several hundred starts, each killed before its recovery had come far, filled a disk with segments that held nothing.
#[test]
fn recovery_gives_room_back_before_it_replays() {
    let world = World::new(13);
    let killed = |run: u128, records: u64| {
        with_log(&world, run, SMALL, move |log| async move {
            for seq in 1..=records {
                append(&log, "a", run as u64 * 100 + seq, &[1; 3000]).await.unwrap().await.unwrap();
            }
        });
        world.run_for(Duration::from_secs(1));
        world.kill(NODE);
    };
    killed(1, 8);
    assert_eq!(recovered(&world, 1).0.len(), 8, "its tail is cut off now");
    killed(2, 8);
    killed(3, 0);
    killed(4, 0);
    let of = |world: &World, run: usize| {
        let runs = files(world, "wal");
        runs.get(run).map(|run| files(world, &format!("wal/{run}/0")))
    };
    assert_eq!(of(&world, 2).unwrap(), ["00000001.wal"], "made ready and never used");
    let rt = world.shard(NODE, 0);
    let reading = rt.clone();
    rt.spawn(Class::Background, async move {
        let share = Share::new(ShardId(0), 1, u128::MAX);
        let _ = recover(&reading, share, &Busy, &Progress::default()).await;
    });
    world.run_for(Duration::from_mins(1));
    assert_eq!(files(&world, "wal").len(), 2, "logs without a record are gone");
    world.kill(NODE);
    let (seqs, ..) = recovered(&world, 1);
    assert_eq!((seqs[0], seqs[8]), (201, 101), "the log with an unused tail goes first");
}

/// Making the log's directory failed on a full disk, and the process with it.
#[test]
fn a_disk_that_is_full_at_the_start_refuses_writes_until_there_is_room() {
    let world = World::new(14);
    let full = DiskFaults { capacity_bytes: Some(0), ..DiskFaults::default() };
    world.set_disk_faults(NODE, full);
    with_log(&world, 1, SMALL, |log| async move {
        let refused = append(&log, "a", 1, b"profile").await.unwrap_err();
        assert_eq!(refused.reason, "wal_no_space");
        log.close().await.unwrap();
    });
    let inner = world.clone();
    with_log(&world, 2, SMALL, move |log| async move {
        assert!(append(&log, "a", 1, b"profile").await.is_err());
        inner.set_disk_faults(NODE, DiskFaults::default());
        inner.shard(NODE, 0).sleep(Duration::from_secs(2)).await;
        append(&log, "a", 2, b"profile").await.unwrap().await.unwrap();
    });
    world.crash(NODE);
    assert_eq!(recovered(&world, 1).0, [2]);
}

#[test]
fn damage_in_the_middle_is_refused_with_file_offset_and_expectation() {
    let world = World::new(6);
    with_log(&world, 1, SMALL, |log| async move {
        for seq in 1..=8 {
            append(&log, "a", seq, &[1; 3000]).await.unwrap().await.unwrap();
        }
    });
    world.crash(NODE);
    let file = format!("wal/{}/0/00000001.wal", files(&world, "wal")[0]);
    assert!(world.damage(NODE, &file, |bytes| bytes[3 * 4096 + 500] ^= 1));
    let (seqs, results, _) = recovered(&world, 1);
    assert!(seqs.len() <= 2, "nothing behind the damage was handed out");
    let error = results[0].as_ref().unwrap_err().to_string();
    let expected = format!(
        "{file} is damaged: segment 1, offset 12288: expected a sound group with lsn 3; it is damaged, \
         for the log goes on with lsn 4 at segment 1, offset 16384. Start with -wal.repair=truncate to go on with what is before \
         the damage and lose what is behind it"
    );
    assert_eq!(error, expected);
    // Who accepts the loss goes on, and needs to say so once only.
    let share = Share::new(ShardId(0), 1, u128::MAX).repairing(Repair::Truncate);
    let (seqs, recovery) = recovered_as(&world, share);
    assert_eq!(seqs, [1, 2]);
    let Recovered { logs, records, torn, lost, .. } = recovery.unwrap();
    assert_eq!((logs, records, torn, lost), (1, 2, 0, 6));
    let (seqs, results, _) = recovered(&world, 1);
    assert_eq!((seqs, results[0].as_ref().unwrap().lost), (vec![1, 2], 0));
}

#[test]
fn a_failed_sync_seals_the_log() {
    let world = World::new(7);
    let faults = DiskFaults { sync_errors_per_mille: 1000, ..DiskFaults::default() };
    let inner = world.clone();
    let metrics = with_log(&world, 1, SMALL, move |log| async move {
        append(&log, "a", 1, b"profile").await.unwrap().await.unwrap();
        inner.set_disk_faults(NODE, faults);
        let waits = append(&log, "a", 2, b"profile").await.unwrap();
        let failure = waits.await.unwrap_err();
        assert_eq!((failure.code, failure.reason), (Code::Unavailable, IN_DOUBT));
        assert!(failure.message.contains("syncing wal/"), "{}", failure.message);
        inner.set_disk_faults(NODE, DiskFaults::default());
        let later = append(&log, "a", 3, b"profile").await.unwrap_err();
        assert_eq!(later.reason, "wal_sealed", "a disk that works again is not believed");
        assert!(log.close().await.is_err());
        Rc::clone(log.metrics())
    });
    assert!(metrics.sealed.get());
    assert_eq!(metrics.pending_bytes.get(), 0);
    world.crash(NODE);
    let seqs = recovered(&world, 1).0;
    assert!(seqs == [1] || seqs == [1, 2], "{seqs:?}: the record in doubt is there once or not");
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let world = World::new(8);
    let segment = SEGMENT_BYTES_MIN;
    let full = DiskFaults { capacity_bytes: Some(segment), ..DiskFaults::default() };
    world.set_disk_faults(NODE, full);
    let inner = world.clone();
    let acknowledged = with_log(&world, 1, SMALL, move |log| async move {
        let mut acknowledged = Vec::new();
        let mut seq = 0;
        let refused = loop {
            seq += 1;
            let outcome = match append(&log, "a", seq, &[1; 9000]).await {
                Ok(pending) => pending.await,
                Err(failure) => Err(failure),
            };
            match outcome {
                Ok(()) => acknowledged.push(seq),
                Err(failure) => break failure,
            }
        };
        assert_eq!((refused.code, refused.reason), (Code::Unavailable, "wal_no_space"));
        assert!(refused.message.contains("simulated disk is full"), "{}", refused.message);
        assert!(acknowledged.len() >= 4, "the first segment was filled");
        let rt = inner.shard(NODE, 0);
        rt.sleep(Duration::from_secs(5)).await;
        assert!(append(&log, "a", 99, b"still full").await.is_err());
        inner.set_disk_faults(NODE, DiskFaults::default());
        rt.sleep(Duration::from_secs(2)).await;
        for seq in 100..110 {
            append(&log, "a", seq, &[1; 9000]).await.unwrap().await.unwrap();
            acknowledged.push(seq);
        }
        acknowledged
    });
    world.crash(NODE);
    assert_eq!(recovered(&world, 1).0, acknowledged, "what was refused is not there");
}

/// A record was accepted, its rows put into the head, and only then the disk found full: refused, and readable all the same.
/// Its client's retry was counted twice.
#[test]
fn a_record_that_is_accepted_never_meets_a_full_disk() {
    for seed in 0..30 {
        let world = World::new(seed);
        let capacity = world.random().between(0, 4 * SEGMENT_BYTES_MIN);
        let full = DiskFaults { capacity_bytes: Some(capacity), ..DiskFaults::default() };
        world.set_disk_faults(NODE, full);
        let inner = world.clone();
        let accepted = with_log(&world, 1, SMALL, move |log| async move {
            let (rt, random) = (inner.shard(NODE, 0), inner.random());
            let (mut accepted, mut waiting, mut refused) = (Vec::new(), Vec::new(), 0);
            for seq in 1..=60 {
                match append(&log, "a", seq, &vec![1; random.below(20_000) as usize]).await {
                    Ok(pending) => waiting.push((seq, pending)),
                    Err(failure) => {
                        assert_eq!(failure.reason, "wal_no_space");
                        refused += 1;
                    }
                }
                if random.chance(300) {
                    rt.sleep(Duration::from_millis(random.below(30))).await;
                }
            }
            for (seq, pending) in waiting {
                pending.await.expect("it had its room when it was accepted");
                accepted.push(seq);
            }
            assert!(refused > 0, "60 records of 10 kB are more than four segments");
            accepted
        });
        world.crash(NODE);
        assert_eq!(recovered(&world, 1).0, accepted);
    }
}

/// What was acknowledged from memory and waited for room vanished in silence when the node was stopped on a full disk.
#[test]
fn what_memory_acknowledged_has_its_room_when_a_full_log_is_closed() {
    let world = World::new(11);
    let full = DiskFaults { capacity_bytes: Some(SEGMENT_BYTES_MIN), ..DiskFaults::default() };
    world.set_disk_faults(NODE, full);
    let settings = Settings { ack: Ack::Memory, ..SMALL };
    let acknowledged = with_log(&world, 1, settings, move |log| async move {
        let mut acknowledged = Vec::new();
        for seq in 1..=12 {
            if append(&log, "a", seq, &[1; 9000]).await.is_ok() {
                acknowledged.push(seq);
            }
        }
        assert!(acknowledged.len() < 12, "then it was full");
        log.close().await.unwrap();
        acknowledged
    });
    world.crash(NODE);
    assert_eq!(recovered(&world, 1).0, acknowledged);
}

#[test]
fn closing_a_sealed_log_tells_that_acknowledged_records_are_lost() {
    let world = World::new(12);
    let inner = world.clone();
    let settings = Settings { ack: Ack::Memory, ..SMALL };
    with_log(&world, 1, settings, move |log| async move {
        append(&log, "a", 1, b"profile").await.unwrap().await.unwrap();
        let faults = DiskFaults { sync_errors_per_mille: 1000, ..DiskFaults::default() };
        inner.set_disk_faults(NODE, faults);
        append(&log, "a", 2, b"profile").await.unwrap().await.expect("from memory");
        assert_eq!(log.close().await.unwrap_err().reason, IN_DOUBT);
    });
}

#[test]
fn a_log_acknowledged_in_memory_loses_nothing_on_a_full_disk() {
    let world = World::new(9);
    let segment = SEGMENT_BYTES_MIN;
    let full = DiskFaults { capacity_bytes: Some(segment), ..DiskFaults::default() };
    world.set_disk_faults(NODE, full);
    let inner = world.clone();
    let settings = Settings { ack: Ack::Memory, ..SMALL };
    let acknowledged = with_log(&world, 1, settings, move |log| async move {
        let rt = inner.shard(NODE, 0);
        let mut acknowledged = Vec::new();
        for seq in 1..=12 {
            if let Ok(pending) = append(&log, "a", seq, &[1; 9000]).await {
                pending.await.unwrap();
                acknowledged.push(seq);
            }
            rt.sleep(Duration::from_millis(20)).await;
        }
        assert!((1..12).contains(&acknowledged.len()), "{acknowledged:?}: then it was full");
        inner.set_disk_faults(NODE, DiskFaults::default());
        rt.sleep(Duration::from_secs(2)).await;
        append(&log, "a", 13, b"room again").await.unwrap().await.unwrap();
        acknowledged.push(13);
        log.close().await.unwrap();
        acknowledged
    });
    world.crash(NODE);
    assert_eq!(recovered(&world, 1).0, acknowledged);
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
