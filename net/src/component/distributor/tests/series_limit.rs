//! How many series a tenant may have on the node, whichever shards own them.

use engine::limits::Overrides;

use super::*;
use crate::overrides::Update;
use crate::runtime::Spawn as _;
use crate::wal::recovery::Share;

const LIMIT: usize = 20;
/// A second and a bit more: what was refused is asked for again, and what nobody uses has gone back.
const A_WHILE: Duration = Duration::from_secs(3);

fn limited_to(series: usize) -> Limits {
    Limits { ingestion_rate_mb: 0.0, max_global_series_per_tenant: series, ..Limits::default() }
}

fn start(limits: Limits) -> Node {
    recovered(World::new(7), 1, &limits.into())
}

fn recovered(world: World, run: u128, limits: &TenantLimits) -> Node {
    let node = Node::start_in(world, run, limits);
    for ((id, rt), shard) in (0..SHARDS).zip(&node.runtimes).zip(&node.shards) {
        let (shard, share) = (Rc::clone(shard), Share::new(ShardId(id), SHARDS, run));
        rt.spawn(Class::Background, async move {
            shard.recover(share).await.expect("what was written is recovered");
        });
    }
    node.world.run_for(A_WHILE);
    node
}

/// One series of a service; services lie on both shards.
fn service(node: &Node, number: usize) -> PushedSeries {
    let name = format!("service-{number}");
    series(&[("__name__", "process_cpu"), ("service_name", &name)], vec![node.good_profile()])
}

fn push(node: &Node, number: usize) -> Result<(), Failure> {
    node.push(vec![service(node, number)], 0)
}

fn stored(node: &Node, services: std::ops::Range<usize>) -> Vec<usize> {
    services.filter(|number| push(node, *number).is_ok()).collect()
}

/// The sum of a metric over the shards.
fn metric(node: &Node, name: &str) -> u64 {
    let mesh = node.shards[0].mesh().clone();
    let samples = async move {
        let mut samples = Vec::new();
        for shard in mesh.shards() {
            match mesh.call(shard, Request::Metrics).await.unwrap() {
                Reply::Metrics(more) => samples.extend(more),
                other => panic!("{other:?}"),
            }
        }
        samples
    };
    let samples = node.world.complete(&node.runtimes[0], samples).expect("shards answer");
    let of_name = |sample: &&MetricSample| sample.name == name;
    samples.iter().filter(of_name).map(|sample| sample.value as u64).sum()
}

fn flush(node: &Node) {
    let mesh = node.shards[0].mesh().clone();
    let flushed = async move {
        for shard in mesh.shards() {
            let reply = mesh.call(shard, Request::Flush).await;
            assert!(matches!(reply, Ok(Reply::Flush(Ok(())))), "{reply:?}");
        }
    };
    node.world.complete(&node.runtimes[0], flushed).expect("a flush ends");
}

#[test]
fn a_tenant_has_as_many_series_as_its_limit_and_not_one_more() {
    let node = start(limited_to(LIMIT));
    assert_eq!(stored(&node, 0..2 * LIMIT), (0..LIMIT).collect::<Vec<_>>());
    assert_eq!(metric(&node, "pyrite_head_series"), LIMIT as u64);
    let failure = push(&node, LIMIT).unwrap_err();
    assert_eq!((failure.code, failure.reason), (Code::ResourceExhausted, "series_limit"));
    assert_eq!(
        failure.message,
        "Maximum active series limit exceeded (20/20), reduce the number of active streams (reduce labels or reduce label values), or contact your administrator to see if the limit can be increased"
    );
    assert_eq!(failure.retry, Retry::After(Duration::from_mins(1)));
    assert_eq!(stored(&node, 0..LIMIT).len(), LIMIT, "those that are there go on");
}

#[test]
fn shards_that_make_series_at_the_same_time_stay_within_the_limit_together() {
    let node = start(limited_to(LIMIT));
    let all = (0..10 * LIMIT).map(|number| service(&node, number)).collect();
    let failure = node.push(all, 0).unwrap_err();
    assert_eq!(failure.code, Code::ResourceExhausted);
    let there = metric(&node, "pyrite_head_series");
    assert!(there <= LIMIT as u64, "{there} series");
    assert!(there > LIMIT as u64 / 2, "{there} series: the limit is of use");
}

#[test]
fn series_of_a_cut_make_room_for_others() {
    let node = start(limited_to(LIMIT));
    assert_eq!(stored(&node, 0..LIMIT + 1).len(), LIMIT);
    flush(&node);
    node.world.run_for(A_WHILE);
    assert_eq!(metric(&node, "pyrite_places_leases"), 0, "nothing is held of nothing");
    assert_eq!(stored(&node, LIMIT..3 * LIMIT).len(), LIMIT);
}

#[test]
fn a_tenant_asks_for_new_series_in_slices_and_when_refused_once_a_second() {
    let node = start(limited_to(5000));
    assert_eq!(stored(&node, 0..100).len(), 100);
    let asks = metric(&node, "pyrite_places_asks_total");
    assert!((1..=2).contains(&asks), "{asks} asks for 100 series on two shards");
    assert_eq!(stored(&node, 0..100).len(), 100);
    assert_eq!(metric(&node, "pyrite_places_asks_total"), asks, "none for what is there");

    let node = start(limited_to(1));
    push(&node, 0).unwrap();
    let asks = |node: &Node| metric(node, "pyrite_places_asks_total");
    assert_eq!(stored(&node, 1..3).len(), 0);
    let first = asks(&node);
    assert_eq!(stored(&node, 1..50).len(), 0);
    let more = asks(&node) - first;
    assert!(more <= 2, "{more} asks of a refused tenant");
    node.world.run_for(A_WHILE);
    assert!(push(&node, 1).is_err());
    assert!(asks(&node) > first + more, "it is asked again after a while");
}

#[test]
fn without_a_limit_series_are_counted_and_count_when_there_is_one() {
    let limits = TenantLimits::from(limited_to(0));
    let node = recovered(World::new(7), 1, &limits);
    assert_eq!(stored(&node, 0..2 * LIMIT).len(), 2 * LIMIT);
    node.world.run_for(A_WHILE);
    let now = Limits { max_local_series_per_tenant: LIMIT + 30, ..limited_to(0) };
    limits.update(Update { overrides: Arc::new(Overrides::none(now)), is_successful: true });
    assert_eq!(stored(&node, 0..4 * LIMIT).len(), LIMIT + 30);
}

#[test]
fn a_restart_refuses_nothing_of_its_logs_and_counts_anew_when_blocks_have_it() {
    let node = start(limited_to(LIMIT));
    assert_eq!(stored(&node, 0..LIMIT).len(), LIMIT);
    let Node { world, runtimes, budgets, shards, .. } = node;
    world.crash(NodeId(0));
    drop((runtimes, budgets, shards));
    let node = recovered(world, 2, &limited_to(LIMIT / 2).into());
    assert_eq!(metric(&node, "pyrite_shard_profiles_replayed_total"), LIMIT as u64);
    assert_eq!(metric(&node, "pyrite_head_series"), 0, "blocks have all of them");
    assert_eq!(stored(&node, 0..LIMIT).len(), LIMIT / 2);
    assert!(push(&node, LIMIT).unwrap_err().message.contains(" exceeded (10/10), "));
}
