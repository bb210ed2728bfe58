//! Stages of an owner's ingest, kind by kind.

use std::time::Duration;

use bench::{corpus, cpu_clock, naive, pipeline};
use criterion::{Criterion, criterion_group, criterion_main};
use engine::head::{Append, HeadOptions, Heads};
use engine::profile::{Admission, Profile, Step};
use engine::tenant::{PartitionKey, TenantId};
use prost::Message;
use proto::pprof;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Profiles of a service that warm tables have seen.
const WARM_PROFILES: usize = 20;

struct Kind {
    name: &'static str,
    key: PartitionKey,
    inputs: Vec<(Profile, Admission)>,
}

fn kinds() -> Vec<Kind> {
    corpus::load()
        .into_iter()
        .map(|series| Kind {
            name: series.kind,
            key: PartitionKey {
                tenant: TenantId::anonymous(),
                service_name: series.service_name().into(),
                split: 0,
            },
            inputs: series
                .profiles
                .iter()
                .map(|gzip| {
                    let message = pprof::Profile::decode(&*naive::inflate(gzip)).unwrap();
                    let profile = pipeline::columns(&message);
                    let admission = pipeline::plain_admission(&profile, series.labels());
                    (profile, admission)
                })
                .collect(),
        })
        .collect()
}

fn append(append: &mut Append, heads: &mut Heads, kind: &Kind, at: usize) {
    let (profile, admission) = &kind.inputs[at % kind.inputs.len()];
    append.begin(heads, &kind.key, profile, admission);
    while append.step(heads, profile, admission) == Step::More {}
}

fn heads() -> Heads {
    Heads::new(pipeline::secret(), HeadOptions::default())
}

fn stages(c: &mut Criterion) {
    let kinds = kinds();
    let mut scratch = Append::default();
    let mut run = |warm: usize, kinds: &[&Kind], iterations: u64| {
        let mut took = Duration::ZERO;
        for i in 0..iterations as usize {
            let mut heads = heads();
            for kind in kinds {
                (0..warm).for_each(|at| append(&mut scratch, &mut heads, kind, at));
            }
            took += cpu_clock::time(|| {
                for kind in kinds {
                    append(&mut scratch, &mut heads, kind, warm + i % 7);
                }
            });
        }
        took / kinds.len() as u32
    };
    let mut group = c.benchmark_group("append");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    let all: Vec<&Kind> = kinds.iter().collect();
    for (name, warm) in [("warm", WARM_PROFILES), ("cold", 0)] {
        group.bench_function(format!("{name}/mix"), |b| b.iter_custom(|n| run(warm, &all, n)));
        for kind in &kinds {
            group.bench_function(format!("{name}/{}", kind.name), |b| {
                b.iter_custom(|n| run(warm, &[kind], n));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
