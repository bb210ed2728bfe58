//! An owner's ingest of one core: inflate, decode, normalise, admit, append.
//!
//! `warm`: the tables have seen 20 earlier profiles of each kind. `cold`: fresh tables for each profile. `mix` takes the nine
//! kinds in turn. Times are CPU time of the thread. `naive` is prost and maps keyed by content, without checks or limits.

use std::time::Duration;

use bench::corpus::{self, Series};
use bench::pipeline::Owner;
use bench::{cpu_clock, naive};
use criterion::{Criterion, criterion_group, criterion_main};
use prost::Message;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Profiles of a kind that warm tables have seen.
const WARM_PROFILES: usize = 20;

/// Profiles of a kind that are timed in one iteration.
const TIMED_PROFILES: usize = 7;

/// Which part of an ingest is timed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Intake,
    Append,
}

fn ingest(c: &mut Criterion) {
    let corpus = corpus::load();
    let all: Vec<&Series> = corpus.iter().collect();
    let mut owner = Owner::default();
    let mut group = c.benchmark_group("ingest");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    for (name, part) in [("", Part::Whole), ("/intake", Part::Intake), ("/append", Part::Append)] {
        group.bench_function(format!("warm/mix{name}"), |b| {
            b.iter_custom(|n| (0..n).map(|_| warm(&mut owner, &all, part)).sum());
        });
        group.bench_function(format!("cold/mix{name}"), |b| {
            b.iter_custom(|n| (0..n).map(|_| cold(&mut owner, &all, part)).sum());
        });
    }
    for series in &corpus {
        group.bench_function(format!("warm/{}", series.kind), |b| {
            b.iter_custom(|n| (0..n).map(|_| warm(&mut owner, &[series], Part::Whole)).sum());
        });
        group.bench_function(format!("warm/{}/append", series.kind), |b| {
            b.iter_custom(|n| (0..n).map(|_| warm(&mut owner, &[series], Part::Append)).sum());
        });
        group.bench_function(format!("cold/{}", series.kind), |b| {
            b.iter_custom(|n| (0..n).map(|_| cold(&mut owner, &[series], Part::Whole)).sum());
        });
    }
    group.bench_function("naive/mix", |b| {
        b.iter_custom(|n| (0..n).map(|_| naively(&all)).sum());
    });
    group.finish();
}

/// Time of one profile, averaged over the timed ones of all kinds.
fn warm(owner: &mut Owner, kinds: &[&Series], part: Part) -> Duration {
    owner.forget();
    for at in 0..WARM_PROFILES {
        for series in kinds {
            owner.ingest(series, series.profile(at));
        }
    }
    let mut took = Duration::ZERO;
    for at in WARM_PROFILES..WARM_PROFILES + TIMED_PROFILES {
        for series in kinds {
            took += timed(owner, series, at, part);
        }
    }
    took / (TIMED_PROFILES * kinds.len()) as u32
}

/// The same with tables that have seen nothing.
fn cold(owner: &mut Owner, kinds: &[&Series], part: Part) -> Duration {
    let mut took = Duration::ZERO;
    for at in WARM_PROFILES..WARM_PROFILES + TIMED_PROFILES {
        for series in kinds {
            owner.forget();
            took += timed(owner, series, at, part);
        }
    }
    took / (TIMED_PROFILES * kinds.len()) as u32
}

fn timed(owner: &mut Owner, series: &Series, at: usize, part: Part) -> Duration {
    let start = cpu_clock::now();
    let admission = owner.take_in(series, series.profile(at));
    let middle = cpu_clock::now();
    owner.keep(series, &admission);
    let end = cpu_clock::now();
    match part {
        Part::Whole => end.saturating_sub(start),
        Part::Intake => middle.saturating_sub(start),
        Part::Append => end.saturating_sub(middle),
    }
}

/// The naive rival on warm maps.
fn naively(kinds: &[&Series]) -> Duration {
    let mut took = Duration::ZERO;
    for series in kinds {
        let mut head = naive::Head::default();
        let mut take = |at: usize| {
            let bytes = naive::inflate(series.profile(at));
            let message = proto::pprof::Profile::decode(&*bytes).expect("the corpus is pprof");
            head.append(&message);
        };
        (0..WARM_PROFILES).for_each(&mut take);
        took += cpu_clock::time(|| {
            (WARM_PROFILES..WARM_PROFILES + TIMED_PROFILES).for_each(&mut take);
        });
    }
    took / (TIMED_PROFILES * kinds.len()) as u32
}

criterion_group!(benches, ingest);
criterion_main!(benches);
