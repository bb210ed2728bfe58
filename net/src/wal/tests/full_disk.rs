//! Disks that are full, and disks that fail: what is refused leaves no trace, and what was acknowledged stays.

use super::*;

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
