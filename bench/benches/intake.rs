//! Taking a profile in, kind by kind: from received bytes to its admission, before any head sees it. `plain` is the same without
//! inflating, so that the difference is libdeflate's. Times are CPU time of the thread, a profile.
//!
//! The mix, and what a head adds, are in the bench `ingest`.

use std::time::Duration;

use bench::corpus::{self, Series};
use bench::pipeline::Owner;
use bench::{cpu_clock, naive};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Profiles of a kind that a bench cycles through.
const PROFILES: usize = 20;

fn intake(c: &mut Criterion) {
    let mut owner = Owner::default();
    let mut group = c.benchmark_group("intake");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    for series in &corpus::load() {
        let gzip: Vec<Bytes> = series.profiles.iter().take(PROFILES).cloned().collect();
        let plain: Vec<Bytes> = gzip.iter().map(|profile| naive::inflate(profile).into()).collect();
        for (form, profiles) in [("gzip", &gzip), ("plain", &plain)] {
            group.bench_function(BenchmarkId::new(form, series.kind), |b| {
                b.iter_custom(|n| (0..n).map(|_| take_in(&mut owner, series, profiles)).sum());
            });
        }
    }
    group.finish();
}

/// The mean of the profiles.
fn take_in(owner: &mut Owner, series: &Series, profiles: &[Bytes]) -> Duration {
    let all = cpu_clock::time(|| {
        for profile in profiles {
            owner.take_in(series, profile);
        }
    });
    all / profiles.len() as u32
}

criterion_group!(benches, intake);
criterion_main!(benches);
