//! A crash at each named step of publishing, again and again over the same disk, each time with another number of shards: nothing
//! is lost, nothing is there twice, and nothing half-written stays.

use std::cell::RefCell;
use std::time::Duration;

use engine::limits::Limits;
use engine::spread::SpreadOptions;
use engine::tenant::TenantId;
use net::blocks::PublishStep;
use net::component::distributor::PushedSeries;
use net::runtime::Clock;
use net::runtime::sim::World;
use net::wal::Ack;

use super::clients::{TENANTS, places};
use super::node::{CUTS_WHEN_ASKED, LOG_BYTES, NODE, Node, RETENTION, Start};
use super::oracle::{Answer, Oracle, Pushed};
use super::profile::{Content, Form, encode, labels};

/// Each crashes at every step.
const SEEDS: u64 = 5;

/// Crashes of one life of a node.
const CRASHES: u64 = 3;

/// What the lives of all nodes came to.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
}

impl Tally {
    pub(crate) fn told(self) -> Result<String, String> {
        let Self { steps, lost, duplicated } = self;
        let told = format!("steps={steps} lost={lost} duplicated={duplicated}");
        if lost + duplicated == 0 { Ok(told) } else { Err(told) }
    }
}

/// Says at how many steps a node crashed, and what became of what it had acknowledged.
pub(crate) fn run() -> Result<String, String> {
    let mut tally = Tally::default();
    for (seed, step) in (0..SEEDS).flat_map(|seed| PublishStep::ALL.map(|step| (seed, step))) {
        life(seed, step, &mut tally).map_err(|text| format!("seed {seed}, {step:?}: {text}"))?;
    }
    tally.told()
}

fn life(seed: u64, step: PublishStep, tally: &mut Tally) -> Result<(), String> {
    let world = World::new(seed);
    let oracle = RefCell::new(Oracle::default());
    for crash in 0..CRASHES {
        let node = start(&world, 1 + ((seed + crash) % 3) as u16)?;
        look(&node, &world, &oracle, tally)?;
        for _ in 0..2 {
            push_everywhere(&node, &world, &oracle)?;
        }
        let mut flushes = node.begin_flush();
        let mut is_there = || match step {
            // Nothing is awaited while a block takes its heads' place: that step is over with the flush.
            PublishStep::Swap => {
                flushes.iter_mut().all(|flush| !matches!(flush.try_recv(), Ok(None)))
            }
            step => node.is_publishing(step),
        };
        while !is_there() {
            if !world.step() {
                return Err("the step is never reached".to_owned());
            }
        }
        world.crash(NODE);
        tally.steps += 1;
    }
    let node = start(&world, 2)?;
    look(&node, &world, &oracle, tally)?;
    let unfinished = node.unfinished_blocks(&world);
    if !unfinished.is_empty() {
        return Err(format!("{unfinished:?} are left"));
    }
    node.flush(&world)?;
    look(&node, &world, &oracle, tally)?;
    world.kill(NODE);
    Ok(())
}

/// A node whose recovery is over, and the logs of earlier runs gone.
pub(crate) fn start(world: &World, shards: u16) -> Result<Node, String> {
    let node = begin(world, shards);
    world.run_for(Duration::from_secs(1));
    node.recovered().ok_or("recovery never ends")??;
    Ok(node)
}

/// A node that has just been started.
pub(crate) fn begin(world: &World, shards: u16) -> Node {
    let start = Start {
        shards,
        ack: Ack::Fsync,
        chunk_bytes_max: 4000,
        limits: Limits::default(),
        memory_limit_bytes: 1 << 40,
        spread: SpreadOptions::default(),
        cuts: CUTS_WHEN_ASKED,
        retention: RETENTION,
        log_bytes_max: LOG_BYTES,
        bug: None,
    };
    Node::start(world, start)
}

/// Holds what the node answers against what was acknowledged.
pub(crate) fn look(
    node: &Node,
    world: &World,
    oracle: &RefCell<Oracle>,
    tally: &mut Tally,
) -> Result<(), String> {
    let read = node.read(world, &TENANTS)?.ok_or("a node with memory refuses to read")?;
    let (lost, duplicated) = oracle.borrow().lost_and_duplicated(&read);
    tally.lost += lost;
    tally.duplicated += duplicated;
    if lost + duplicated == 0 { oracle.borrow_mut().check(1, &read).map(drop) } else { Ok(()) }
}

/// A push to each service of each tenant.
pub(crate) fn push_everywhere(
    node: &Node,
    world: &World,
    oracle: &RefCell<Oracle>,
) -> Result<(), String> {
    let (rt, shard) = &node.shards[0];
    for (tenant, service) in places() {
        let number = oracle.borrow().pushed.len();
        let content = Content::numbered(&service, number);
        let profile = encode(&content, rt.unix_ms(), Form::Plain);
        let series = vec![PushedSeries {
            labels: labels(&service, "pod-0"),
            naming: None,
            profiles: vec![profile],
        }];
        let tenant_id = TenantId::parse(&tenant).expect("a legal id");
        let shard = shard.clone();
        let pushed =
            async move { shard.distributor().push_series(&tenant_id, series, Vec::new()).await };
        let stored = world.complete(rt, pushed).ok_or("a push is never answered")?;
        stored.map_err(|failure| failure.message)?;
        oracle.borrow_mut().pushed.push(Pushed {
            place: (tenant, service),
            pod: "pod-0".to_owned(),
            content,
            sound: true,
            answer: Answer::Acknowledged,
            run: 1,
            time_ms: rt.unix_ms(),
            stays: false,
            outlived: false,
        });
    }
    Ok(())
}
