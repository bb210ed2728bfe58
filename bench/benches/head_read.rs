//! Reading a head: all `cpu` samples into a dense array by node, and totals alone.
//!
//! One iteration reads every value of the cpu kinds once; the throughput is values a second. Times are CPU time of the thread.

use bench::corpus::{self, Series};
use bench::cpu_clock;
use bench::pipeline::Owner;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::head::{Head, Heads, Row};
use engine::profile::Step;

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

fn read(head: &Head, mut f: impl FnMut(Row<'_>) -> usize) {
    let mut cursor = head.cursor();
    while head.scan(i64::MIN, i64::MAX, &mut cursor, STEP_VALUES, &mut f) == Step::More {}
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

criterion_group!(benches, head_read);
criterion_main!(benches);
