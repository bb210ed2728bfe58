//! Pushes to a node of two shards under the simulated runtime, and what they leave behind: texts, accounts, credits.

mod series_limit;

use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use engine::head::HeadOptions;
use engine::route::ShardId;
use engine::spread::SpreadOptions;
use futures_util::future::select;
use prost::Message;
use proto::pprof;
use proto::rpc::MetricSample;
use proto::rpc::spread::{Spread, SpreadRequest};

use super::*;
use crate::budget::{Budget, Kind};
use crate::mesh::{self, REQUESTS_IN_FLIGHT_MAX};
use crate::pressure::Pressure;
use crate::readiness::Readiness;
use crate::runtime::Clock;
use crate::runtime::sim::{NodeId, Sim, World};
use crate::shard::{Shard, ShardSettings};
use crate::wal::{Log, Settings};

const SHARDS: u16 = 2;

struct Node {
    world: World,
    runtimes: Vec<Sim>,
    budgets: Vec<ShardBudget>,
    pressure: Pressure,
    shards: Vec<Rc<Shard<Sim>>>,
}

impl Node {
    fn start() -> Self {
        Self::start_with(Limits { ingestion_rate_mb: 0.0, ..Limits::default() })
    }

    fn start_with(limits: Limits) -> Self {
        Self::start_in(World::new(7), 1, &limits.into())
    }

    fn start_in(world: World, run: u128, limits: &TenantLimits) -> Self {
        let pressure = Pressure::new(SHARDS);
        let budget = Budget::new(1 << 30, SHARDS);
        let readiness = Readiness::new(SHARDS);
        let (peers, inboxes) = mesh::queues(SHARDS);
        let (mut runtimes, mut budgets, mut shards) = (Vec::new(), Vec::new(), Vec::new());
        for (id, inbox) in (0..SHARDS).zip(inboxes) {
            let rt = world.shard(NodeId(0), id);
            let settings = Settings { segment_bytes: 1 << 20, ..Settings::default() };
            let log = Log::create(rt.clone(), run, id, settings);
            let log = world.complete(&rt, log).unwrap().unwrap();
            let budget = budget.of_shard(ShardId(id));
            let settings = ShardSettings {
                limits: limits.clone(),
                budget: budget.clone(),
                heads: HeadOptions::default(),
                spread: SpreadOptions::default(),
                pressure: pressure.clone(),
                origin: (run << 16) + u128::from(id),
                cuts: crate::blocks::Settings::default(),
                retention: crate::blocks::RetentionSettings::default(),
                readiness: readiness.clone(),
            };
            let mesh = Mesh::new(ShardId(id), peers.clone());
            shards.push(Shard::start(rt.clone(), mesh, inbox, settings, log));
            runtimes.push(rt);
            budgets.push(budget);
        }
        Self { world, runtimes, budgets, pressure, shards }
    }

    /// Pushes to the first shard, with a body of `body_bytes` accounted.
    fn push(&self, series: Vec<PushedSeries>, body_bytes: u64) -> Result<(), Failure> {
        let (shard, held) = (Rc::clone(&self.shards[0]), vec![self.budgets[0].hold(body_bytes)]);
        let pushed = async move {
            shard.distributor().push_series(&TenantId::anonymous(), series, held).await
        };
        self.world.complete(&self.runtimes[0], pushed).expect("a push ends")
    }

    /// Bytes of a kind that the shards account.
    fn accounted(&self, kind: Kind) -> u64 {
        self.budgets.iter().map(|budget| budget.used_bytes(kind)).sum()
    }

    fn discarded(&self, reason: &str) -> f64 {
        let (rt, shard) = (self.runtimes[0].clone(), Rc::clone(&self.shards[0]));
        let counters = Rc::clone(&shard.distributor().counters);
        let samples = async move { counters.samples(&rt, 0).await };
        let samples = self.world.complete(&self.runtimes[0], samples).expect("metrics are made");
        let of_reason = |sample: &&MetricSample| {
            sample.name == "pyroscope_discarded_samples_total" && sample.labels[0].1 == reason
        };
        samples.iter().filter(of_reason).map(|sample| sample.value).sum()
    }

