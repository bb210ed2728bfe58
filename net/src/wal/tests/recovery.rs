//! What earlier runs left, dealt to the shards of this one.

use super::*;

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
