//! A crash at each named step of removing the logs of earlier runs, whose records are in blocks by then: nothing is lost, nothing is
//! there twice, what is left of a log is a log that ends earlier, and in the end none is left. (A run's empty
//! directory may be: a crash at the last step leaves it, and nobody looks for it.)

use std::cell::RefCell;

use net::runtime::sim::World;
use net::wal::RemovalStep;

use super::node::NODE;
use super::oracle::Oracle;
use super::publishing::{Tally, begin, look, push_everywhere, start};

/// Each crashes at every step.
const SEEDS: u64 = 5;

/// Crashes of one life of a node: every other one when the step is begun again, at an earlier segment.
const CRASHES: u64 = 3;

/// Pushes to each service in a run, a group each: a log has several segments.
const ROUNDS: u64 = 10;

/// Virtual time within which a recovery and what follows it are over.
const PATIENCE_NS: u64 = 10_000_000_000;

/// Says at how many steps a node crashed, and what became of what it had acknowledged.
pub(crate) fn run() -> Result<String, String> {
    let mut tally = Tally::default();
    for (seed, step) in (0..SEEDS).flat_map(|seed| RemovalStep::ALL.map(|step| (seed, step))) {
        life(seed, step, &mut tally).map_err(|text| format!("seed {seed}, {step:?}: {text}"))?;
    }
    tally.told()
}

fn life(seed: u64, step: RemovalStep, tally: &mut Tally) -> Result<(), String> {
    let world = World::new(seed);
    let oracle = RefCell::new(Oracle::default());
    for crash in 0..CRASHES {
        let node = start(&world, 1 + ((seed + crash) % 3) as u16)?;
        look(&node, &world, &oracle, tally)?;
        for _ in 0..ROUNDS {
            push_everywhere(&node, &world, &oracle)?;
        }
        world.crash(NODE);
        // A log has at least two segments, and one directory.
        let before = if step <= RemovalStep::SyncDirectory { crash % 2 } else { 0 };
        // Steps of two shards may overlap, and then look like one.
        let shards = if before > 0 { 1 } else { 1 + ((seed + crash + 1) % 2) as u16 };
        let node = begin(&world, shards);
        for _ in 0..before {
            run_until(&world, || node.is_removing(step))?;
            run_until(&world, || !node.is_removing(step))?;
        }
        run_until(&world, || node.is_removing(step))?;
        world.crash(NODE);
        tally.steps += 1;
    }
    let node = start(&world, 2)?;
    look(&node, &world, &oracle, tally)?;
    let logs = node.earlier_logs(&world);
    if !logs.is_empty() {
        return Err(format!("{logs:?} are left"));
    }
    world.kill(NODE);
    Ok(())
}

fn run_until(world: &World, mut is_there: impl FnMut() -> bool) -> Result<(), String> {
    let until_ns = world.now_ns() + PATIENCE_NS;
    while !is_there() {
        if !world.step() || world.now_ns() > until_ns {
            return Err("the step is never reached".to_owned());
        }
    }
    Ok(())
}
