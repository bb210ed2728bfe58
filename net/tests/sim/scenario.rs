//! One seed's life of a node: starts, pushes, faults, and the ways a run may end; checked after every start, and now and then
//! before an end.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use engine::limits::Limits;
use engine::planted::Bug;
use engine::spread::SpreadOptions;
use net::blocks::{self, PublishStep, RetentionSettings};
use net::runtime::Clock;
use net::runtime::sim::{DiskFaults, World};
use net::wal::{Ack, SEGMENT_BYTES_MIN};

use super::clients::{Clients, TENANTS};
use super::node::{CUTS_WHEN_ASKED, LOG_BYTES, NODE, Node, RETENTION, Start};
use super::oracle::{Answer, Oracle};

/// How long a step of publishing is waited for.
const PATIENCE_OF_CRASH: Duration = Duration::from_millis(100);
/// Blocks are kept so long in the lives of some nodes; a clock that jumps makes some of them that old.
const RETENTION_PERIOD: Duration = Duration::from_hours(1);
/// No run is so long.
const RUN_MAX: Duration = Duration::from_mins(30);
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
    pub(crate) cuts: u64,
    pub(crate) cuts_failed: u64,
    /// By retention.
    pub(crate) blocks_removed: u64,
    /// Reads while pushes went on, each held against the oracle.
    pub(crate) reads: u64,
    /// Crashes at a step of publishing that was waited for.
    pub(crate) crashes_while_publishing: u64,
    /// Ends at which heads were cut before the logs were closed.
    pub(crate) last_cuts: u64,
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
    /// 0 keeps everything.
    retention_period: Duration,
    report: Report,
}