    fn good_profile(&self) -> Bytes {
        let strings = ["", "cpu", "nanoseconds", "main"].map(str::to_owned).to_vec();
        let cpu = pprof::ValueType { r#type: 1, unit: 2 };
        let line = pprof::Line { function_id: 1, ..pprof::Line::default() };
        let profile = pprof::Profile {
            sample_type: vec![cpu],
            sample: vec![pprof::Sample { location_id: vec![1], value: vec![1], label: vec![] }],
            location: vec![pprof::Location { id: 1, line: vec![line], ..Default::default() }],
            function: vec![pprof::Function { id: 1, name: 3, ..Default::default() }],
            string_table: strings,
            time_nanos: self.runtimes[0].unix_ms() * 1_000_000,
            period_type: Some(cpu),
            ..pprof::Profile::default()
        };
        profile.encode_to_vec().into()
    }
}

fn series(labels: &[(&str, &str)], profiles: Vec<Bytes>) -> PushedSeries {
    let labels = labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    PushedSeries { labels, naming: None, profiles }
}

#[test]
fn a_gzip_trailer_is_only_a_claim() {
    assert_eq!(claimed_profile_bytes(b"plain"), 5);
    let mut gzip = vec![0x1f, 0x8b];
    gzip.extend([0; 14]);
    gzip.extend(1234u32.to_le_bytes());
    assert_eq!(claimed_profile_bytes(&gzip), 1234);
    gzip[16..].copy_from_slice(&0u32.to_le_bytes());
    assert_eq!(claimed_profile_bytes(&gzip), 20, "what was received is paid for");
    assert_eq!(claimed_profile_bytes(&gzip[..10]), 10, "too short for a gzip member");
}

/// One push of 600 kB killed the process: its 131,072 empty labels were copied, sorted and quoted for each of 100,000 profiles.
#[test]
fn labels_are_looked_at_once_a_series_and_only_so_many() {
    let node = Node::start();
    let labels = vec![("", ""); 131_072];
    let failure = node.push(vec![series(&labels, vec![Bytes::new(); 100_000])], 0).unwrap_err();
    assert_eq!(failure.reason, "max_label_names_per_series");
    let text = "profile series has 131072 label names; limit 30";
    let told = [text; 10].join("; ");
    assert_eq!(failure.message, format!("100000 errors: {told}; and 99990 more"));
    assert!((node.discarded("max_label_names_per_series") - 100_000.0).abs() < 0.5);
    assert_eq!(node.accounted(Kind::InFlight), 0);
}

#[test]
fn long_labels_are_refused_and_their_texts_are_cut() {
    let node = Node::start();
    let long = "x".repeat(SERIES_LABEL_BYTES_MAX);
    let failure = node.push(vec![series(&[("a", &long)], vec![Bytes::new()])], 0).unwrap_err();
    assert_eq!(failure.message, "profile series has labels of 131073 bytes; limit 131072");
    // The owner's words for labels of a hundred kilobytes.
    let good = vec![node.good_profile()];
    let long = &long[..100_000];
    let failure = node.push(vec![series(&[("__name__", "x"), ("a", long)], good)], 0).unwrap_err();
    assert_eq!(failure.reason, "label_value_too_long");
    assert!(failure.message.len() < 9_000 && failure.message.ends_with("bytes in all)"));
}

#[test]
fn a_label_pushed_twice_is_refused_and_the_other_series_are_stored() {
    let node = Node::start();
    let twice = [("a", "1"), ("__name__", "x"), ("a", "2"), ("service_name", "s")];
    let good = [("__name__", "process_cpu"), ("service_name", "s")];
    let profile = node.good_profile();
    let push = vec![series(&twice, vec![profile.clone()]), series(&good, vec![profile])];
    let failure = node.push(push, 0).unwrap_err();
    assert_eq!(
        failure.message,
        r#"profile with labels '{__name__="x", a="1", a="2", service_name="s"}' has duplicate label name: 'a'"#
    );
    assert!(node.accounted(Kind::Heads) > 0);
}

/// Random names of services were kept for ever, whatever became of their profiles.
#[test]
fn services_of_refused_profiles_leave_nothing() {
    let node = Node::start();
    let bad = Bytes::from_static(b"no profile");
    for service in 0..50 {
        let service = format!("service-{service}");
        node.push(vec![series(&[("service_name", &service)], vec![bad.clone()])], 0).unwrap_err();
    }
    let long = "s".repeat(2049);
    let failure = node.push(vec![series(&[("service_name", &long)], vec![bad])], 0).unwrap_err();
    assert_eq!(failure.reason, "label_value_too_long");
    assert_eq!(node.accounted(Kind::InFlight), 0);
}

/// Only the received bytes were accounted: a few kilobytes could make a full node hold 256 MiB more.
#[test]
fn what_an_upload_becomes_is_admitted_while_it_grows() {
    let node = Node::start();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&vec![b'\n'; 32 << 20]).unwrap();
    let body = Bytes::from(encoder.finish().unwrap());
    let ingest = |room_bytes: u64| {
        let budget = node.budgets[0].clone();
        let _full = budget.hold(budget.budget().limit_bytes() / 10 * 9 - room_bytes);
        let (shard, body) = (Rc::clone(&node.shards[0]), body.clone());
        let uploaded = async move {
            let upload = Upload { query: "name=a.cpu", content_type: "", gzip_encoded: true, body };
            shard.distributor().ingest(TenantId::anonymous(), upload, Vec::new()).await
        };
        node.world.complete(&node.runtimes[0], uploaded).expect("an upload ends")
    };
    let failure = ingest(8 << 20).unwrap_err().failure;
    assert_eq!((failure.code, failure.reason), (Code::ResourceExhausted, "memory_limit"));
    assert_eq!(ingest(100 << 20), Ok(()));
    assert_eq!(node.accounted(Kind::InFlight), 0);
}

