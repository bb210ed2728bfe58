//! A node of one shard under the simulated runtime: what was acknowledged is read once, whatever becomes of its cuts and its blocks.

mod full_disk;
mod retention;

use std::rc::Rc;

use bytes::Bytes;
use engine::head::HeadOptions;
use engine::limits::Limits;
use engine::route::ShardId;
use engine::spread::SpreadOptions;
use prost::Message as _;
use proto::pprof::{Function, Line, Location, Profile, Sample, ValueType};
use proto::rpc::select::{SelectReply, Selection};
use proto::rpc::{Reply, Request};

use super::*;
use crate::budget::Budget;
use crate::component::distributor::PushedSeries;
use crate::mesh::{self, Mesh};
use crate::overrides::TenantLimits;
use crate::pressure::Pressure;
use crate::readiness::Readiness;
use crate::runtime::sim::{DiskFaults, NodeId, Sim, World};
use crate::runtime::{Clock as _, Spawn as _};
use crate::shard::{Shard, ShardSettings};
use crate::wal::recovery::Share;
use crate::wal::{self, Log};

const NODE: NodeId = NodeId(0);
const PUSHES: usize = 3;
/// Push `i` has the value `1 << i`, so a sum tells which are there, and how often.
const ALL: i64 = (1 << PUSHES) - 1;

struct Node {
    rt: Sim,
    shard: Rc<Shard<Sim>>,
    budget: Budget,
}

/// What a node is started with.
struct Start {
    wal: wal::Settings,
    limits: Limits,
    retention: RetentionSettings,
    memory_bytes: u64,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            wal: wal::Settings { segment_bytes: 1 << 20, ..wal::Settings::default() },
            limits: Limits::default(),
            retention: RetentionSettings::default(),
            memory_bytes: 1 << 30,
        }
    }
}

impl Node {
    fn start(world: &World, run: u128) -> Self {
        Self::start_with(world, run, Start::default())
    }

    fn start_with(world: &World, run: u128, start: Start) -> Self {
        let node = Self::start_empty(world, run, start);
        world.complete(&node.rt, node.recover(run)).unwrap();
        node
    }

    /// Puts back what earlier runs left, and removes their logs.
    fn recover(&self, run: u128) -> impl Future<Output = ()> + use<> {
        let shard = Rc::clone(&self.shard);
        async move { shard.recover(Share::new(ShardId(0), 1, run)).await.unwrap() }
    }

    fn start_empty(world: &World, run: u128, start: Start) -> Self {
        let Start { wal, limits, retention, memory_bytes } = start;
        let rt = world.shard(NODE, 0);
        let log = world.complete(&rt, Log::create(rt.clone(), run, 0, wal)).unwrap().unwrap();
        let budget = Budget::new(memory_bytes, 1);
        let (peers, mut inboxes) = mesh::queues(1);
        let settings = ShardSettings {
            limits: TenantLimits::from(limits),
            budget: budget.of_shard(ShardId(0)),
            heads: HeadOptions::default(),
            spread: SpreadOptions::default(),
            origin: run,
            pressure: Pressure::new(1),
            cuts: Settings::default(),
            retention,
            readiness: Readiness::new(1),
        };
        let mesh = Mesh::new(ShardId(0), peers);
        let shard = Shard::start(rt.clone(), mesh, inboxes.remove(0), settings, log);
        Self { rt, shard, budget }
    }

    fn push(&self, world: &World, value: i64) {
        self.push_of(world, &TenantId::anonymous(), value).unwrap();
    }

