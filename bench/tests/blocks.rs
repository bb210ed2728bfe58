//! Blocks of the corpus: they answer what heads answered, their size, and what encoding and reading take.
//!
//! Figures are printed, times in CPU time of the thread, and held to nothing but sizes: run in release to read them.
//! `PYRITE_BENCH_PROFILES` pushes so many profiles of 18 services × 4 pods (17,280 is an hour) in place of each file once.
//! `PYRITE_BENCH_BLOCK_DIR` keeps the files, and what the queries of `docs/duckdb.md` must find in them.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test prints its figures")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bench::corpus::{self, Series};
use bench::cpu_clock;
use bench::pipeline::{Owner, secret};
use bench::population::{self, CPU, merge, points, selection, tree};
use bytes::Bytes;
use engine::block::{BlockEncoder, BlockReader, EncodeStep, INDEX_FILE, META_FILE, SymbolCache};
use engine::head::Heads;
use engine::pace::STRETCH_UNITS_MAX;
use engine::query::{Progress, Select};
use engine::tenant::TenantId;
use proto::rpc::select::{PointsPart, SelectReply, SelectRequest, TreePart};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Files = BTreeMap<&'static str, Vec<u8>>;

#[test]
fn a_block_of_the_corpus_answers_what_its_heads_answered() {
    let corpus = corpus::load();
    let mut owner = Owner::default();
    let profiles = match std::env::var("PYRITE_BENCH_PROFILES") {
        Ok(count) => {
            let count = count.parse().unwrap();
            population::push(&corpus, &mut owner, 0..count);
            count
        }
        Err(_) => push_once(&corpus, &mut owner),
    };
    let cpu = || selection(&[CPU]);
    let questions = [tree(cpu()), merge(cpu()), points(selection(&[]))];
    let expected: Vec<_> =
        questions.iter().map(|request| ask(&owner.heads, None, request.clone())).collect();
    for (reply, took) in &expected {
        println!("from heads: {} in {took:.1?}", what(reply));
    }

    let frozen = owner.heads.freeze(&TenantId::anonymous()).expect("there are heads");
    owner.heads.retire(frozen.id());
    drop(owner.heads.take_unseen());
    let (files, took) = encode(BlockEncoder::new(1, frozen));
    let bytes: usize = files.values().map(Vec::len).sum();
    println!(
        "{profiles} profiles: {:.0} B each, encoded in {:.1} µs each",
        bytes as f64 / profiles as f64,
        took.as_secs_f64() * 1e6 / profiles as f64,
    );
    for (file, content) in &files {
        println!("{file:>20}: {:.1} B a profile", content.len() as f64 / profiles as f64);
    }
    if let Ok(dir) = std::env::var("PYRITE_BENCH_BLOCK_DIR") {
        for (file, bytes) in &files {
            std::fs::write(std::path::Path::new(&dir).join(file), bytes).unwrap();
        }
        let expected = expected_of_sql(&reader_of(&files), &owner.heads, &files);
        std::fs::write(std::path::Path::new(&dir).join("expected.json"), expected).unwrap();
    }
    let reader = reader_of(&files);
    for (request, (expected, _)) in questions.into_iter().zip(expected) {
        let (reply, took) = ask(&owner.heads, Some((&reader, &files)), request);
        println!("from a block: {} in {took:.1?}", what(&reply));
        assert!(told(reply) == told(expected), "a block answers otherwise than its heads");
    }
    if corpus::is_whole(&corpus) {
        // Symbols of few profiles: an hour of the population is far below.
        assert!(bytes <= 5000 * profiles, "{} B a profile", bytes / profiles);
    }
}

fn reader_of(files: &Files) -> Arc<BlockReader> {
    Arc::new(BlockReader::open(&files[META_FILE], &files[INDEX_FILE]).unwrap())
}

/// What the queries of `docs/duckdb.md` have to find: totals, and the functions of the first service with cpu profiles, by cpu and by
/// the last of its types, whose values mostly are second ones.
fn expected_of_sql(reader: &Arc<BlockReader>, heads: &Heads, files: &Files) -> String {
    let group_by = vec!["service_name".to_owned(), "__profile_type__".to_owned()];
    let SelectRequest::Points { selection: all, .. } = points(selection(&[])) else {
        unreachable!()
    };
    let (start, step) = (i64::MAX / 2_000_000, 1);
    let request = SelectRequest::Points {
        selection: all,
        grid_start_ms: start,
        step_ms: step,
        group_by,
        call_site: Vec::new(),
    };
    let block = Some((reader, files));
    let SelectReply::Points(parts) = ask(heads, block, request).0 else { unreachable!() };
    let label = |part: &PointsPart, name: &str| {
        part.labels.iter().find(|(n, _)| n == name).map_or(String::new(), |(_, v)| v.clone())
    };
    let totals: Vec<serde_json::Value> = parts
        .iter()
        .map(|part| {
            let total: i64 = part.points.iter().map(|(_, sum, _)| sum).sum();
            serde_json::json!([label(part, "service_name"), label(part, "__profile_type__"), total])
        })
        .collect();
    let types = parts.iter().map(|part| label(part, "__profile_type__"));
    let profile_type =
        types.clone().find(|t| t.contains(":cpu:")).or_else(|| types.clone().next()).unwrap();
    let chosen = parts.iter().find(|part| label(part, "__profile_type__") == profile_type);
    let service = label(chosen.unwrap(), "service_name");
    let of_service = parts.iter().filter(|part| label(part, "service_name") == service);
    let last_type = of_service.map(|part| label(part, "__profile_type__")).max().unwrap();
    let functions = [profile_type, last_type].map(|profile_type| {
        let of_type = selection(&[("service_name", &service), ("__profile_type__", &profile_type)]);
        let SelectReply::Tree(tree) = ask(heads, block, tree(of_type)).0 else { unreachable!() };
        let (own, total) = by_function(&tree);
        serde_json::json!({"service": service, "type": profile_type, "self": own, "total": total})
    });
    serde_json::json!({ "totals": totals, "functions": functions }).to_string()
}

