//! What clients do to a node meanwhile: they push, read, flush, and go away.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use engine::route::ShardId;
use engine::tenant::TenantId;
use futures_util::future::{Either, select};
use net::component::distributor::PushedSeries;
use net::runtime::sim::{Random, Sim, World};
use net::runtime::{Class, Clock, Spawn};
use net::shard::Shard;
use net::wal::IN_DOUBT;
use proto::rpc::spread::{Spread, SpreadRequest};
use proto::rpc::{Reply, Request};

use super::node::Node;
use super::oracle::{Answer, Oracle, Place, Pushed};
use super::profile::{Content, Form, encode, labels};
use super::read;

pub(crate) const TENANTS: [&str; 3] = ["anonymous", "team-b", "team-c"];
const SERVICES: [&str; 2] = ["checkout", "search"];
const PODS: [&str; 3] = ["pod-0", "pod-1", "pod-2"];
const PUSHERS_MAX: u64 = 16;
const READERS_MAX: u64 = 2;
/// Microseconds between two reads of a client, at most.
const READ_PAUSE_US_MAX: u64 = 40_000;
/// Milliseconds between two flushes, at most, in a run that flushes least.
const FLUSH_PAUSE_MS_MAX: u64 = 150;
/// A client that was refused comes again after this long: agents do not hammer either.
const BACKOFF: Duration = Duration::from_millis(100);
/// A client that goes away does so within this time of its push: before, during and after the sync of an ordinary disk.
const PATIENCE_OF_CLIENT: Duration = Duration::from_millis(4);

/// Everywhere that something may have been pushed to.
pub(crate) fn places() -> Vec<Place> {
    TENANTS.iter().flat_map(|tenant| SERVICES.map(|service| place(tenant, service))).collect()
}

fn place(tenant: &str, service: &str) -> Place {
    (tenant.to_owned(), service.to_owned())
}