    fn push_of(&self, world: &World, tenant: &TenantId, value: i64) -> Result<(), Failure> {
        let tenant = tenant.clone();
        let labels = [("__name__", "process_cpu"), ("service_name", "shop")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let profiles = vec![profile(value, self.rt.unix_ms() * 1_000_000)];
        let series = vec![PushedSeries { labels, naming: None, profiles }];
        let shard = Rc::clone(&self.shard);
        let pushed =
            async move { shard.distributor().push_series(&tenant, series, Vec::new()).await };
        world.complete(&self.rt, pushed).unwrap()
    }

    fn call(&self, world: &World, request: Request) -> Reply {
        let mesh = self.shard.mesh().clone();
        let call = async move { mesh.call(ShardId(0), request).await };
        world.complete(&self.rt, call).expect("a shard answers").unwrap()
    }

    fn flush(&self, world: &World) -> Result<(), Failure> {
        let Reply::Flush(flushed) = self.call(world, Request::Flush) else { unreachable!() };
        flushed
    }

    fn sum(&self, world: &World) -> i64 {
        self.sum_of(world, &TenantId::anonymous())
    }

    fn sum_of(&self, world: &World, tenant: &TenantId) -> i64 {
        match self.tree_of(world, tenant) {
            SelectReply::Tree(part) => part.values.iter().sum(),
            other => panic!("{other:?}"),
        }
    }

    fn tree_of(&self, world: &World, tenant: &TenantId) -> SelectReply {
        let selection = Selection {
            tenants: vec![tenant.as_str().to_owned()],
            matchers: Vec::new(),
            start_ms: 0,
            end_ms: i64::MAX / 1_000_000,
        };
        let request = SelectRequest::Tree { selection, call_site: Vec::new() };
        let Reply::Select(reply) = self.call(world, Request::Select(request)) else {
            unreachable!()
        };
        reply
    }

    fn blocks_count(&self) -> usize {
        self.shard.blocks().list().len()
    }
}

fn profile(value: i64, time_nanos: i64) -> Bytes {
    let texts = ["", "cpu", "nanoseconds", "main"].map(str::to_owned);
    let profile = Profile {
        string_table: texts.into(),
        sample_type: vec![ValueType { r#type: 1, unit: 2 }],
        period_type: Some(ValueType { r#type: 1, unit: 2 }),
        period: 1,
        time_nanos,
        sample: vec![Sample { location_id: vec![1], value: vec![value], label: Vec::new() }],
        location: vec![Location {
            id: 1,
            line: vec![Line { function_id: 1, line: 1 }],
            ..Location::default()
        }],
        function: vec![Function { id: 1, name: 3, ..Function::default() }],
        ..Profile::default()
    };
    profile.encode_to_vec().into()
}

fn pushed(world: &World) -> Node {
    pushed_to(world, Node::start(world, 1))
}

fn pushed_to(world: &World, node: Node) -> Node {
    for push in 0..PUSHES {
        node.push(world, 1 << push);
    }
    assert_eq!(node.sum(world), ALL);
    node
}

/// Names in the tenant's directory.
fn names(world: &World, node: &Node) -> Vec<String> {
    use crate::runtime::Disk as _;
    let (rt, path) = (node.rt.clone(), tenant_path(&TenantId::anonymous()));
    world.complete(&node.rt, async move { rt.list(&path).await }).unwrap().unwrap()
}

#[test]
fn a_cut_that_fails_keeps_its_heads_and_is_tried_again() {
    let world = World::new(5);
    let node = pushed(&world);
    world.set_disk_faults(
        NODE,
        DiskFaults { write_errors_per_mille: 1000, ..DiskFaults::default() },
    );
    let failure = node.flush(&world).unwrap_err();
    assert!(failure.message.contains("flushing tenant anonymous: WriteTables of "), "{failure:?}");
    assert_eq!((node.sum(&world), node.blocks_count()), (ALL, 0));
    world.set_disk_faults(NODE, DiskFaults::default());
    world.run_for(std::time::Duration::from_mins(3));
    assert_eq!((node.sum(&world), node.blocks_count()), (ALL, 1), "without being asked");
}

/// One tenant pushes once and then never again; its record is in the log's first segment.
#[test]
fn a_quiet_tenant_does_not_pin_the_log() {
    for seed in 8..12 {
        let world = World::new(seed);
        let settings = wal::Settings {
            segment_bytes: wal::SEGMENT_BYTES_MIN,
            bytes_max: 4 * wal::SEGMENT_BYTES_MIN,
            ..wal::Settings::default()
        };
        let node = Node::start_with(&world, 1, Start { wal: settings, ..Start::default() });
        let (quiet, busy) = (TenantId::parse("quiet").unwrap(), TenantId::anonymous());
        node.push_of(&world, &quiet, 1 << 40).unwrap();
        let pushes = 150;
        for _ in 0..pushes {
            node.push_of(&world, &busy, 1).unwrap();
        }
        let metric = |name: &str| {
            let samples = node.shard.log().samples();
            samples.iter().find(|sample| sample.name == name).unwrap().value as u64
        };
        assert!(metric("pyrite_wal_segments") > 8, "the log went round");
        assert!(metric("pyrite_wal_disk_bytes") <= metric("pyrite_wal_max_bytes"));
        assert!(node.blocks_count() >= 3, "{} blocks", node.blocks_count());
        assert_eq!((node.sum_of(&world, &quiet), node.sum_of(&world, &busy)), (1 << 40, pushes));
        drop(node);
        world.crash(NODE);
        let node = Node::start_with(&world, 2, Start { wal: settings, ..Start::default() });
        let sums = (node.sum_of(&world, &quiet), node.sum_of(&world, &busy));
        assert_eq!(sums, (1 << 40, pushes), "seed {seed}, after a crash");
    }
}

/// What is left of logs of earlier runs.
fn old_logs(world: &World, node: &Node, run: u128) -> usize {
    use crate::runtime::Disk as _;
    let rt = node.rt.clone();
    let runs = world.complete(&node.rt, async move { rt.list(wal::ROOT).await.unwrap() }).unwrap();
    runs.iter().filter(|name| wal::run_of(name) != Some(run)).count()
}

#[test]
fn a_crash_at_any_moment_of_a_recovery_loses_and_repeats_nothing() {
    let start = || {
        let segment_bytes = wal::SEGMENT_BYTES_MIN;
        let wal = wal::Settings { segment_bytes, ..wal::Settings::default() };
        Start { wal, ..Start::default() }
    };
    let (mut done, mut open) = (0, 0);
    for seed in 0..40 {
        let world = World::new(seed);
        let node = Node::start_with(&world, 1, start());
        let pushes = 40;
        for _ in 0..pushes {
            node.push(&world, 1);
        }
        drop(node);
        world.crash(NODE);
        let node = Node::start_empty(&world, 2, start());
        node.rt.spawn(crate::runtime::Class::Background, node.recover(2));
        let steps = world.random().below(1500);
        for _ in 0..steps {
            world.step();
        }
        if old_logs(&world, &node, 2) == 0 {
            done += 1;
        } else {
            open += 1;
        }
        drop(node);
        world.crash(NODE);
        let node = Node::start_with(&world, 3, start());
        assert_eq!(node.sum(&world), pushes, "seed {seed}, crash after {steps} steps");
        assert_eq!(old_logs(&world, &node, 3), 0, "blocks have all of them");
        drop(node);
        world.crash(NODE);
        let node = Node::start_with(&world, 4, start());
        assert_eq!(node.sum(&world), pushes, "seed {seed}, once more");
    }
    assert!(done > 3 && open > 3, "{done} crashes behind a recovery, {open} in one");
}

/// Its intervals are in the block that does not open: a record that is put back might be counted twice when the block is mended.
#[test]
fn records_of_a_tenant_with_a_damaged_block_are_withheld_until_it_opens() {
    let world = World::new(13);
    let other = TenantId::parse("other").unwrap();
    let node = pushed(&world);
    node.flush(&world).unwrap();
    node.push(&world, 1 << 20); // in the log alone
    node.push_of(&world, &other, 5).unwrap();
    let block = Arc::clone(&node.shard.blocks().list()[0]);
    let path = format!("{ROOT}/anonymous/{}/index", block.meta().ulid);
    drop((block, node));
    world.crash(NODE);
    for (run, is_damaged) in [(2, true), (3, true), (4, false)] {
        // Damaged once, and mended before the last start.
        if run != 3 {
            assert!(world.damage(NODE, &path, |bytes| bytes[100] ^= 1));
        }
        let node = Node::start(&world, run);
        assert_eq!(node.sum_of(&world, &other), 5, "run {run}");
        assert_eq!(old_logs(&world, &node, run) > 0, is_damaged, "run {run}: its log is kept");
        if !is_damaged {
            assert_eq!(node.sum(&world), ALL + (1 << 20));
        }
        drop(node);
        world.crash(NODE);
    }
}

/// The logs of a run with more memory, or of several runs, once did not fit and ended every start.
#[test]
fn a_recovery_cuts_heads_where_memory_has_no_room_for_all() {
    let world = World::new(14);
    let node = Node::start(&world, 1);
    let tenants: Vec<TenantId> =
        (0..60).map(|i| TenantId::parse(&format!("team-{i}")).unwrap()).collect();
    for (tenant, value) in tenants.iter().zip(1..) {
        node.push_of(&world, tenant, value).unwrap();
    }
    let held_bytes = node.budget.accounted_bytes();
    drop(node);
    world.crash(NODE);
    let node = Node::start_empty(&world, 2, Start { memory_bytes: held_bytes, ..Start::default() });
    world.complete(&node.rt, node.recover(2)).unwrap();
    assert!(node.blocks_count() >= 60, "every tenant has one: {}", node.blocks_count());
    for (tenant, value) in tenants.iter().zip(1..) {
        assert_eq!(node.sum_of(&world, tenant), value);
    }
    assert_eq!(old_logs(&world, &node, 2), 0);
}

#[test]
fn heads_are_cut_at_their_age() {
    let world = World::new(6);
    let node = pushed(&world);
    world.run_for(std::time::Duration::from_mins(59));
    assert_eq!(node.blocks_count(), 0);
    world.run_for(std::time::Duration::from_mins(2));
    assert_eq!((node.sum(&world), node.blocks_count()), (ALL, 1));
}

#[test]
fn a_damaged_block_fails_the_reads_of_its_tenant_and_no_others() {
    let world = World::new(7);
    let node = pushed(&world);
    node.flush(&world).unwrap();
    let block = Arc::clone(&node.shard.blocks().list()[0]);
    let path = format!("{ROOT}/anonymous/{}/index", block.meta().ulid);
    drop((block, node));
    world.crash(NODE);
    assert!(world.damage(NODE, &path, |bytes| bytes[100] ^= 1));
    let node = Node::start(&world, 2);
    let stats = |tenant: &str| {
        node.call(&world, Request::Select(SelectRequest::Stats { tenant: tenant.to_owned() }))
    };
    let Reply::Select(SelectReply::Failed(failure)) = stats("anonymous") else {
        panic!("it fails")
    };
    assert_eq!(failure.code, Code::DataLoss);
    assert!(failure.message.contains("index"), "{}", failure.message);
    let other = stats("other");
    assert!(!matches!(other, Reply::Select(SelectReply::Failed(_))), "{other:?}");
}

/// What is not damaged where a read looks is answered exactly, and what is damaged there is an error.
#[test]
fn flipped_bits_make_reads_fail_and_never_tell_a_wrong_number() {
    const ROUNDS: usize = 100;
    const BITS: usize = 10;
    let world = World::new(8);
    let node = pushed(&world);
    node.flush(&world).unwrap();
    let block = Arc::clone(&node.shard.blocks().list()[0]);
    let path = block_path(block.tenant(), block.ulid());
    let mut files: Vec<(String, u64)> =
        block.meta().files.iter().map(|file| (file.name.clone(), file.bytes)).collect();
    files.push((engine::block::META_FILE.to_owned(), 600)); // about as long as it is
    drop((block, node));
    let mut state = 9_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let (mut failed, mut exact) = (0, 0);
    for round in 0..ROUNDS {
        let mut bits = Vec::new();
        for _ in 0..BITS {
            // Few rounds leave the index and meta.json alone, which every read needs: half of them shall.
            let among = if round % 2 == 0 { files.len() as u64 } else { files.len() as u64 - 1 };
            let (name, bytes) = &files[random(among) as usize];
            if round % 2 == 1 && name == engine::block::INDEX_FILE {
                continue;
            }
            bits.push((format!("{path}/{name}"), random(*bytes) as usize, random(8)));
        }
        let flip = |bits: &[(String, usize, u64)]| {
            for (path, byte, bit) in bits {
                let is_there = world.damage(NODE, path, |bytes| {
                    if let Some(byte) = bytes.get_mut(*byte) {
                        *byte ^= 1 << bit;
                    }
                });
                assert!(is_there, "{path}");
            }
        };
        flip(&bits);
        let node = Node::start(&world, round as u128 + 2);
        for read in 0..2 {
            match node.tree_of(&world, &TenantId::anonymous()) {
                SelectReply::Tree(part) => {
                    assert_eq!(part.values.iter().sum::<i64>(), ALL, "round {round}: {bits:?}");
                    exact += 1;
                }
                SelectReply::Failed(failure) => {
                    let names_a_file = bits.iter().any(|(path, _, _)| {
                        failure.message.contains(path.rsplit('/').next().unwrap_or_default())
                    });
                    assert!(names_a_file, "round {round}, read {read}: {failure:?}");
                    failed += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        world.crash(NODE);
        drop(node);
        flip(&bits);
    }
    assert!(failed > ROUNDS / 2 && exact > 0, "{failed} reads failed, {exact} were answered");
    assert_eq!(Node::start(&world, 1000).sum(&world), ALL);
}
