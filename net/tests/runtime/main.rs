//! The trait suite on the simulator, and what only a simulator can be asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod suite;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use net::runtime::sim::{DiskFaults, NodeId, World};
use net::runtime::{
    AlignedBytes, Class, Clock, Conn, DISK_ALIGN, Disk, File, Listener, Net, Open, Spawn,
};

const NODE: NodeId = NodeId(0);

#[test]
fn the_simulator_does_what_every_runtime_must() {
    for seed in 0..50 {
        let world = World::new(seed);
        let shard = world.shard(NODE, 0);
        let suite = suite::check(shard.clone(), "suite", "127.0.0.1:0".parse().unwrap());
        world.complete(&shard, suite).expect("the suite ends");
    }
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    let run = |seed| {
        let world = World::new(seed);
        let shard = world.shard(NODE, 0);
        let suite = suite::check(shard.clone(), "suite", "127.0.0.1:0".parse().unwrap());
        world.complete(&shard, suite).expect("the suite ends");
        world.crash(NODE);
        (world.trace_hash(), world.now_ns())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// Writes two blocks, syncs after the first only, and crashes: what reads back after it.
fn crash_after_half_a_sync(seed: u64, sync_errors_per_mille: u64) -> (bool, Option<Vec<u8>>) {
    let world = World::new(seed);
    let shard = world.shard(NODE, 0);
    let rt = shard.clone();
    let faults = DiskFaults { sync_errors_per_mille, ..DiskFaults::default() };
    world.set_disk_faults(NODE, faults);
    let synced = world.complete(&shard, async move {
        let file = rt.open("file", Open::New).await.unwrap();
        rt.sync_dir("").await.unwrap();
        file.write_at(AlignedBytes::padded(vec![1; DISK_ALIGN]), 0).await.unwrap();
        let synced = file.datasync().await.is_ok();
        file.write_at(AlignedBytes::padded(vec![2; DISK_ALIGN]), 0).await.unwrap();
        synced
    });
    world.crash(NODE);
    let rt = shard.clone();
    let read = world.complete(&shard, async move {
        let file = rt.open("file", Open::Existing).await.ok()?;
        file.read_at(0, DISK_ALIGN).await.ok()
    });
    (synced.unwrap(), read.unwrap())
}

#[test]
fn synced_bytes_survive_a_crash_and_later_ones_only_by_sectors() {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let (synced, read) = crash_after_half_a_sync(seed, 0);
        let read = read.expect("its name was synced");
        assert!(synced && read.len() == DISK_ALIGN, "the first write is there whole");
        assert!(read.iter().all(|byte| [1, 2].contains(byte)), "old or new, nothing else");
        let sectors = read.chunks(512);
        assert!(sectors.clone().all(|sector| sector.iter().all(|b| *b == sector[0])));
        let new = sectors.filter(|sector| sector[0] == 2).count();
        kinds.insert(if new == 0 {
            "nothing"
        } else if new == DISK_ALIGN / 512 {
            "everything"
        } else {
            "something"
        });
    }
    assert_eq!(kinds.len(), 3, "nothing, something and everything of the late write survived");
}

#[test]
fn what_a_failed_sync_dropped_stays_lost() {
    let lost = (0..60).any(|seed| {
        let (synced, read) = crash_after_half_a_sync(seed, 1000);
        assert!(!synced, "every sync fails");
        read.is_none_or(|read| read.contains(&0) || read.len() < DISK_ALIGN)
    });
    assert!(lost, "a failed sync loses something under some seed");
}

#[test]
fn a_name_is_lost_by_a_crash_unless_its_directory_was_synced() {
    let survives = |seed, sync| {
        let world = World::new(seed);
        let shard = world.shard(NODE, 0);
        let rt = shard.clone();
        world.complete(&shard, async move {
            rt.create_dir_all("d").await.unwrap();
            rt.open("d/a", Open::New).await.unwrap();
            if sync {
                rt.sync_dir("d").await.unwrap();
            }
        });
        world.crash(NODE);
        let rt = shard.clone();
        world.complete(&shard, async move { rt.list("d").await.unwrap().len() == 1 }).unwrap()
    };
    assert!((0..40).all(|seed| survives(seed, true)), "a synced name stays");
    assert!((0..40).any(|seed| survives(seed, false)), "an unsynced one may stay");
    assert!((0..40).any(|seed| !survives(seed, false)), "an unsynced one may go");
}

#[test]
fn a_full_disk_says_so_and_takes_bytes_again_when_there_is_room() {
    let world = World::new(3);
    let shard = world.shard(NODE, 0);
    let capacity_bytes = Some(4 * DISK_ALIGN as u64);
    world.set_disk_faults(NODE, DiskFaults { capacity_bytes, ..DiskFaults::default() });
    let rt = shard.clone();
    world.complete(&shard, async move {
        let file = rt.open("file", Open::New).await.unwrap();
        let full = file.allocate(5 * DISK_ALIGN as u64).await.unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        file.allocate(4 * DISK_ALIGN as u64).await.unwrap();
        file.write_at(AlignedBytes::padded(vec![1; DISK_ALIGN]), 0).await.unwrap();
        let other = rt.open("other", Open::New).await.unwrap();
        assert!(other.allocate(1).await.is_err(), "all of it is taken");
        file.truncate(DISK_ALIGN as u64).await.unwrap();
        other.allocate(DISK_ALIGN as u64).await.unwrap();
    });
}

#[test]
fn a_crash_drops_the_nodes_tasks_and_resets_its_connections() {
    let world = World::new(4);
    let (here, there) = (world.shard(NODE, 0), world.shard(NodeId(1), 0));
    let listener = there.listen("0.0.0.0:7000".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    there.spawn(Class::Rpc, async move {
        let mut conn = listener.accept().await.unwrap();
        let _ = conn.read(&mut [0; 1]).await;
    });
    let ended = Rc::new(Cell::new(false));
    let (rt, seen) = (here.clone(), Rc::clone(&ended));
    here.spawn(Class::Rpc, async move {
        let mut conn = rt.connect(address).await.unwrap();
        let error = conn.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(rt.connect(address).await.is_err(), "nobody listens any more");
        seen.set(true);
    });
    world.run_for(Duration::from_millis(50));
    assert!(!ended.get());
    world.crash(NodeId(1));
    world.run_for(Duration::from_millis(50));
    assert!(ended.get(), "the other side hears of it");
}

#[test]
fn a_cut_is_a_timeout_and_heals() {
    let world = World::new(5);
    let (here, there) = (world.shard(NODE, 0), world.shard(NodeId(1), 0));
    let listener = there.listen("0.0.0.0:7000".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    world.cut(NODE, NodeId(1));
    let rt = here.clone();
    let failed = world.complete(&here, async move { rt.connect(address).await.err() }).unwrap();
    assert_eq!(failed.map(|error| error.kind()), Some(std::io::ErrorKind::TimedOut));
    world.heal(NODE, NodeId(1));
    let rt = here.clone();
    assert!(world.complete(&here, async move { rt.connect(address).await.is_ok() }).unwrap());
}

#[test]
fn the_wall_clock_jumps_and_the_monotonic_one_does_not() {
    let world = World::new(6);
    let shard = world.shard(NODE, 0);
    let (wall, monotonic) = (shard.unix_ms(), shard.now_ns());
    world.jump_clock(NODE, -3_600_000);
    assert_eq!(shard.unix_ms(), wall - 3_600_000);
    assert_eq!(shard.now_ns(), monotonic);
}
