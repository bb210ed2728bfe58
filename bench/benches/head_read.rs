//! Reading a head: all `cpu` samples into a dense array by node, and totals alone; and a shard's answers from the heads of an hour.
//!
//! One iteration reads every value of the cpu kinds once; the throughput is values a second. One iteration of `head_select` answers
//! one request; `PYRITE_BENCH_PROFILES` takes fewer profiles than the hour has. Times are CPU time of the thread.

use std::time::Duration;

use bench::corpus::{self, Series};
use bench::cpu_clock;
use bench::pipeline::{Owner, secret};
use bench::population::{self, CPU, selection};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::head::{Head, Heads, Row};
use engine::profile::Step;
use engine::query::Select;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Values that a step reads, as queries do.
const STEP_VALUES: usize = 100_000;

fn head_read(c: &mut Criterion) {
    let corpus = corpus::load();
    let mut owner = Owner::default();
    for series in corpus.iter().filter(|series| series.kind.ends_with("/cpu")) {
        (0..series.profiles.len()).for_each(|at| owner.ingest(series, series.profile(at)));
    }
    let values = values_count(&corpus, &owner.heads);
    let mut dense: Vec<Vec<i64>> =
        owner.heads.iter().map(|(_, head)| vec![0; head.symbols().nodes_count()]).collect();
    let mut group = c.benchmark_group("head_read");
    group.throughput(Throughput::Elements(values));
    for what in ["open", "sealed"] {
        if what == "sealed" {
            owner.heads.seal_aged(0);
            owner.heads.seal_aged(i64::MAX);
        }
        group.bench_function(format!("{what}/dense"), |b| {
            b.iter_custom(|n| {
                cpu_clock::time(|| {
                    for _ in 0..n {
                        for ((_, head), dense) in owner.heads.iter().zip(&mut dense) {
                            read(head, |row| row.add_samples(dense));
                        }
                    }
                })
            });
        });
        group.bench_function(format!("{what}/totals"), |b| {
            b.iter_custom(|n| {
                let mut total = 0_i64;
                let took = cpu_clock::time(|| {
                    for (_, head) in (0..n).flat_map(|_| owner.heads.iter()) {
                        read(head, |row| {
                            total = total.wrapping_add(row.total);
                            0
                        });
                    }
                });
                std::hint::black_box(total);
                took
            });
        });
    }
    group.finish();
}

/// Profiles where every bench runs once, as a test.
const TEST_PROFILES: usize = 300;

fn head_select(c: &mut Criterion) {
    let corpus = corpus::load();
    let is_test = std::env::args().any(|argument| argument == "--test");
    let profiles = if is_test { TEST_PROFILES } else { population::PROFILES };
    let asked = std::env::var("PYRITE_BENCH_PROFILES");
    let profiles = asked.map_or(profiles, |count| count.parse().expect("a number"));
    let mut owner = Owner::default();
    population::push(&corpus, &mut owner, 0..profiles);
    let requests = [
        ("merge/cpu", population::merge(selection(&[CPU]))),
        ("tree/cpu", population::tree(selection(&[CPU]))),
        ("series/cpu", population::points(selection(&[CPU]))),
        ("series/all", population::points(selection(&[]))),
    ];
    let mut group = c.benchmark_group("head_select");
    group.sample_size(10).measurement_time(Duration::from_secs(1));
    for (name, request) in requests {
        group.bench_function(name, |b| {
            b.iter_custom(|n| {
                cpu_clock::time(|| {
                    for _ in 0..n {
                        let select = Select::new(request.clone(), &secret());
                        let mut select = select.expect("a request that is served");
                        while std::hint::black_box(select.step(&owner.heads)).is_none() {}
                    }
                })
            });
        });
    }
    group.finish();
}

fn read(head: &Head, mut f: impl FnMut(Row<'_>) -> usize) {
    let mut cursor = head.cursor();
    while head.scan(|_| true, i64::MIN, i64::MAX, &mut cursor, STEP_VALUES, &mut f) == Step::More {}
}

/// Values of all heads; the fixtures may have none.
fn values_count(corpus: &[Series], heads: &Heads) -> u64 {
    assert!(!corpus.is_empty(), "a corpus has kinds");
    let mut values = 0;
    for (_, head) in heads.iter() {
        read(head, |row| {
            values += u64::from(row.values_count);
            0
        });
    }
    values
}

criterion_group!(benches, head_read, head_select);
criterion_main!(benches);
