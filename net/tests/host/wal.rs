//! The log's driver on this machine's kernel and disk: what the simulator holds to the laws, held to reality.
//!
//! `cargo test -p net --profile sim --test host writers -- --nocapture` prints the rates it saw; none is checked.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use engine::labels::LabelSet;
use engine::profile::{Admission, Outcome, PIPELINE_VERSION};
use engine::route::ShardId;
use engine::tenant::{PartitionKey, TenantId};
use engine::wal::{Record, RecordRef};
use futures_channel::oneshot;
use net::runtime::Class;
use net::wal::recovery::{Owners, Progress, Share, recover};
use net::wal::{Log, Settings};
use proto::rpc::Failure;
use proto::rpc::append::{ReplayReply, ReplayRequest};

use crate::worker::{Tested, on_its_own};

const RUN: u128 = 0x0193_5a7b_0000_0000_0000_0000_0000_0001;
const PROFILE_BYTES: usize = 50_000;

/// One writer: appends, waits for the sync, again.
async fn write<R: Tested>(log: Log<R>, writer: u64, appends: u64) {
    let partition = PartitionKey {
        tenant: TenantId::anonymous(),
        service_name: Arc::from(format!("service-{writer}")),
        split: 0,
    };
    let admission = Admission {
        pipeline_version: PIPELINE_VERSION,
        time_ns: 1,
        stacktrace_depth_max: 1000,
        symbol_bytes_max: 65_535,
        go_fixes: false,
        labels: LabelSet::from_pairs(vec![("service_name".to_owned(), "service".to_owned())]),
        outcomes: vec![Outcome::Plain],
    };
    for seq in 1..=appends {
        let profile = profile(writer, seq);
        let record = RecordRef {
            partition: &partition,
            origin: RUN + u128::from(writer),
            seq,
            receive_time_ms: 1,
            admission: &admission,
            profile: &profile,
        };
        log.append(&record).await.unwrap().await.unwrap();
    }
}

/// Bytes that no other append has.
fn profile(writer: u64, seq: u64) -> Vec<u8> {
    let mut profile = vec![writer as u8; PROFILE_BYTES];
    for at in (0..PROFILE_BYTES - 16).step_by(4000) {
        profile[at..at + 8].copy_from_slice(&writer.to_le_bytes());
        profile[at + 8..at + 16].copy_from_slice(&seq.to_le_bytes());
    }
    profile
}

/// Counts and checks what recovery hands out.
#[derive(Default)]
struct Counted(RefCell<Vec<u64>>);

impl Owners for Counted {
    async fn replay(&self, _: ShardId, batch: ReplayRequest) -> Result<ReplayReply, Failure> {
        for body in &batch.records {
            let record = Record::decode(body).unwrap();
            let writer = (record.origin - RUN) as u64;
            let mut last = self.0.borrow_mut();
            assert_eq!(record.seq, last[writer as usize] + 1, "in order, none lost, none twice");
            last[writer as usize] = record.seq;
            assert!(record.profile == profile(writer, record.seq), "as it was sent");
        }
        Ok(ReplayReply::Done { withheld: 0 })
    }
}

pub(crate) fn many_writers_share_syncs_and_everything_is_replayed<R: Tested>() {
    let told = on_its_own(|rt: R| async move {
        let mut told = Vec::new();
        for (run, writers, appends) in [(RUN, 1u64, 200u64), (RUN + 1, 8, 100), (RUN + 2, 64, 40)] {
            let settings = Settings { segment_bytes: 16 << 20, ..Settings::default() };
            let log = Log::create(rt.clone(), run, 0, settings).await.unwrap();
            let begun_ns = rt.now_ns();
            let mut ended = Vec::new();
            for writer in 0..writers {
                let (done, end) = oneshot::channel();
                let log = log.clone();
                rt.spawn(Class::Ingest, async move {
                    write(log, writer, appends).await;
                    done.send(()).unwrap();
                });
                ended.push(end);
            }
            for end in ended {
                end.await.unwrap();
            }
            let seconds = (rt.now_ns() - begun_ns) as f64 / 1e9;
            let metrics = Rc::clone(log.metrics());
            // One log is left as a killed process leaves it.
            if run != RUN + 1 {
                log.close().await.unwrap();
            }
            let records = metrics.records.get();
            assert_eq!(records, writers * appends);
            told.push(format!(
                "{writers} writers: {records} records of {PROFILE_BYTES} B, {:.0}/s, {:.0} MB/s, {} commits of {:.2} ms \
                 (longest {:.2} ms), {} segments",
                records as f64 / seconds,
                metrics.bytes.get() as f64 / seconds / 1e6,
                metrics.commits.get(),
                metrics.commit_times.total_ns() as f64 / 1e6 / metrics.commits.get() as f64,
                metrics.commit_ns_max.get() as f64 / 1e6,
                metrics.segments.get(),
            ));
            let counted = Counted(RefCell::new(vec![0; writers as usize]));
            let begun_ns = rt.now_ns();
            let share = Share::new(ShardId(0), 1, u128::MAX);
            let recovered = recover(&rt, share, &counted, &Progress::default()).await.unwrap();
            let seconds = (rt.now_ns() - begun_ns) as f64 / 1e9;
            assert_eq!((recovered.records, recovered.torn), (records, 0));
            assert!(counted.0.borrow().iter().all(|last| *last == appends));
            let bytes = metrics.bytes.get() as f64;
            told.push(format!(
                "recovery: {:.0} MB/s with every byte compared",
                bytes / seconds / 1e6
            ));
            remove_logs(&rt).await;
        }
        told
    });
    for line in told {
        println!("{}: {line}", R::NAME);
    }
}

async fn remove_logs<R: Tested>(rt: &R) {
    for run in rt.list("wal").await.unwrap() {
        let log = format!("wal/{run}/0");
        for segment in rt.list(&log).await.unwrap() {
            rt.remove_file(&format!("{log}/{segment}")).await.unwrap();
        }
        rt.remove_dir(&log).await.unwrap();
        rt.remove_dir(&format!("wal/{run}")).await.unwrap();
    }
}
