//! A service too hot for one shard, in minutes of virtual time: it is spread by itself, and everything is there once.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use engine::limits::Limits;
use engine::route::shard_of;
use engine::spread::SpreadOptions;
use engine::tenant::TenantId;
use net::component::distributor::PushedSeries;
use net::runtime::sim::World;
use net::runtime::{Class, Clock, Spawn};
use net::wal::Ack;
use proto::rpc::{Reply, Request};

use super::node::{CUTS_WHEN_ASKED, LOG_BYTES, Node, RETENTION, Start};
use super::oracle::{Answer, Oracle, Pushed};
use super::profile::{Content, Form, encode, labels};

const SHARDS: u16 = 2;
const PODS: usize = 64;
const SERVICE: &str = "checkout";
/// Of virtual time; each pod pushes every second.
const ROUND: Duration = Duration::from_secs(1);
const ROUNDS: usize = 90;

/// Pushes, and says how the last third of the profiles was shared.
pub(crate) fn run() -> Result<String, String> {
    let world = World::new(1);
    let limits = Limits { ingestion_rate_mb: 0.0, ..Limits::default() };
    let start = || Start {
        shards: SHARDS,
        ack: Ack::Fsync,
        chunk_bytes_max: 4000,
        limits: limits.clone(),
        memory_limit_bytes: 1 << 40,
        // Simulated profiles cost what their bytes cost at least.
        spread: SpreadOptions { loaded_share: 1e-6, quiet_share: 1e-7, ..SpreadOptions::default() },
        cuts: CUTS_WHEN_ASKED,
        retention: RETENTION,
        log_bytes_max: LOG_BYTES,
        bug: None,
    };
    let node = Node::start(&world, start());
    let oracle = Rc::new(RefCell::new(Oracle::default()));
    for pod in 0..PODS {
        let (rt, shard) = &node.shards[pod % usize::from(SHARDS)];
        let (rt, shard, oracle) = (rt.clone(), Rc::clone(shard), Rc::clone(&oracle));
        rt.clone().spawn(Class::Rpc, async move {
            for _ in 0..ROUNDS {
                rt.sleep(ROUND).await;
                let number = oracle.borrow().pushed.len();
                let content = Content::numbered(SERVICE, number);
                let profile = encode(&content, rt.unix_ms(), Form::Gzip);
                oracle.borrow_mut().pushed.push(Pushed {
                    place: ("anonymous".to_owned(), SERVICE.to_owned()),
                    pod: format!("pod-{pod}"),
                    content,
                    sound: true,
                    answer: Answer::None,
                    run: 1,
                    time_ms: rt.unix_ms(),
                    stays: false,
                    outlived: false,
                });
                let labels = labels(SERVICE, &format!("pod-{pod}"));
                let series = vec![PushedSeries { labels, naming: None, profiles: vec![profile] }];
                let tenant = TenantId::anonymous();
                let stored = shard.distributor().push_series(&tenant, series, Vec::new()).await;
                stored.expect("a healthy node takes every push");
                oracle.borrow_mut().pushed[number].answer = Answer::Acknowledged;
            }
        });
    }
    let home = usize::from(shard_of("anonymous", SERVICE, 0, SHARDS).0);
    world.run_for(ROUND * 3);
    let first = stored(&node, &world)?;
    if first[1 - home] > 0.0 {
        return Err(format!("{first:?} profiles by shard after three seconds, home is {home}"));
    }
    world.run_for(ROUND * (2 * ROUNDS as u32 / 3 - 3));
    let before = stored(&node, &world)?;
    world.run_for(ROUND * (ROUNDS as u32));
    let after = stored(&node, &world)?;
    let last: Vec<f64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
    let all: f64 = last.iter().sum();
    if last.iter().any(|one| !(0.4..=0.6).contains(&(one / all))) {
        return Err(format!("the last third is shared {last:?}"));
    }
    check(&node, &world, &oracle, 1)?;
    world.crash(super::node::NODE);
    drop(node);
    // Another number of shards, and what was spread before.
    let node = Node::start(&world, Start { shards: 3, ..start() });
    world.run_for(Duration::from_mins(1));
    node.recovered().ok_or("recovery never ends")??;
    check(&node, &world, &oracle, 2)?;
    let told = format!("{} pushes, the last third shared {last:?}", oracle.borrow().pushed.len());
    world.kill(super::node::NODE);
    Ok(told)
}

fn check(node: &Node, world: &World, oracle: &RefCell<Oracle>, run: u64) -> Result<(), String> {
    let read = node.read(world, &["anonymous"])?.ok_or("a node with memory refuses to read")?;
    oracle.borrow_mut().check(run, &read).map(drop)
}

/// Profiles stored by shard so far, as `/metrics` tells them.
fn stored(node: &Node, world: &World) -> Result<Vec<f64>, String> {
    let (rt, shard) = &node.shards[0];
    let mesh = shard.mesh().clone();
    let asked = async move {
        let mut counts = Vec::new();
        for shard in mesh.shards() {
            let reply = mesh.call(shard, Request::Metrics).await;
            let Ok(Reply::Metrics(samples)) = reply else { return Err("no metrics".to_owned()) };
            let stored = |name: &str| name == "pyrite_shard_profiles_total";
            counts.push(samples.iter().find(|one| stored(one.name)).map_or(0.0, |one| one.value));
        }
        Ok(counts)
    };
    world.complete(rt, asked).ok_or("metrics never come")?
}
