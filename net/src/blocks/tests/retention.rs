//! What retention removes, when, and what it never does.

use std::time::Duration;

use super::*;

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

/// Blocks are kept for two hours.
fn two_hours() -> Limits {
    Limits { compactor_blocks_retention_period_ms: 2 * 3_600_000, ..Limits::default() }
}

fn node(world: &World, run: u128, limits: Limits) -> Node {
    Node::start_with(world, run, Start { limits, ..Start::default() })
}

fn flushed(world: &World) -> Node {
    let node = pushed_to(world, node(world, 1, two_hours()));
    node.flush(world).unwrap();
    node
}

#[test]
fn a_block_goes_when_all_of_it_is_older_than_the_period() {
    let world = World::new(1);
    let node = flushed(&world);
    world.run_for(HOUR + 59 * MINUTE);
    assert_eq!((node.sum(&world), node.blocks_count()), (ALL, 1));
    world.run_for(7 * MINUTE);
    assert_eq!((node.sum(&world), node.blocks_count()), (0, 0));
    assert_eq!(names(&world, &node), [""; 0], "its files are gone");
}

#[test]
fn a_block_stays_for_ever_without_a_period() {
    let world = World::new(2);
    let node = pushed(&world);
    node.flush(&world).unwrap();
    world.run_for(10 * HOUR);
    assert_eq!((node.sum(&world), node.blocks_count()), (ALL, 1));
}

#[test]
fn a_read_that_has_begun_keeps_the_files_of_its_blocks() {
    let world = World::new(3);
    let node = flushed(&world);
    let read = node.shard.blocks().list();
    world.run_for(3 * HOUR);
    assert_eq!(node.blocks_count(), 0, "no read that begins now sees it");
    assert_eq!(names(&world, &node), [read[0].meta().ulid.clone()], "and nothing of it is gone");
    drop(read);
    world.run_for(MINUTE);
    assert_eq!(names(&world, &node), [""; 0]);
}

#[test]
fn a_crash_while_a_block_is_removed_leaves_a_block_or_none() {
    let (mut left_blocks, mut left_parts) = (0, 0);
    for steps in 0..60 {
        let world = World::new(100 + steps);
        let node = flushed(&world);
        while node.blocks_count() == 1 {
            assert!(world.step(), "the block is removed in time");
        }
        for _ in 0..steps {
            world.step();
        }
        world.crash(NODE);
        drop(node);
        // A run that keeps everything shows what is there; the log still has it all, and becomes a block where there is none.
        let node = Node::start_empty(&world, 2, Start::default());
        let is_block = names(&world, &node).iter().any(|name| !name.starts_with('.'));
        world.complete(&node.rt, node.recover(2)).unwrap();
        assert_eq!(node.shard.blocks().metrics().blocks_damaged.get(), 0, "crash after {steps}");
        assert_eq!(node.sum(&world), ALL, "crash after {steps}: from the block or from the log");
        left_blocks += usize::from(is_block);
        left_parts += usize::from(!is_block);
        let left = names(&world, &node);
        assert_eq!(left.len(), node.blocks_count(), "crash after {steps}: {left:?}");
        world.crash(NODE);
    }
    assert!(left_blocks > 0 && left_parts > 0, "crashes came early and late enough");
}

#[test]
fn a_tenants_directory_without_blocks_goes_at_the_next_start() {
    let world = World::new(4);
    let node = flushed(&world);
    world.run_for(3 * HOUR);
    // Its log goes too: the next start would make a block of it.
    let shard = Rc::clone(&node.shard);
    world.complete(&node.rt, async move { shard.close().await }).unwrap().unwrap();
    drop(node);
    world.crash(NODE);
    let node = Node::start(&world, 2);
    let rt = node.rt.clone();
    let tenants = world.complete(&node.rt, async move {
        use crate::runtime::Disk as _;
        rt.list(ROOT).await
    });
    assert_eq!(tenants.unwrap().unwrap(), [""; 0]);
}

