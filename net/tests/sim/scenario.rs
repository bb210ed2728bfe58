//! One seed's life of a node: starts, pushes, faults, and the ways a run may end; checked after every start, and now and then
//! before an end.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use engine::limits::Limits;
use engine::planted::Bug;
use engine::route::ShardId;
use engine::spread::SpreadOptions;
use engine::tenant::TenantId;
use futures_util::future::{Either, select};
use net::component::distributor::PushedSeries;
use net::runtime::sim::{DiskFaults, Sim, World};
use net::runtime::{Class, Clock, Spawn};
use net::shard::Shard;
use net::wal::{Ack, IN_DOUBT, SEGMENT_BYTES_MIN};
use proto::rpc::Request;
use proto::rpc::spread::{Spread, SpreadRequest};

use super::node::{NODE, Node, Start};
use super::oracle::{Answer, Oracle, Place, Pushed};
use super::profile::{Content, Form, encode};

const TENANTS: [&str; 2] = ["anonymous", "team-b"];
const SERVICES: [&str; 3] = ["checkout", "search", "billing"];
const CLIENTS_MAX: u64 = 16;
/// A client that was refused comes again after this long: agents do not hammer either.
const BACKOFF: Duration = Duration::from_millis(100);
/// A client that goes away does so within this time of its push: before, during and after the sync of an ordinary disk.
const PATIENCE_OF_CLIENT: Duration = Duration::from_millis(4);
/// Memory of a node that has enough.
const MEMORY_BYTES: u64 = 1 << 40;
/// Virtual time a recovery or a last push may take. Slow disks included; a node that needs longer hangs.
const PATIENCE: Duration = Duration::from_mins(10);

/// What a seed did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) trace: u64,
    pub(crate) runs: u64,
    pub(crate) profiles: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) in_doubt: u64,
    pub(crate) unanswered: u64,
    /// Profiles whose client heard no good news and that are there all the same.
    pub(crate) recovered_unasked: u64,
    pub(crate) sealed: u64,
    pub(crate) starved: u64,
    pub(crate) segments: u64,
}

/// How a run of the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// The power fails.
    Crash,
    /// `kill -9`.
    Kill,
    /// SIGTERM.
    Close,
}

struct Scenario {
    world: World,
    oracle: Rc<RefCell<Oracle>>,
    bug: Option<Bug>,
    ack: Ack,
    chunk_bytes_max: usize,
    report: Report,
}

/// Runs a seed to its end; `Err` is what a checker found.
pub(crate) fn run(seed: u64, bug: Option<Bug>) -> (Report, Result<(), String>) {
    let world = World::new(seed);
    // Acknowledging from memory promises nothing across a crash, so those seeds know no crash.
    let ack = if world.random().chance(100) { Ack::Memory } else { Ack::Fsync };
    let chunk_bytes_max = world.random().between(200, 4000) as usize;
    let oracle = Rc::default();
    let mut scenario =
        Scenario { world, oracle, bug, ack, chunk_bytes_max, report: Report::default() };
    let outcome = scenario.run();
    let report = scenario.reported();
    // Clients are tasks that hold the world that holds the tasks: 17 MB a seed that nobody would free.
    scenario.world.kill(NODE);
    (report, outcome)
}