/// Values of each function: its own, and with what it calls; a function that recurs is counted once a stack.
fn by_function(tree: &TreePart) -> (BTreeMap<&str, i64>, BTreeMap<&str, i64>) {
    let (mut own, mut total) = (BTreeMap::new(), BTreeMap::new());
    for (node, value) in tree.values.iter().enumerate().filter(|(_, value)| **value != 0) {
        let mut names = std::collections::BTreeSet::new();
        let mut at = node as u32;
        *own.entry(&*tree.names[tree.name_ids[node] as usize]).or_default() += value;
        while at != u32::MAX {
            names.insert(&*tree.names[tree.name_ids[at as usize] as usize]);
            at = tree.parents[at as usize];
        }
        for name in names {
            *total.entry(name).or_default() += value;
        }
    }
    (own, total)
}

fn push_once(corpus: &[Series], owner: &mut Owner) -> usize {
    for series in corpus {
        series.profiles.iter().for_each(|profile| owner.ingest(series, profile));
    }
    corpus.iter().map(|series| series.profiles.len()).sum()
}

fn encode(mut encoder: BlockEncoder) -> (Files, Duration) {
    let (mut files, mut longest, mut most_held) = (Files::new(), Duration::ZERO, 0);
    let start = cpu_clock::now();
    loop {
        let before = cpu_clock::now();
        let step = encoder.step();
        longest = longest.max(cpu_clock::now().saturating_sub(before));
        most_held = most_held.max(encoder.bytes_held());
        match step {
            EncodeStep::More => {}
            EncodeStep::Write { file, bytes } => files.entry(file).or_default().extend(bytes),
            EncodeStep::Finished(_) => {
                let units = encoder.longest_stretch();
                println!(
                    "longest step {longest:.1?} and {units} units, held {} KiB at most",
                    most_held >> 10
                );
                assert!(units <= STRETCH_UNITS_MAX, "a step of {units} units");
                return (files, cpu_clock::now().saturating_sub(start));
            }
        }
    }
}

fn ask(
    heads: &Heads,
    block: Option<(&Arc<BlockReader>, &Files)>,
    request: SelectRequest,
) -> (SelectReply, Duration) {
    let start = cpu_clock::now();
    let mut select = Select::new(request, &secret()).unwrap();
    let blocks = block.iter().map(|(reader, _)| Arc::clone(reader)).collect();
    select.read_blocks(blocks, &SymbolCache::default());
    loop {
        match select.advance(heads) {
            Progress::More => {}
            Progress::NeedsData { ranges, .. } => {
                let files = block.unwrap().1;
                let bytes = ranges.iter().map(|range| {
                    let (start, end) = (range.offset, range.offset + range.bytes);
                    Bytes::copy_from_slice(&files[range.file][start as usize..end as usize])
                });
                let bytes = bytes.collect();
                select.provide(bytes);
            }
            Progress::Reply(reply) => return (reply, cpu_clock::now().saturating_sub(start)),
        }
    }
}

fn what(reply: &SelectReply) -> String {
    match reply {
        SelectReply::Tree(part) => format!("a tree of {} nodes", part.parents.len()),
        SelectReply::Profile(parts) => {
            format!("{} nodes", parts.iter().map(|part| part.parents.len()).sum::<usize>())
        }
        SelectReply::Points(parts) => {
            format!("{} points", parts.iter().map(|part| part.points.len()).sum::<usize>())
        }
        SelectReply::Failed(failure) => failure.message.clone(),
        _ => "another answer".to_owned(),
    }
}

/// What an answer says, however its nodes are numbered.
fn told(reply: SelectReply) -> BTreeMap<String, i64> {
    match reply {
        SelectReply::Tree(part) => {
            let mut paths: Vec<String> = Vec::new();
            for (parent, name) in part.parents.iter().zip(&part.name_ids) {
                let parent = paths.get(*parent as usize).cloned().unwrap_or_default();
                paths.push(format!("{parent};{}", part.names[*name as usize]));
            }
            paths.into_iter().zip(part.values).filter(|(_, value)| *value != 0).collect()
        }
        // Parts of all partitions: their number of nodes and sums (the engine's own tests compare them whole).
        SelectReply::Profile(parts) => {
            let nodes = parts.iter().map(|part| part.parents.len()).sum::<usize>();
            let sum = parts.iter().flat_map(|part| &part.values).sum();
            BTreeMap::from([("nodes".to_owned(), nodes as i64), ("sum".to_owned(), sum)])
        }
        other => BTreeMap::from([(format!("{other:?}"), 0)]),
    }
}