#[test]
fn a_removal_that_fails_is_tried_again_and_read_no_more() {
    let world = World::new(5);
    let node = flushed(&world);
    // A directory cannot be removed as a file.
    let stranger = format!("{ROOT}/anonymous/.{}.tmp/stranger", names(&world, &node)[0]);
    let rt = node.rt.clone();
    let made = world.complete(&node.rt, async move {
        use crate::runtime::Disk as _;
        rt.create_dir_all(&stranger).await
    });
    made.unwrap().unwrap();
    world.run_for(3 * HOUR);
    assert_eq!((node.sum(&world), node.blocks_count()), (0, 0));
    let samples = node.shard.blocks().metrics().samples(0);
    let value = |name| samples.iter().find(|sample| sample.name == name).unwrap().value as u64;
    assert!(value("pyrite_retention_failures_total") > 1, "{samples:?}");
    assert_eq!(value("pyrite_retention_blocks_leaving"), 1);
}

/// It was left where it was, and reads of its tenant failed until a person came.
#[test]
fn a_block_that_does_not_open_goes_by_its_meta_json_or_else_by_its_name() {
    // A profile may lie ten minutes ahead of its push.
    for (seed, file, kept_for) in [(8, "index", HOUR), (9, "meta.json", HOUR + 10 * MINUTE)] {
        let world = World::new(seed);
        let node = flushed(&world);
        let name = names(&world, &node).remove(0);
        drop(node);
        world.crash(NODE);
        let path = format!("{ROOT}/anonymous/{name}/{file}");
        assert!(world.damage(NODE, &path, |bytes| bytes[100] ^= 1));
        let node = self::node(&world, 2, two_hours());
        let is_read = || {
            let tenant = TenantId::anonymous().as_str().to_owned();
            let reply = node.call(&world, Request::Select(SelectRequest::Stats { tenant }));
            !matches!(reply, Reply::Select(SelectReply::Failed(_)))
        };
        let damaged = || node.shard.blocks().metrics().blocks_damaged.get();
        world.run_for(kept_for + 59 * MINUTE);
        assert_eq!((names(&world, &node), is_read(), damaged()), (vec![name], false, 1), "{file}");
        world.run_for(7 * MINUTE);
        assert_eq!((names(&world, &node), is_read(), damaged()), (Vec::new(), true, 0), "{file}");
    }
}

#[test]
fn a_block_that_does_not_open_stays_where_nobody_can_tell_that_it_is_old() {
    for (seed, limits) in
        [(10, Limits::default()), (11, Limits { reject_newer_than_ms: 0, ..two_hours() })]
    {
        let world = World::new(seed);
        let node = flushed(&world);
        let name = names(&world, &node).remove(0);
        drop(node);
        world.crash(NODE);
        let path = format!("{ROOT}/anonymous/{name}/meta.json");
        assert!(world.damage(NODE, &path, |bytes| bytes[100] ^= 1));
        let node = self::node(&world, 2, limits);
        world.run_for(10 * HOUR);
        assert_eq!(names(&world, &node), [name]);
    }
}

/// A disk of which less than 5 % are free from now on.
fn low(world: &World) {
    let capacity_bytes = Some(world.disk_used_bytes(NODE) + 4096);
    world.set_disk_faults(NODE, DiskFaults { capacity_bytes, ..DiskFaults::default() });
    world.run_for(Duration::from_secs(6));
}

#[test]
fn a_low_disk_refuses_pushes_serves_reads_and_costs_no_block() {
    let world = World::new(6);
    let node = flushed(&world);
    low(&world);
    let failure = node.push_of(&world, &TenantId::anonymous(), 1 << PUSHES).unwrap_err();
    assert_eq!((failure.code, failure.reason), (Code::Unavailable, "disk_low"));
    world.run_for(HOUR);
    assert_eq!((node.sum(&world), node.blocks_count()), (ALL, 1), "the only copy stays");
    world.set_disk_faults(NODE, DiskFaults::default());
    world.run_for(Duration::from_secs(6));
    node.push(&world, 1 << PUSHES);
    assert_eq!(node.sum(&world), ALL | 1 << PUSHES, "by themselves");
}

#[test]
fn a_low_disk_has_what_may_go_go_at_once() {
    let world = World::new(7);
    let node = flushed(&world);
    world.run_for(2 * HOUR);
    let looks_later = node.blocks_count();
    low(&world);
    assert_eq!((looks_later, node.blocks_count()), (1, 0));
}