/// Runs a seed to its end; `Err` is what a checker found.
pub(crate) fn run(seed: u64, bug: Option<Bug>) -> (Report, Result<(), String>) {
    let world = World::new(seed);
    // Acknowledging from memory promises nothing across a crash, so those seeds know no crash.
    let ack = if world.random().chance(100) { Ack::Memory } else { Ack::Fsync };
    let chunk_bytes_max = world.random().between(200, 4000) as usize;
    let oracle = Rc::default();
    let keeps_all = world.random().chance(700);
    let retention_period = if keeps_all { Duration::ZERO } else { RETENTION_PERIOD };
    let report = Report::default();
    let mut scenario =
        Scenario { world, oracle, bug, ack, chunk_bytes_max, retention_period, report };
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
        let node = self.start(limits, memory_limit_bytes, self.draw_cuts());
        let clients = self.clients(&node);
        if random.chance(300) {
            // Ends while recovery runs, or shortly behind it.
            world.run_for(Duration::from_micros(random.below(30_000)));
        } else {
            match self.recovery(&node) {
                Ok(()) => drop(self.check(&node, &clients)?),
                Err(_) if early && faults.sync_errors_per_mille > 0 => {}
                // The runs before had more memory.
                Err(error)
                    if memory_limit_bytes < MEMORY_BYTES
                        && error.contains("do not fit in memory") => {}
                Err(error) => return Err(error),
            }
            world.set_disk_faults(NODE, faults);
            if random.chance(if self.retention_period.is_zero() { 300 } else { 700 }) {
                let hours = Duration::from_hours(2).as_millis() as u64;
                let by_ms = random.below(2 * hours) as i64 - hours as i64;
                self.outlive(by_ms);
                world.jump_clock(NODE, by_ms);
            }
            world.run_for(Duration::from_micros(random.below(300_000)));
            if faults.capacity_bytes.is_some() && random.chance(700) {
                // Somebody makes room.
                world.set_disk_faults(NODE, DiskFaults::default());
                world.run_for(Duration::from_millis(1_500));
            }
            if random.chance(150) {
                // Long enough that size and age are looked at.
                clients.paused.set(true);
                world.run_for(Duration::from_secs(2));
                clients.paused.set(false);
            }
            if node.recovered() == Some(Ok(())) && random.chance(600) {
                self.check(&node, &clients)?;
                world.run_for(Duration::from_micros(random.below(60_000)));
            }
        }
        self.end(node, &clients)
    }

    /// A healthy node: everything is there, and it takes and keeps a push; in heads, in blocks, and after one more start.
    fn last_run(&mut self) -> Result<(), String> {
        self.world.set_disk_faults(NODE, DiskFaults::default());
        let node = self.start(self.limits(), MEMORY_BYTES, self.draw_cuts());
        let clients = self.clients(&node);
        self.recovery(&node)?;
        self.check(&node, &clients)?;
        let number = self.oracle.borrow().pushed.len();
        self.wait(|| {
            let pushed = &self.oracle.borrow().pushed;
            pushed.iter().skip(number).any(|pushed| pushed.answer == Answer::Acknowledged)
        })
        .map_err(|()| "a healthy node acknowledges nothing".to_owned())?;
        self.check_and_flush(&node, &clients)?;
        self.end(node, &clients)?;
        let node = self.start(no_rate_limit(), MEMORY_BYTES, CUTS_WHEN_ASKED);
        self.recovery(&node)?;
        self.wait(|| node.has_released())
            .map_err(|()| "logs of earlier runs are never removed".to_owned())?;
        let unfinished = node.unfinished_blocks(&self.world);
        if !unfinished.is_empty() {
            return Err(format!("after a start {unfinished:?} are left of blocks that are none"));
        }
        let nobody = Clients::default();
        self.check(&node, &nobody)?;
        self.count(&node, &nobody);
        drop(node);
        Ok(())
    }

    /// What is there before a flush is there after it, and stays.
    fn check_and_flush(&mut self, node: &Node, clients: &Clients) -> Result<(), String> {
        let Some(present) = self.check(node, clients)? else { return Ok(()) };
        node.flush(&self.world).map_err(|text| format!("a healthy node does not flush: {text}"))?;
        self.oracle.borrow_mut().keep(&present);
        self.check(node, clients)?;
        Ok(())
    }

    fn clients(&self, node: &Node) -> Clients {
        Clients::start(&self.world, &self.oracle, self.report.runs, node)
    }

    /// Tells the oracle what may go before this run ends, if the clock jumps.
    fn outlive(&self, by_ms: i64) {
        if !self.retention_period.is_zero() {
            let now_ms = self.world.shard(NODE, 0).unix_ms() + by_ms;
            let kept_ms = self.retention_period.saturating_sub(RUN_MAX).as_millis() as i64;
            self.oracle.borrow_mut().outlive(now_ms - kept_ms);
        }
    }

    fn limits(&self) -> Limits {
        let compactor_blocks_retention_period_ms = self.retention_period.as_millis() as i64;
        Limits { compactor_blocks_retention_period_ms, ..no_rate_limit() }
    }

    /// Some runs refuse pushes before the disk is full.
    fn draw_retention(&self) -> RetentionSettings {
        let random = self.world.random();
        let available_fraction_min = random.between(1, 50) as f64 / 100.0;
        RetentionSettings {
            available_fraction_min,
            is_space_ignored: random.chance(500),
            ..RETENTION
        }
    }

    fn start(&mut self, limits: Limits, memory_limit_bytes: u64, cuts: blocks::Settings) -> Node {
        self.report.runs += 1;
        self.outlive(0);
        let shards = self.world.random().between(1, 4) as u16;
        let Self { ack, chunk_bytes_max, bug, .. } = *self;
        let spread = SpreadOptions::default();
        let retention = self.draw_retention();
        let log_bytes_max = if self.world.random().chance(500) {
            SEGMENT_BYTES_MIN * self.world.random().between(4, 8)
        } else {
            LOG_BYTES
        };
        Node::start(
            &self.world,
            Start {
                shards,
                ack,
                chunk_bytes_max,
                limits,
                memory_limit_bytes,
                spread,
                cuts,
                retention,
                log_bytes_max,
                bug,
            },
        )
    }

    /// Limits that some pushes meet, and memory that some fill.
    fn draw_limits(&self) -> (Limits, u64) {
        let random = self.world.random();
        let mut limits = self.limits();
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

    /// Most runs cut only when they are asked to, some also small heads, or young ones.
    fn draw_cuts(&self) -> blocks::Settings {
        let random = self.world.random();
        match random.below(6) {
            0 => blocks::Settings {
                head_bytes_max: random.between(1, 100_000) as usize,
                ..CUTS_WHEN_ASKED
            },
            1 => blocks::Settings {
                max_block_duration: Duration::from_millis(random.below(500)),
                ..CUTS_WHEN_ASKED
            },
            _ => CUTS_WHEN_ASKED,
        }
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

    /// Reads everything and holds it against the oracle; gives the profiles that are there, where memory is enough to tell.
    /// Pushes wait meanwhile, for the reads of several places are no snapshot; cuts do not.
    fn check(&self, node: &Node, clients: &Clients) -> Result<Option<Vec<usize>>, String> {
        let were_paused = clients.paused.replace(true);
        self.wait(|| clients.under_way.get() == 0)
            .map_err(|()| "a push is never answered".to_owned())?;
        node.settle(&self.world)?;
        node.check_log_size(&self.world)?;
        let read = node.read(&self.world, &TENANTS)?;
        clients.paused.set(were_paused);
        match read {
            Some(read) => self.oracle.borrow_mut().check(self.report.runs, &read).map(Some),
            None if node.memory_limit_bytes < MEMORY_BYTES => Ok(None),
            None => Err("a node with memory for everything refuses to read".to_owned()),
        }
    }

    fn draw_faults(&self) -> DiskFaults {
        let random = self.world.random();
        let healthy = DiskFaults::default();
        let errors = self.ack == Ack::Fsync;
        match random.below(11) {
            0 | 1 => DiskFaults { slowness: random.between(2, 300), ..healthy },
            2 | 3 if errors => {
                DiskFaults { sync_errors_per_mille: random.between(5, 300), ..healthy }
            }
            4 if errors => DiskFaults { name_errors_per_mille: random.between(5, 300), ..healthy },
            5 if errors => DiskFaults { write_errors_per_mille: random.between(5, 200), ..healthy },
            6 | 7 => {
                let more = random.below(3 * SEGMENT_BYTES_MIN);
                let capacity = self.world.disk_used_bytes(NODE) + more;
                DiskFaults { capacity_bytes: Some(capacity), ..healthy }
            }
            _ => healthy,
        }
    }

    fn end(&mut self, node: Node, clients: &Clients) -> Result<(), String> {
        clients.stop();
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
            if self.world.random().chance(500) {
                node.cut_last(&self.world);
                self.report.last_cuts += 1;
            }
            node.close(&self.world);
        } else if self.world.random().chance(300) {
            self.reach_a_step_of_publishing(&node);
        }
        clients.finding()?;
        self.count(&node, clients);
        if ending == Ending::Crash || self.world.random().chance(500) {
            self.world.crash(NODE);
        } else {
            self.world.kill(NODE);
        }
        drop(node);
        Ok(())
    }

    /// Asks for a cut, and goes on until it is at some step, if it gets so far.
    fn reach_a_step_of_publishing(&mut self, node: &Node) {
        let random = self.world.random();
        let step = PublishStep::ALL[random.below(PublishStep::ALL.len() as u64) as usize];
        drop(node.begin_flush());
        let end_ns = self.world.now_ns() + PATIENCE_OF_CRASH.as_nanos() as u64;
        while !node.is_publishing(step) && self.world.now_ns() < end_ns && self.world.step() {}
        self.report.crashes_while_publishing += u64::from(node.is_publishing(step));
    }

    fn count(&mut self, node: &Node, clients: &Clients) {
        self.report.reads += clients.reads.get();
        self.report.cuts += node.counted("pyrite_cuts_total");
        self.report.cuts_failed += node.counted("pyrite_cut_failures_total");
        self.report.blocks_removed += node.counted("pyrite_retention_blocks_removed_total");
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
                .filter(|pushed| pushed.stays && pushed.answer != Answer::Acknowledged)
                .count() as u64,
            ..self.report
        }
    }
}

fn no_rate_limit() -> Limits {
    Limits { ingestion_rate_mb: 0.0, ..Limits::default() }
}