#[test]
fn a_push_is_refused_on_its_head_where_no_shard_has_time_or_memory() {
    let limits =
        Limits { ingestion_rate_mb: 0.0, ingestion_body_limit_mb: 2048.0, ..Limits::default() };
    let node = Node::start_with(limits);
    let admit = |bytes| {
        let claim = Claim::of_bytes(bytes);
        node.shards[0].distributor().admit_head(&TenantId::anonymous(), claim)
    };
    assert_eq!(admit(1 << 20), Ok(2 << 30));
    assert_eq!(admit(1 << 30).unwrap_err().reason, "memory_limit");
    let waits = |shard| {
        let late = node.pressure.of_shard(ShardId(shard));
        late.note(50_000, 4_000_000);
        late.set_waiting(1 << 40);
    };
    waits(0);
    assert_eq!(admit(1 << 20), Ok(2 << 30), "the other shard has time");
    waits(1);
    let failure = admit(1 << 20).unwrap_err();
    assert_eq!((failure.code, failure.reason), (Code::ResourceExhausted, INGEST_QUEUE_FULL));
    assert!(matches!(failure.retry, Retry::After(_)), "{failure:?}");
    assert!(node.discarded(INGEST_QUEUE_FULL) > 0.0);
    let good = series(&[("__name__", "process_cpu")], vec![node.good_profile()]);
    assert_eq!(node.push(vec![good], 0), Ok(()), "a queue that is empty takes what comes");
}

