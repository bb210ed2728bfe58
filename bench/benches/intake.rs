//! Taking a profile in, kind by kind: from received bytes to its admission, before any head sees it. `plain` is the same without
//! inflating, so that the difference is gzip's. Times are CPU time of the thread, a profile.
//!
//! `hostile` is something else: the longest step of an intake whose body costs the most for its bytes. A poll may take 2 ms.
//!
//! The mix, and what a head adds, are in the bench `ingest`.

use std::time::Duration;

use bench::corpus::{self, Series};
use bench::pipeline::Owner;
use bench::{cpu_clock, naive};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use engine::profile::IntakeStep;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Profiles of a kind that a bench cycles through.
const PROFILES: usize = 20;

/// Bytes of the body that is nothing but tables.
const HOSTILE_BYTES: usize = 512 << 10;

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
    let series = &corpus::load()[0];
    let body = Bytes::from(tables_alone(HOSTILE_BYTES));
    group.bench_function("hostile/longest_step", |b| {
        b.iter_custom(|n| (0..n).map(|_| longest_step(&mut owner, series, &body)).sum());
    });
    group.finish();
}

fn longest_step(owner: &mut Owner, series: &Series, body: &Bytes) -> Duration {
    owner.begin(series, body);
    let mut longest = Duration::ZERO;
    loop {
        let mut is_over = false;
        let step = cpu_clock::time(|| is_over = owner.intake.step() != Ok(IntakeStep::More));
        longest = longest.max(step);
        if is_over {
            return longest;
        }
    }
}

/// gzip of nothing, in dynamic blocks of 92 bits that are tables alone (`engine/src/gzip/tests.rs` takes one apart).
fn tables_alone(bytes: usize) -> Vec<u8> {
    let mut body = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut word, mut bits) = (0_u64, 0);
    let mut put = |body: &mut Vec<u8>, value: u64, count: u32| {
        word |= value << bits;
        bits += count;
        while bits >= 8 {
            body.push(word as u8);
            word >>= 8;
            bits -= 8;
        }
    };
    while body.len() < bytes {
        for (value, count) in [(0b100, 3), (0, 5), (0, 5), (18 - 4, 4)] {
            put(&mut body, value, count);
        }
        for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1] {
            put(&mut body, if symbol == 18 { 1 } else { 2 * u64::from(symbol < 2) }, 3);
        }
        for (value, count) in [(0, 1), (127, 7), (0, 1), (107, 7), (0b11, 2), (0b01, 2), (0, 1)] {
            put(&mut body, value, count);
        }
    }
    for (value, count) in [(0b011, 3), (0, 7), (0, 7)] {
        put(&mut body, value, count);
    }
    body.extend_from_slice(&[0; 8]);
    body
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