fn one_of(random: &Random, of: &[&'static str]) -> &'static str {
    of[random.below(of.len() as u64) as usize]
}

/// The clients of one run of the node.
#[derive(Clone, Default)]
pub(crate) struct Clients {
    /// None pushes meanwhile; what was begun goes on, as do reads and flushes.
    pub(crate) paused: Rc<Cell<bool>>,
    /// Pushes without an answer so far.
    pub(crate) under_way: Rc<Cell<u64>>,
    /// Reads that were answered and held against the oracle.
    pub(crate) reads: Rc<Cell<u64>>,
    stopped: Rc<Cell<bool>>,
    /// What the first wrong read gave.
    finding: Rc<RefCell<Option<String>>>,
}

impl Clients {
    /// Starts them: some push, some read, and in some runs somebody flushes again and again.
    pub(crate) fn start(
        world: &World,
        oracle: &Rc<RefCell<Oracle>>,
        run: u64,
        node: &Node,
    ) -> Self {
        let clients = Self::default();
        let random = world.random();
        let client = || {
            let (rt, shard) = &node.shards[random.below(node.shards.len() as u64) as usize];
            Client {
                rt: rt.clone(),
                world: world.clone(),
                shard: Rc::clone(shard),
                oracle: Rc::clone(oracle),
                run,
                clients: clients.clone(),
            }
        };
        for _ in 0..random.between(1, PUSHERS_MAX) {
            let client = client();
            client.rt.clone().spawn(Class::Rpc, client.push_on());
        }
        for _ in 0..random.between(0, READERS_MAX) {
            let client = client();
            client.rt.clone().spawn(Class::Rpc, client.read_on());
        }
        if random.chance(500) {
            let client = client();
            let pause_max = Duration::from_millis(random.between(1, FLUSH_PAUSE_MS_MAX));
            client.rt.clone().spawn(Class::Rpc, client.flush_on(pause_max));
        }
        clients
    }

    pub(crate) fn stop(&self) {
        self.stopped.set(true);
    }

    /// `Err`: what a read gave that was wrong.
    pub(crate) fn finding(&self) -> Result<(), String> {
        self.finding.borrow().clone().map_or(Ok(()), Err)
    }
}

/// One client: of many that push, of a few that read, or the one that flushes.
struct Client {
    rt: Sim,
    world: World,
    shard: Rc<Shard<Sim>>,
    oracle: Rc<RefCell<Oracle>>,
    run: u64,
    clients: Clients,
}

impl Client {
    /// Reads one column of one place after the other: each answer is exact, whatever is pushed, cut and published meanwhile.
    async fn read_on(self) {
        let random = self.world.random();
        while !self.clients.stopped.get() {
            self.rt.sleep(Duration::from_micros(random.below(READ_PAUSE_US_MAX))).await;
            let place = place(one_of(random, &TENANTS), one_of(random, &SERVICES));
            let column = random.below(2) as usize;
            let before = self.oracle.borrow().before_read(&place);
            // What cannot be answered, for recovery runs or memory is short, is no wrong answer; that all can be read when all
            // is well is checked elsewhere.
            let Ok(stacks) = read::stacks(self.shard.mesh(), &place, column).await else {
                continue;
            };
            let oracle = self.oracle.borrow();
            if let Err(text) = oracle.check_while_pushing(&place, column, &before, stacks) {
                let finding = format!("while pushing: {text}");
                self.clients.finding.borrow_mut().get_or_insert(finding);
            }
            self.clients.reads.set(self.clients.reads.get() + 1);
        }
    }

    /// Asks a shard for a cut of everything, again and again; on a bad disk it fails.
    async fn flush_on(self, pause_max: Duration) {
        let random = self.world.random();
        while !self.clients.stopped.get() {
            let pause_us = random.below(pause_max.as_micros() as u64);
            self.rt.sleep(Duration::from_micros(pause_us)).await;
            let shards_count = u64::from(self.shard.mesh().shards_count());
            let to = ShardId(random.below(shards_count) as u16);
            match self.shard.mesh().call(to, Request::Flush).await {
                Ok(Reply::Flush(Ok(()))) => {}
                Ok(Reply::Flush(Err(_))) => self.rt.sleep(BACKOFF).await,
                other => panic!("a flush is answered by its outcome, not by {other:?}"),
            }
        }
    }

    async fn push_on(self) {
        let Clients { stopped, paused, under_way, .. } = &self.clients;
        while !stopped.get() {
            self.rt.sleep(Duration::from_micros(self.world.random().below(60_000))).await;
            if paused.get() {
                continue;
            }
            if self.world.random().chance(30) {
                self.respread();
            }
            under_way.set(under_way.get() + 1);
            let tenant = one_of(self.world.random(), &TENANTS);
            let first = self.oracle.borrow().pushed.len();
            let profiles = self.draw_push(tenant);
            let numbers = first..first + profiles.len();
            let tenant = TenantId::parse(tenant).expect("a legal id");
            let answer = self.push(&tenant, profiles).await;
            for pushed in &mut self.oracle.borrow_mut().pushed[numbers] {
                pushed.answer = answer;
            }
            under_way.set(under_way.get() - 1);
            if matches!(answer, Answer::Refused | Answer::InDoubt) {
                self.rt.sleep(BACKOFF).await;
            }
        }
    }

    /// Tells one shard, and no other, that a service is spread in some way: nothing but balance may depend on it.
    fn respread(&self) {
        let (random, mesh) = (self.world.random(), self.shard.mesh());
        let shards_count = u64::from(mesh.shards_count());
        let request = SpreadRequest {
            tenant: one_of(random, &TENANTS).to_owned(),
            service_name: one_of(random, &SERVICES).to_owned(),
            spread: Some(Spread {
                splits: random.between(1, shards_count) as u32,
                deal: random.below(3) as u32,
            }),
        };
        let to = ShardId(random.below(shards_count) as u16);
        // Nobody waits for its answer.
        drop(mesh.send(to, Request::Spread(request)).expect("few are told at a time"));
    }

    /// Pushes and waits for the answer, or goes away before it is there.
    async fn push(&self, tenant: &TenantId, profiles: Vec<PushedSeries>) -> Answer {
        let alone = profiles.len() == 1;
        let push = pin!(self.shard.distributor().push_series(tenant, profiles, Vec::new()));
        let outcome = if self.world.random().chance(100) {
            let patience_us = PATIENCE_OF_CLIENT.as_micros() as u64;
            let patience = Duration::from_micros(self.world.random().below(patience_us));
            match select(push, pin!(self.rt.sleep(patience))).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right(_) => return Answer::None,
            }
        } else {
            push.await
        };
        match outcome {
            Ok(()) => Answer::Acknowledged,
            // The other profiles of a push that failed may be stored.
            Err(failure) if alone && failure.reason != IN_DOUBT => Answer::Refused,
            Err(_) => Answer::InDoubt,
        }
    }

    /// Several sound profiles, or now and then one that is none: alone, for a push is answered as a whole.
    fn draw_push(&self, tenant: &str) -> Vec<PushedSeries> {
        let random = self.world.random();
        if random.chance(30) {
            return vec![self.draw(tenant, Form::Cut)];
        }
        let form = || if random.chance(500) { Form::Gzip } else { Form::Plain };
        let profiles_count = if random.chance(600) { 1 } else { random.between(2, 3) };
        (0..profiles_count).map(|_| self.draw(tenant, form())).collect()
    }

    /// Draws a profile and tells the oracle of it.
    fn draw(&self, tenant: &str, form: Form) -> PushedSeries {
        let random = self.world.random();
        let service = one_of(random, &SERVICES);
        let pod = one_of(random, &PODS);
        let time_ms = self.rt.unix_ms();
        let mut oracle = self.oracle.borrow_mut();
        let number = oracle.pushed.len();
        // Long names make records of several sectors and blocks, now and then of many.
        let name_bytes = if random.chance(100) { 20_000 } else { 3_000 };
        let name_bytes = random.below(name_bytes) as usize;
        let mut own = format!("own-{number}-");
        while own.len() < name_bytes {
            write!(own, "{:016x}", random.word()).expect("a string takes any text");
        }
        let value = || random.between(1, 1_000_000) as i64;
        let content = Content {
            own: (vec![service.to_owned(), own], [value(), value()]),
            shared: (
                vec![service.to_owned(), format!("shared-{}", random.below(5))],
                [value(), value()],
            ),
        };
        let profile = encode(&content, time_ms, form);
        oracle.pushed.push(Pushed {
            place: (tenant.to_owned(), service.to_owned()),
            pod: pod.to_owned(),
            content,
            sound: form != Form::Cut,
            answer: Answer::None,
            run: self.run,
            time_ms,
            stays: false,
            outlived: false,
        });
        PushedSeries { labels: labels(service, pod), naming: None, profiles: vec![profile] }
    }
}