/// A client that went away freed the account of its body while its profiles, slices of that body, still waited at their owners.
#[test]
fn a_body_is_accounted_until_its_last_profile_is_answered_though_the_client_is_gone() {
    const BODY_BYTES: u64 = 10 << 20;
    let node = Node::start();
    let labels = [("__name__", "process_cpu"), ("service_name", "checkout")];
    let push = vec![series(&labels, vec![node.good_profile(); 3])];
    let (rt, shard) = (node.runtimes[0].clone(), Rc::clone(&node.shards[0]));
    let held = vec![node.budgets[0].hold(BODY_BYTES)];
    let left_early = async move {
        let tenant = TenantId::anonymous();
        let pushed = shard.distributor().push_series(&tenant, push, held);
        let all_sent = async {
            while shard.mesh().in_flight() < 3 {
                rt.sleep(Duration::from_micros(1)).await;
            }
        };
        select(pin!(pushed), pin!(all_sent)).await;
        shard.mesh().in_flight()
    };
    let in_flight = node.world.complete(&node.runtimes[0], left_early).expect("the client leaves");
    assert_eq!(in_flight, 3, "all profiles are with their owner");
    assert!(node.accounted(Kind::InFlight) >= BODY_BYTES);
    node.world.run_for(Duration::from_secs(1));
    assert!(node.accounted(Kind::InFlight) < 1_000, "what is left is the partition's number");
    assert_eq!(node.shards[0].mesh().in_flight(), 0, "credits are back");
    // The numbers of the three are used up.
    let tenant = TenantId::anonymous();
    let key = PartitionKey { tenant, service_name: "checkout".into(), split: 0 };
    assert_eq!(node.shards[0].distributor().numbers.next(&key), 4);
}

/// The log's bytes were told after each job only: a node at its limit takes no job, and stayed at its limit.
#[test]
fn the_account_of_an_idle_node_is_its_heads_alone() {
    let node = Node::start();
    for service in ["checkout", "search", "billing", "cart"] {
        let labels = [("__name__", "process_cpu"), ("service_name", service)];
        node.push(vec![series(&labels, vec![node.good_profile(); 20])], 0).unwrap();
    }
    node.world.run_for(Duration::from_millis(50));
    assert!(node.accounted(Kind::Heads) > 0);
    assert_eq!(node.accounted(Kind::Log), 0, "all groups are settled");
}

#[test]
fn a_push_refused_for_want_of_credit_is_counted() {
    let node = Node::start();
    let labels = [("__name__", "process_cpu"), ("service_name", "checkout")];
    let (shard, profile) = (Rc::clone(&node.shards[0]), node.good_profile());
    let distributor = shard.distributor();
    let limits = Limits::default();
    let route =
        route(&TenantId::anonymous(), &limits, &distributor.spreads, series(&labels, Vec::new()))
            .expect("the labels are good");
    // Nobody runs meanwhile, so no reply gives credit back.
    let held = Rc::new(Vec::new());
    for _ in 0..REQUESTS_IN_FLIGHT_MAX {
        let sent = distributor.send(&route, profile.clone(), Rc::clone(&held));
        assert!(sent.is_ok());
    }
    let push = Push { tenant: &route.key.tenant, limits: &limits, is_charged: true, held };
    let one_more = distributor.push_one(push, &route, profile);
    let failure = futures_executor::block_on(one_more).unwrap_err();
    assert_eq!(failure.reason, "mesh_full");
    assert!((node.discarded("mesh_full") - 1.0).abs() < 0.5);
}