impl Scenario {
    fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.world.random().between(2, 5) {
            self.one_run()?;
        }
        self.last_run()
    }

    /// A start, a check once recovery is done, pushes under faults, an end.
    fn one_run(&mut self) -> Result<(), String> {
        let world = self.world.clone();
        let random = world.random();
        let faults = self.draw_faults();
        // Some faults are there from the start, most begin later.
        let early = random.chance(200);
        world.set_disk_faults(NODE, if early { faults } else { DiskFaults::default() });
        let (limits, memory_limit_bytes) = self.draw_limits();
        let node = self.start(limits, memory_limit_bytes);
        let clients = Clients::start(self, &node);
        if random.chance(300) {
            // Ends while recovery runs, or shortly behind it.
            world.run_for(Duration::from_micros(random.below(30_000)));
        } else {
            match self.recovery(&node) {
                Ok(()) => self.check(&node, &clients)?,
                Err(_) if early && faults.sync_errors_per_mille > 0 => {}
                // The runs before had more memory.
                Err(error)
                    if memory_limit_bytes < MEMORY_BYTES
                        && error.contains("do not fit in memory") => {}
                Err(error) => return Err(error),
            }
            world.set_disk_faults(NODE, faults);
            if random.chance(300) {
                let hours = Duration::from_hours(2).as_millis() as u64;
                world.jump_clock(NODE, random.below(2 * hours) as i64 - hours as i64);
            }
            world.run_for(Duration::from_micros(random.below(300_000)));
            if faults.capacity_bytes.is_some() && random.chance(700) {
                // Somebody makes room.
                world.set_disk_faults(NODE, DiskFaults::default());
                world.run_for(Duration::from_millis(1_500));
            }
            if node.recovered() == Some(Ok(())) && random.chance(600) {
                self.check(&node, &clients)?;
                world.run_for(Duration::from_micros(random.below(60_000)));
            }
        }
        clients.stop();
        self.end(node);
        Ok(())
    }

    /// A healthy node: everything is there, and it takes and keeps a push.
    fn last_run(&mut self) -> Result<(), String> {
        self.world.set_disk_faults(NODE, DiskFaults::default());
        let node = self.start(no_rate_limit(), MEMORY_BYTES);
        let clients = Clients::start(self, &node);
        self.recovery(&node)?;
        self.check(&node, &clients)?;
        let number = self.oracle.borrow().pushed.len();
        self.wait(|| {
            let pushed = &self.oracle.borrow().pushed;
            pushed.iter().skip(number).any(|pushed| pushed.answer == Answer::Acknowledged)
        })
        .map_err(|()| "a healthy node acknowledges nothing".to_owned())?;
        clients.stop();
        self.end(node);
        let node = self.start(no_rate_limit(), MEMORY_BYTES);
        let clients = Clients::start(self, &node);
        self.recovery(&node)?;
        self.check(&node, &clients)?;
        self.count_logs(&node);
        drop(node);
        Ok(())
    }

    fn start(&mut self, limits: Limits, memory_limit_bytes: u64) -> Node {
        self.report.runs += 1;
        let shards = self.world.random().between(1, 4) as u16;
        let Self { ack, chunk_bytes_max, bug, .. } = *self;
        let spread = SpreadOptions::default();
        let start = Start { shards, ack, chunk_bytes_max, limits, memory_limit_bytes, spread, bug };
        Node::start(&self.world, start)
    }

    /// Limits that some pushes meet, and memory that some fill.
    fn draw_limits(&self) -> (Limits, u64) {
        let random = self.world.random();
        let mut limits = no_rate_limit();
        if random.chance(200) {
            limits.max_profile_size_bytes = random.between(1_000, 10_000) as usize;
        }
        if random.chance(200) {
            limits.ingestion_rate_mb = random.between(1, 10) as f64 / 10.0;
            limits.ingestion_burst_size_mb = 0.1;
        }
        let small = random.chance(200);
        (limits, if small { random.between(100 << 10, 4 << 20) } else { MEMORY_BYTES })
    }

    fn recovery(&self, node: &Node) -> Result<(), String> {
        match self.wait(|| node.recovered().is_some()) {
            Ok(()) => node.recovered().expect("it was waited for"),
            Err(()) => Err("recovery never ends".to_owned()),
        }
        .map_err(|error| format!("recovery is refused: {error}"))
    }

    /// Runs the world until `done`.
    fn wait(&self, done: impl Fn() -> bool) -> Result<(), ()> {
        let end_ns = self.world.now_ns() + PATIENCE.as_nanos() as u64;
        while !done() {
            if self.world.now_ns() > end_ns || !self.world.step() {
                return Err(());
            }
        }
        Ok(())
    }

    /// Reads everything and holds it against the oracle. Clients wait meanwhile: the reads of several places are no snapshot.
    fn check(&self, node: &Node, clients: &Clients) -> Result<(), String> {
        clients.paused.set(true);
        self.wait(|| clients.under_way.get() == 0)
            .map_err(|()| "a push is never answered".to_owned())?;
        node.settle(&self.world)?;
        let places: Vec<Place> = TENANTS
            .iter()
            .flat_map(|tenant| SERVICES.map(|service| ((*tenant).to_owned(), service.to_owned())))
            .collect();
        let read = node.read(&self.world, places)?;
        clients.paused.set(false);
        match read {
            Some(read) => self.oracle.borrow_mut().check(self.report.runs, &read),
            None if node.memory_limit_bytes < MEMORY_BYTES => Ok(()),
            None => Err("a node with memory for everything refuses to read".to_owned()),
        }
    }

    fn draw_faults(&self) -> DiskFaults {
        let random = self.world.random();
        let healthy = DiskFaults::default();
        let errors = self.ack == Ack::Fsync;
        match random.below(10) {
            0 | 1 => DiskFaults { slowness: random.between(2, 300), ..healthy },
            2 | 3 if errors => {
                DiskFaults { sync_errors_per_mille: random.between(5, 300), ..healthy }
            }
            4 if errors => DiskFaults { write_errors_per_mille: random.between(5, 200), ..healthy },
            5 | 6 => {
                let more = random.below(3 * SEGMENT_BYTES_MIN);
                let capacity = self.world.disk_used_bytes(NODE) + more;
                DiskFaults { capacity_bytes: Some(capacity), ..healthy }
            }
            _ => healthy,
        }
    }

    fn end(&mut self, node: Node) {
        self.count_logs(&node);
        let ending = match self.world.random().below(4) {
            _ if self.ack == Ack::Memory => Ending::Close,
            0 => Ending::Kill,
            1 => Ending::Close,
            _ => Ending::Crash,
        };
        if ending == Ending::Close {
            if self.ack == Ack::Memory {
                // Room and a sound disk: what was acknowledged from memory gets written.
                self.world.set_disk_faults(NODE, DiskFaults::default());
                self.world.run_for(Duration::from_secs(2));
            }
            node.close(&self.world);
        }
        if ending == Ending::Crash || self.world.random().chance(500) {
            self.world.crash(NODE);
        } else {
            self.world.kill(NODE);
        }
        drop(node);
    }

    fn count_logs(&mut self, node: &Node) {
        for (_, shard) in &node.shards {
            let metrics = shard.log().metrics();
            self.report.sealed += u64::from(metrics.sealed.get());
            self.report.starved += u64::from(metrics.starved.get());
            self.report.segments += metrics.segments.get();
        }
    }

    fn reported(&self) -> Report {
        let oracle = self.oracle.borrow();
        let count =
            |answer| oracle.pushed.iter().filter(|pushed| pushed.answer == answer).count() as u64;
        Report {
            trace: self.world.trace_hash(),
            profiles: oracle.pushed.len() as u64,
            acknowledged: count(Answer::Acknowledged),
            refused: count(Answer::Refused),
            in_doubt: count(Answer::InDoubt),
            unanswered: count(Answer::None),
            recovered_unasked: oracle
                .pushed
                .iter()
                .filter(|pushed| pushed.recovered && pushed.answer != Answer::Acknowledged)
                .count() as u64,
            ..self.report
        }
    }
}

