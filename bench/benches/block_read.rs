//! Reading blocks: an hour of the population in 1, 10 and 100 of them, with symbol tables that an earlier read left and without.
//!
//! Bytes come from memory, copied as from the page cache. One iteration answers one request of one shard; times are CPU time of the
//! thread. `PYRITE_BENCH_PROFILES` takes fewer profiles than the hour has.

use std::sync::Arc;
use std::time::Duration;

use bench::corpus;
use bench::cpu_clock;
use bench::pipeline::secret;
use bench::population::{self, Block, CPU, selection};
use criterion::{Criterion, criterion_group, criterion_main};
use engine::block::SymbolCache;
use engine::head::{HeadOptions, Heads};
use engine::query::{Progress, Select};
use proto::rpc::select::{SelectReply, SelectRequest};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Profiles where every bench runs once, as a test: each block needs some.
const TEST_PROFILES: usize = 300;

/// Room for the symbol tables of all blocks.
const CACHE_BYTES: usize = 1 << 30;

fn block_read(c: &mut Criterion) {
    let corpus = corpus::load();
    let is_test = std::env::args().any(|argument| argument == "--test");
    let profiles = if is_test { TEST_PROFILES } else { population::PROFILES };
    let asked = std::env::var("PYRITE_BENCH_PROFILES");
    let profiles = asked.map_or(profiles, |count| count.parse().expect("a number"));
    let first_service = population::service_name(&corpus, 0);
    let of_service = || selection(&[CPU, ("service_name", &first_service)]);
    let requests = [
        ("merge/all", population::merge(selection(&[CPU]))),
        ("merge/service", population::merge(of_service())),
        ("tree/all", population::tree(selection(&[CPU]))),
        ("tree/service", population::tree(of_service())),
        ("series/by_service", population::points(selection(&[]))),
        ("label_names", SelectRequest::LabelNames(selection(&[]))),
        (
            "label_values",
            SelectRequest::LabelValues { selection: selection(&[]), name: "pod".to_owned() },
        ),
    ];
    let mut group = c.benchmark_group("block_read");
    group.sample_size(10).warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(1));
    for blocks_count in [1, 10, 100] {
        let blocks = population::blocks(&corpus, profiles, blocks_count);
        for (name, request) in &requests {
            for warmth in ["cold", "warm"] {
                let is_of_stacks = name.starts_with("merge") || name.starts_with("tree");
                if warmth == "warm" && !is_of_stacks {
                    continue;
                }
                let cache = SymbolCache::new(CACHE_BYTES);
                group.bench_function(format!("{blocks_count}/{name}/{warmth}"), |b| {
                    b.iter_custom(|n| {
                        cpu_clock::time(|| {
                            for _ in 0..n {
                                if warmth == "cold" {
                                    cache.clear();
                                }
                                std::hint::black_box(ask(&blocks, request.clone(), &cache));
                            }
                        })
                    });
                });
            }
        }
    }
    group.finish();
}

fn ask(blocks: &[Block], request: SelectRequest, cache: &SymbolCache) -> SelectReply {
    let heads = Heads::new(secret(), HeadOptions::default());
    let mut select = Select::new(request, &secret()).expect("a request that is served");
    select.read_blocks(blocks.iter().map(|block| Arc::clone(&block.reader)).collect(), cache);
    loop {
        match select.advance(&heads) {
            Progress::More => {}
            Progress::NeedsData { block, ranges } => {
                let is_it = |candidate: &&Block| Arc::ptr_eq(&candidate.reader, &block);
                let block = blocks.iter().find(is_it).expect("a block that was given");
                select.provide(block.read(&ranges));
            }
            Progress::Reply(reply) => return reply,
        }
    }
}

criterion_group!(benches, block_read);
criterion_main!(benches);