/// What a shard knows of a service's spread decides where it sends that service's series, and no other shard's knowledge.
#[test]
fn series_of_a_spread_service_go_to_the_splits_of_their_labels() {
    let node = Node::start();
    let spread = |splits| {
        let request = SpreadRequest {
            tenant: TenantId::anonymous().as_str().to_owned(),
            service_name: "checkout".to_owned(),
            spread: Some(Spread { splits, deal: 0 }),
        };
        let mesh = node.shards[0].mesh().clone();
        let told = async move { mesh.call(ShardId(0), Request::Spread(request)).await };
        node.world.complete(&node.runtimes[0], told).expect("an answer comes").expect("it is told");
    };
    let push = |shard: usize| {
        let pods = (0..64).map(|pod| {
            let pod = format!("pod-{pod}");
            let labels = [("__name__", "process_cpu"), ("pod", &pod), ("service_name", "checkout")];
            series(&labels, vec![node.good_profile()])
        });
        let (shard, pods) = (Rc::clone(&node.shards[shard]), pods.collect());
        let pushed = async move {
            shard.distributor().push_series(&TenantId::anonymous(), pods, Vec::new()).await
        };
        node.world.complete(&node.runtimes[0], pushed).expect("a push ends").expect("it is taken");
    };
    let stored = || {
        let stored = node.shards.iter();
        stored.map(|shard| shard.distributor().counters.profiles_stored.get()).collect::<Vec<_>>()
    };
    let home = usize::from(shard_of("anonymous", "checkout", 0, SHARDS).0);
    push(0);
    assert_eq!((stored()[home], stored()[1 - home]), (64, 0));
    spread(2);
    push(0);
    let once = stored();
    assert_eq!(once[0] + once[1], 128, "each in one split");
    assert!((25..=39).contains(&once[1 - home]), "{once:?}");
    push(0);
    let again = stored()[1 - home] - once[1 - home];
    assert_eq!(again, once[1 - home], "equal labels have one split");
    push(1);
    assert_eq!(stored()[1 - home], 2 * again, "the other shard was told nothing");
    spread(1);
    push(0);
    assert_eq!(stored()[1 - home], 2 * again);
    // Splits number their profiles by themselves.
    let numbers = &node.shards[0].distributor().numbers;
    let next = |split| {
        let tenant = TenantId::anonymous();
        numbers.next(&PartitionKey { tenant, service_name: "checkout".into(), split })
    };
    assert_eq!((next(0), next(1)), (4 * 64 - 2 * again + 1, 2 * again + 1));
}

#[test]
fn a_spent_rate_says_when_to_come_back_and_refuses_until_then_on_the_head() {
    let mb = 1.0 / 1024.0;
    let limits =
        Limits { ingestion_rate_mb: mb, ingestion_burst_size_mb: 4.0 * mb, ..Limits::default() };
    let node = Node::start_with(limits);
    let profile = |bytes: usize| Bytes::from(vec![0; bytes]);
    let push = |bytes| {
        let labels = vec![("service_name".to_owned(), "a".to_owned())];
        node.push(vec![PushedSeries { labels, naming: None, profiles: vec![profile(bytes)] }], 0)
    };
    let label_bytes = "service_namea".len();
    let admit = |bytes| {
        let claim = Claim::of_bytes(bytes);
        node.shards[0].distributor().admit_head(&TenantId::anonymous(), claim)
    };
    assert_eq!(push(3072 - label_bytes).unwrap_err().reason, "malformed_profile", "3 of 4 kB");
    assert!(admit(1 << 20).is_ok(), "nothing was refused yet");
    let refused = push(3072 - label_bytes).unwrap_err();
    assert_eq!(refused.reason, "rate_limited");
    let Retry::After(wait) = refused.retry else { panic!("{refused:?}") };
    assert!((1_990..=2_000).contains(&wait.as_millis()), "two more at one a second: {wait:?}");
    assert!(admit(3000).is_ok(), "a shorter one may pass");
    let head = admit(3072).unwrap_err();
    assert_eq!(head.message, "push rate limit (1.0 KiB) exceeded while adding 3.0 KiB");
    assert!(matches!(head.retry, Retry::After(_)), "{head:?}");

    let rt = node.runtimes[0].clone();
    node.world.complete(&node.runtimes[0], async move { rt.sleep(wait).await }).unwrap();
    assert!(admit(3072).is_ok());
    assert_eq!(push(3072 - label_bytes).unwrap_err().reason, "malformed_profile");
    let never = push(5000).unwrap_err();
    assert_eq!((never.reason, never.retry), ("rate_limited", Retry::Never), "above the burst");
}
