//! A disk that is full at any byte of a cut: an error in words, and nothing lost.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

/// How much further each try gets: a fraction of one write.
const STEP_BYTES: u64 = 1000;

fn full_but_for(world: &World, bytes: u64) {
    let capacity_bytes = Some(world.disk_used_bytes(NODE) + bytes);
    world.set_disk_faults(NODE, DiskFaults { capacity_bytes, ..DiskFaults::default() });
}

/// A node that takes pushes until the disk is really full.
fn started(world: &World, run: u128) -> Node {
    let retention = RetentionSettings { is_space_ignored: true, ..RetentionSettings::default() };
    Node::start_with(world, run, Start { retention, ..Start::default() })
}

#[test]
fn a_disk_that_is_full_at_any_byte_of_a_cut_loses_nothing() {
    let mut steps = BTreeSet::new();
    for quota in 0.. {
        let world = World::new(quota);
        let node = pushed_to(&world, started(&world, 1));
        // The log's next segment is made ready before the disk fills up.
        world.run_for(Duration::from_secs(1));
        full_but_for(&world, quota * STEP_BYTES);
        let Err(failure) = node.flush(&world) else { break };
        let words = failure.message.split(": ").nth(1).unwrap_or_default();
        steps.insert(words.split(' ').next().unwrap_or_default().to_owned());
        assert!(failure.message.contains("disk is full"), "quota {quota}: {failure:?}");
        assert_eq!((node.sum(&world), node.blocks_count()), (ALL, 0), "quota {quota}");
        // The next try fails, too, and then waits for a second.
        world.run_for(Duration::from_millis(500));
        assert_eq!(names(&world, &node), [""; 0], "quota {quota}: what was written is removed");
        node.push(&world, 1 << PUSHES);
        world.set_disk_faults(NODE, DiskFaults::default());
        world.run_for(Duration::from_mins(3));
        node.flush(&world).unwrap();
        let all = ALL | 1 << PUSHES;
        assert_eq!(node.sum(&world), all, "quota {quota}: there is room again");
        assert!(node.blocks_count() > 0, "quota {quota}");
        world.crash(NODE);
        drop(node);
        let node = started(&world, 2);
        assert_eq!(node.sum(&world), all, "quota {quota}: after a crash");
        world.crash(NODE);
    }
    // Files are written in whole blocks and then cut to their length, so some steps find the room that others left.
    for step in ["CreateDirectory", "WriteTables"] {
        assert!(steps.contains(step), "{steps:?}");
    }
}

#[test]
fn pushes_beyond_a_full_log_are_refused_in_words_and_go_on_with_the_room() {
    let world = World::new(1);
    let node = pushed_to(&world, started(&world, 1));
    world.run_for(Duration::from_secs(1));
    full_but_for(&world, 0);
    // Each takes a block of the log at least, of which its segments have some hundred.
    let (mut taken, mut refused) = (ALL, None);
    for _ in 0..2000 {
        match node.push_of(&world, &TenantId::anonymous(), 1 << PUSHES) {
            Ok(()) => taken += 1 << PUSHES,
            Err(failure) => {
                refused = Some(failure);
                break;
            }
        }
    }
    let refused = refused.expect("the log is full");
    assert_eq!((refused.code, refused.reason), (Code::Unavailable, "wal_no_space"), "{refused:?}");
    assert_eq!(node.sum(&world), taken, "reads go on");
    world.set_disk_faults(NODE, DiskFaults::default());
    world.run_for(Duration::from_secs(3));
    node.push(&world, 1 << PUSHES);
    node.flush(&world).unwrap();
    assert_eq!(node.sum(&world), taken + (1 << PUSHES));
}