fn no_rate_limit() -> Limits {
    Limits { ingestion_rate_mb: 0.0, ..Limits::default() }
}

/// The clients of one run of the node.
#[derive(Clone, Default)]
struct Clients {
    stopped: Rc<Cell<bool>>,
    paused: Rc<Cell<bool>>,
    /// Pushes without an answer so far.
    under_way: Rc<Cell<u64>>,
}

impl Clients {
    fn start(scenario: &Scenario, node: &Node) -> Self {
        let clients = Self::default();
        for _ in 0..scenario.world.random().between(1, CLIENTS_MAX) {
            let at = scenario.world.random().below(node.shards.len() as u64) as usize;
            let (rt, shard) = &node.shards[at];
            let client = Client {
                rt: rt.clone(),
                world: scenario.world.clone(),
                shard: Rc::clone(shard),
                oracle: Rc::clone(&scenario.oracle),
                run: scenario.report.runs,
                clients: clients.clone(),
            };
            rt.spawn(Class::Rpc, client.run());
        }
        clients
    }

    fn stop(&self) {
        self.stopped.set(true);
    }
}

/// One client: pushes, waits for the answer, pauses.
struct Client {
    rt: Sim,
    world: World,
    shard: Rc<Shard<Sim>>,
    oracle: Rc<RefCell<Oracle>>,
    run: u64,
    clients: Clients,
}

impl Client {
    async fn run(self) {
        let Clients { stopped, paused, under_way } = &self.clients;
        while !stopped.get() {
            self.rt.sleep(Duration::from_micros(self.world.random().below(60_000))).await;
            if paused.get() {
                continue;
            }
            if self.world.random().chance(30) {
                self.respread();
            }
            under_way.set(under_way.get() + 1);
            let tenant = TENANTS[self.world.random().below(2) as usize];
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
            tenant: TENANTS[random.below(2) as usize].to_owned(),
            service_name: SERVICES[random.below(3) as usize].to_owned(),
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
        let service = SERVICES[random.below(3) as usize];
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
            own: (vec!["main".to_owned(), own], [value(), value()]),
            shared: (
                vec!["main".to_owned(), format!("shared-{}", random.below(5))],
                [value(), value()],
            ),
        };
        let profile = encode(&content, self.rt.unix_ms(), form);
        oracle.pushed.push(Pushed {
            place: (tenant.to_owned(), service.to_owned()),
            content,
            sound: form != Form::Cut,
            answer: Answer::None,
            run: self.run,
            recovered: false,
        });
        PushedSeries {
            labels: vec![
                ("__name__".to_owned(), "process_cpu".to_owned()),
                ("pod".to_owned(), format!("pod-{}", random.below(3))),
                ("service_name".to_owned(), service.to_owned()),
            ],
            naming: None,
            profiles: vec![profile],
        }
    }
}
