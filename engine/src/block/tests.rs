//! Laws of blocks: what heads answered, their block answers; damage is told and never answered.

mod damage;
mod joined;
mod sharing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proto::rpc::select::{MatchOp, ProfilePart, SelectReply, SelectRequest, TreePart};

use super::schema::SHARING_VERSION;
use super::*;
use crate::head::{Frozen, Heads};
use crate::pace::{Pace, STRETCH_UNITS_MAX, run};
use crate::query::tests::{Kind, Pushed, heads_of, pushed, secret, selection};
use crate::query::{Progress, Select};
use crate::tenant::TenantId;

/// The files of a block by name.
type Files = BTreeMap<String, Vec<u8>>;

const ULID: u128 = 0x0192_4a3b_5c6d_7e8f_9012_3456_789a_bcde;

fn encode(ulid: u128, frozen: Arc<Frozen>) -> Option<Files> {
    let (mut encoder, mut files) = (BlockEncoder::new(ulid, frozen), Files::new());
    loop {
        match encoder.step() {
            EncodeStep::More => {}
            EncodeStep::Write { file, bytes } => {
                assert!(!files.contains_key(META_FILE), "meta.json is the last, and whole");
                files.entry(file.to_owned()).or_default().extend(bytes);
            }
            EncodeStep::Finished(meta) => {
                assert!(encoder.longest_stretch() <= STRETCH_UNITS_MAX, "steps are bounded");
                let meta = meta?;
                assert_eq!(Meta::from_bytes(&files[META_FILE]), Ok(meta.clone()));
                for facts in &meta.files {
                    assert_eq!(*facts, FileFacts::of(&facts.name, &files[&facts.name]));
                }
                assert_eq!(files.len(), meta.files.len() + 1, "meta.json tells of all others");
                return Some(files);
            }
        }
    }
}

fn index_of(bytes: &[u8]) -> Result<Index, BlockError> {
    run(Index::from_bytes(bytes, &Pace::new()))
}

fn block_of(heads: &mut Heads) -> Option<Files> {
    block_as(ULID, heads)
}

fn block_as(ulid: u128, heads: &mut Heads) -> Option<Files> {
    let frozen = heads.freeze(&TenantId::parse("t").unwrap())?;
    heads.retire(frozen.id());
    drop(heads.take_unseen());
    encode(ulid, frozen)
}

pub(crate) fn open(files: &Files) -> Result<Arc<BlockReader>, BlockError> {
    BlockReader::open(&files[META_FILE], &files[INDEX_FILE]).map(Arc::new)
}

/// Asks heads and a block; gives the answer and the bytes that were read of each file.
fn ask(
    heads: &Heads,
    block: Option<(&Arc<BlockReader>, &Files)>,
    request: SelectRequest,
) -> (SelectReply, BTreeMap<&'static str, u64>) {
    ask_keeping(heads, block, request, &SymbolCache::default())
}

fn ask_keeping(
    heads: &Heads,
    block: Option<(&Arc<BlockReader>, &Files)>,
    request: SelectRequest,
    cache: &SymbolCache,
) -> (SelectReply, BTreeMap<&'static str, u64>) {
    let mut select = Select::new(request, &secret()).unwrap();
    let mut read = BTreeMap::new();
    let blocks = block.iter().map(|(reader, _)| Arc::clone(reader)).collect();
    select.read_blocks(blocks, cache);
    loop {
        match select.advance(heads) {
            Progress::More => {}
            Progress::NeedsData { ranges, .. } => {
                let files = block.unwrap().1;
                let bytes = ranges.iter().map(|range| {
                    *read.entry(range.file).or_default() += range.bytes;
                    let (start, end) = (range.offset, range.offset + range.bytes);
                    Bytes::copy_from_slice(&files[range.file][start as usize..end as usize])
                });
                let bytes = bytes.collect();
                select.provide(bytes);
            }
            Progress::Reply(reply) => return (reply, read),
        }
    }
}

/// Every kind of question, about all and about a part.
fn questions() -> Vec<SelectRequest> {
    let all = selection(&[], i64::MIN / 2_000_000, i64::MAX / 2_000_000);
    let part = selection(
        &[("service_name", MatchOp::NotEqual, "u"), ("env", MatchOp::Regex, "|p.*")],
        20,
        120,
    );
    let mut questions = Vec::new();
    for selection in [all, part] {
        let names = vec!["env".to_owned(), "service_name".to_owned()];
        let value = "env".to_owned();
        questions.extend([
            SelectRequest::LabelNames(selection.clone()),
            SelectRequest::LabelValues { selection: selection.clone(), name: value },
            SelectRequest::Series { selection: selection.clone(), label_names: names },
            SelectRequest::Series { selection: selection.clone(), label_names: Vec::new() },
        ]);
        for call_site in [Vec::new(), vec!["a".to_owned()]] {
            questions.extend([
                SelectRequest::Points {
                    selection: selection.clone(),
                    grid_start_ms: 0,
                    step_ms: 15,
                    group_by: vec!["service_name".to_owned()],
                    call_site: call_site.clone(),
                },
                SelectRequest::Tree { selection: selection.clone(), call_site: call_site.clone() },
                SelectRequest::Profile { selection: selection.clone(), call_site },
            ]);
        }
    }
    questions.push(SelectRequest::Stats { tenant: "t".to_owned() });
    questions
}

/// What an answer says, however its nodes are numbered.
pub(crate) fn told(reply: SelectReply) -> BTreeMap<String, i64> {
    match reply {
        SelectReply::Tree(part) => tree_told(&part),
        SelectReply::Profile(parts) => {
            let parts = parts.iter().map(profile_told);
            parts.flatten().fold(BTreeMap::new(), |mut all, (stack, value)| {
                *all.entry(stack).or_default() += value;
                all
            })
        }
        other => BTreeMap::from([(format!("{other:?}"), 0)]),
    }
}

fn tree_told(part: &TreePart) -> BTreeMap<String, i64> {
    let mut paths: Vec<String> = Vec::new();
    for (parent, name) in part.parents.iter().zip(&part.name_ids) {
        let parent = paths.get(*parent as usize).cloned().unwrap_or_default();
        paths.push(format!("{parent};{}", part.names[*name as usize]));
    }
    paths.into_iter().zip(part.values.iter().copied()).collect()
}

fn profile_told(part: &ProfilePart) -> Vec<(String, i64)> {
    let text = |id: u32| part.strings[id as usize].as_str();
    let mut paths: Vec<String> = Vec::new();
    for (parent, location) in part.parents.iter().zip(&part.location_ids) {
        let parent = paths.get(*parent as usize).cloned().unwrap_or_default();
        let location = part.locations.get(*location as usize).map(|l| {
            let mapping = part.mappings.get(l.mapping as usize).map(|m| {
                (text(m.filename), text(m.build_id), m.memory_start, m.memory_limit, m.file_offset)
            });
            let lines = l.lines.iter().map(|(function, line)| {
                let f = &part.functions[*function as usize];
                (text(f.name), text(f.system_name), text(f.filename), f.start_line, *line)
            });
            (mapping, l.address, l.is_folded, lines.collect::<Vec<_>>())
        });
        paths.push(format!("{parent};{location:?}"));
    }
    paths.into_iter().zip(part.values.iter().copied()).collect()
}

/// Types of which the first two always have the same stacks, and the fourth now and then those of the third.
const KINDS: &[Kind] = &[
    ("cpu", |value| value),
    ("samples", |value| value * 3 + 1),
    ("idle", |value| value % 3),
    ("rare", |value| value % 6),
];

/// Profiles of several types; some share their stacks.
fn sample_pushes() -> Vec<Pushed> {
    let of_kinds = |push| Pushed { kinds: KINDS, ..push };
    pushes_of_one_type().into_iter().map(of_kinds).collect()
}

fn pushes_of_one_type() -> Vec<Pushed> {
    let mut pushes = Vec::new();
    for turn in 0..60 {
        let stacks = [
            ("a;b;c", turn + 1),
            ("a;b;d|e;@1f", 3),
            ("-x;b", 5 + turn % 7),
            ("", 2),
            ("a;b", turn),
        ];
        let service = ["s", "t", "u"][turn as usize % 3];
        let labels: &'static [(&str, &str)] =
            [&[("env", "prod")][..], &[("env", "dev"), ("ü\"", "\n")], &[]][turn as usize % 4 % 3];
        pushes.push(Pushed { labels, ..pushed(service, 200 - turn * 3, &stacks) });
    }
    pushes.push(Pushed { tenant: "other", ..pushed("secret", 1, &[("x", 1)]) });
    pushes
}

fn sample_block() -> Files {
    block_of(&mut heads_of(&sample_pushes())).unwrap()
}

#[test]
fn a_block_answers_what_its_heads_answered() {
    let shapes = bolero::check!().with_type::<Vec<Shape>>();
    shapes.with_max_len(512).for_each(|shape| holds_the_same(&pushes_of(shape)));
    holds_the_same(&sample_pushes());
}

/// What a push is made of: service, labels, time, stacks with their values.
type Shape = (u8, u8, u8, Vec<(u8, u16)>);

fn pushes_of(shape: &[Shape]) -> Vec<Pushed> {
    let frames = ["a", "b", "c|d", "@1f", "-e", "a|b|c"];
    let push = |(service, labels, time, stacks): &Shape| {
        let stacks: Vec<(String, i64)> = stacks
            .iter()
            .map(|(stack, value)| {
                let frames: Vec<&str> = (0..stack % 5)
                    .map(|depth| frames[(usize::from(*stack) >> depth) % frames.len()])
                    .collect();
                (frames.join(";"), i64::from(*value))
            })
            .collect();
        let sets: [&'static [(&str, &str)]; 3] =
            [&[], &[("env", "prod")], &[("env", "dev"), ("zone", "1")]];
        Pushed {
            labels: sets[usize::from(*labels) % 3],
            stacks,
            kinds: KINDS,
            ..pushed(["s", "t", "u"][usize::from(*service) % 3], i64::from(*time), &[])
        }
    };
    shape.iter().map(push).collect()
}

fn holds_the_same(pushes: &[Pushed]) {
    let mut heads = heads_of(pushes);
    let questions = questions();
    let expected: Vec<_> =
        questions.iter().map(|request| told(ask(&heads, None, request.clone()).0)).collect();
    let Some(files) = block_of(&mut heads) else {
        assert!(pushes.iter().all(|push| push.stacks.iter().all(|(_, value)| *value == 0)));
        return;
    };
    let reader = open(&files).unwrap();
    let cache = SymbolCache::new(1 << 20);
    for (request, expected) in questions.into_iter().zip(expected) {
        let (reply, _) = ask(&heads, Some((&reader, &files)), request.clone());
        assert_eq!(told(reply), expected, "{request:?}");
        let (reply, _) = ask_keeping(&heads, Some((&reader, &files)), request.clone(), &cache);
        assert_eq!(told(reply), expected, "{request:?} of symbols that were kept");
    }
    // A partition none of whose profiles has a value leaves nothing, not even their numbers.
    let has_values = |push: &&Pushed| push.stacks.iter().any(|(_, value)| *value != 0);
    let of_tenant = || pushes.iter().filter(|push| push.tenant == "t");
    let services: Vec<&str> = of_tenant().filter(has_values).map(|push| push.service).collect();
    let profiles = of_tenant().filter(|push| services.contains(&push.service)).count() as u64;
    assert_eq!(reader.meta().stats.profiles, of_tenant().filter(has_values).count() as u64);
    let seqs = reader.index().partitions.iter().flat_map(|partition| &partition.origins);
    let held: u64 = seqs.flat_map(|origin| &origin.intervals).map(|i| i.last - i.first + 1).sum();
    assert_eq!(held, profiles, "every profile that was appended is in an interval");
}

#[test]
fn symbols_that_were_kept_are_not_read_again() {
    let files = sample_block();
    let (reader, heads, cache) = (open(&files).unwrap(), heads_of(&[]), SymbolCache::new(1 << 20));
    let asked = |matchers: &[_]| {
        let selection = selection(matchers, 0, 1000);
        let request = SelectRequest::Tree { selection, call_site: Vec::new() };
        ask_keeping(&heads, Some((&reader, &files)), request, &cache).1.into_keys()
    };
    let of_service = asked(&[("service_name", MatchOp::Equal, "s")]);
    assert!(of_service.eq(Table::ALL.map(Table::file_name).into_iter().collect::<BTreeSet<_>>()));
    assert_eq!(cache.counts(), CacheCounts { hits: 0, misses: 1, evicted: 0 });
    let again = asked(&[("service_name", MatchOp::Equal, "s")]);
    assert!(again.eq(["profiles.parquet", "samples.parquet"]), "its rows alone");
    assert_eq!(asked(&[]).len(), 5, "two others are not kept yet");
    assert_eq!(cache.counts(), CacheCounts { hits: 2, misses: 3, evicted: 0 });
    assert!(asked(&[]).eq(["profiles.parquet", "samples.parquet"]));
    cache.clear();
    assert_eq!((cache.bytes_held(), cache.counts().evicted), (0, 3));
    assert_eq!(asked(&[]).len(), 5, "nothing is kept any more");
}

#[test]
fn a_query_reads_no_table_that_it_does_not_need() {
    let files = sample_block();
    let (reader, heads) = (open(&files).unwrap(), heads_of(&[]));
    let everything = || selection(&[], 0, 1000);
    let files_of = |request| -> Vec<&'static str> {
        ask(&heads, Some((&reader, &files)), request).1.into_keys().collect()
    };
    assert!(files_of(SelectRequest::LabelNames(everything())).is_empty(), "postings are enough");
    let points = SelectRequest::Points {
        selection: everything(),
        grid_start_ms: 0,
        step_ms: 10,
        group_by: Vec::new(),
        call_site: Vec::new(),
    };
    assert_eq!(files_of(points), ["profiles.parquet"]);
    let none = selection(&[("service_name", MatchOp::Equal, "nope")], 0, 1000);
    assert!(files_of(SelectRequest::Tree { selection: none, call_site: Vec::new() }).is_empty());
    let late = selection(&[], 1000, 2000);
    assert!(files_of(SelectRequest::Tree { selection: late, call_site: Vec::new() }).is_empty());
    let all = SelectRequest::Tree { selection: everything(), call_site: Vec::new() };
    assert_eq!(files_of(all).len(), 5);
}

/// A bit is flipped somewhere: an error that says where, or the right answer (where nothing of it is read).
#[test]
fn a_flipped_bit_is_an_error_or_makes_no_difference() {
    let files = sample_block();
    let heads = heads_of(&[]);
    let expected: Vec<_> = questions()
        .into_iter()
        .map(|q| told(ask(&heads, Some((&open(&files).unwrap(), &files)), q).0))
        .collect();
    let (mut state, mut refused) = (7_u64, 0);
    for (name, bytes) in &files {
        for _ in 0..60 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bit = (state >> 20) as usize % (bytes.len() * 8);
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let reader = match open(&damaged) {
                Ok(reader) => reader,
                Err(error) => {
                    assert!(
                        error.to_string().contains(name.as_str()) || name == META_FILE,
                        "{error}"
                    );
                    refused += 1;
                    continue;
                }
            };
            assert!(name != META_FILE && name != INDEX_FILE, "{name}: bit {bit} was not seen");
            for (question, expected) in questions().into_iter().zip(&expected) {
                match ask(&heads, Some((&reader, &damaged)), question).0 {
                    SelectReply::Failed(failure) => {
                        assert!(failure.message.contains(name.as_str()), "{}", failure.message);
                        refused += 1;
                    }
                    reply => assert_eq!(told(reply), *expected, "{name}: bit {bit}"),
                }
            }
        }
    }
    assert!(refused > 300, "{refused} answers were refused");
}

/// All that a check finds.
fn faults(files: &Files) -> Vec<BlockError> {
    let mut check = BlockCheck::new(&files[META_FILE], &files[INDEX_FILE], &secret());
    loop {
        match check.step() {
            CheckStep::More => {}
            CheckStep::NeedsData(ranges) => {
                let bytes = ranges.iter().map(|range| {
                    let file = &files[range.file];
                    let at = |offset: u64| (offset as usize).min(file.len());
                    let bytes = &file[at(range.offset)..at(range.offset + range.bytes)];
                    Bytes::copy_from_slice(bytes)
                });
                let bytes = bytes.collect();
                check.provide(bytes);
            }
            CheckStep::Finished(faults) => return faults,
        }
    }
}

#[test]
fn a_check_finds_nothing_in_a_sound_block_and_names_the_file_of_any_flipped_bit() {
    let files = sample_block();
    assert_eq!(faults(&files), []);
    let mut state = 3_u64;
    for (name, bytes) in &files {
        for _ in 0..50 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bit = (state >> 20) as usize % (bytes.len() * 8);
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let found = faults(&damaged);
            let names = found.iter().any(|fault| fault.to_string().starts_with(name.as_str()));
            assert!(names, "{name}: bit {bit}: {found:?}");
        }
        let mut cut = files.clone();
        cut.get_mut(name).unwrap().pop();
        assert!(!faults(&cut).is_empty(), "{name} lacks its last byte");
    }
}

/// Sound checksums over rows that contradict each other: what a faulty writer would leave.
#[test]
fn a_check_holds_the_index_against_the_tables() {
    let files = sample_block();
    let broken = |change: &dyn Fn(&mut Index)| {
        let mut index = index_of(&files[INDEX_FILE]).unwrap();
        change(&mut index);
        let mut files = files.clone();
        let bytes = run(index.to_bytes(&mut write::Compressor::new(), &Pace::new()));
        let mut meta = Meta::from_bytes(&files[META_FILE]).unwrap();
        let facts = meta.files.iter_mut().find(|file| file.name == INDEX_FILE).unwrap();
        *facts = FileFacts::of(INDEX_FILE, &bytes);
        files.insert(META_FILE.to_owned(), meta.to_bytes());
        files.insert(INDEX_FILE.to_owned(), bytes);
        faults(&files).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(broken(&|_| ()).is_empty());
    let moved = broken(&|index| {
        index.series[0].profiles.end -= 1;
        index.series[1].profiles.start -= 1;
    });
    assert!(moved.iter().any(|f| f.starts_with("profiles.parquet: row")), "{moved:?}");
    let samples = Table::Samples as usize;
    let taken = broken(&|index| {
        index.partitions[0].tables[samples].end -= 1;
        index.partitions[1].tables[samples].start -= 1;
    });
    assert!(taken.iter().any(|f| f.contains("do not follow")), "{taken:?}");
}

#[test]
fn a_newer_version_is_refused_with_its_number() {
    let files = sample_block();
    let text = String::from_utf8(files[META_FILE].clone()).unwrap();
    let newer = text.replace("\"version\": 3", "\"version\": 4");
    assert_eq!(
        Meta::from_bytes(newer.as_bytes()).unwrap_err().to_string(),
        "meta.json: block version is 4, this program reads 1 to 3"
    );
    let mut index = files[INDEX_FILE].clone();
    index[8] = 9;
    assert_eq!(
        index_of(&index).unwrap_err().to_string(),
        "index: block version is 9, this program reads 1 to 3"
    );
}

/// Bytes, where they are put, whether what is behind them stays, and whether they go into an index of version 1.
type Damage = (Vec<u8>, u16, bool, bool);

#[test]
fn no_bytes_make_opening_panic() {
    let files = sample_block();
    let old = open(&files).unwrap().index().to_bytes_of_version_1();
    assert!(index_of(&old).is_ok());
    bolero::check!().with_type::<Damage>().for_each(|(bytes, at, keep, is_old)| {
        let _ = Meta::from_bytes(bytes);
        let _ = index_of(bytes);
        // The checksum made right again: what is left are the checks of parts, archives and the index's own.
        let mut index = if *is_old { old.clone() } else { files[INDEX_FILE].clone() };
        let from = 32 + usize::from(*at) % (index.len() - 32);
        for (to, byte) in index[from..].iter_mut().zip(bytes) {
            *to = *byte;
        }
        if !keep {
            index.truncate(from);
            let length = (from - 32) as u64;
            index[16..24].copy_from_slice(&length.to_le_bytes());
        }
        let checksum = xxhash_rust::xxh3::xxh3_64(&index[32..]);
        index[24..32].copy_from_slice(&checksum.to_le_bytes());
        let _ = index_of(&index);
    });
}

/// Many rows: several pages and row groups, and steps that stay small.
#[test]
fn rows_of_several_row_groups_come_back() {
    let stacks: Vec<(String, i64)> =
        (0..900).map(|i| (format!("m;f{};g{i}", i % 50), i + 1)).collect();
    let stacks: Vec<(&str, i64)> = stacks.iter().map(|(s, v)| (s.as_str(), *v)).collect();
    let pushes: Vec<Pushed> =
        (0..330).map(|i| pushed(["s", "t"][i as usize % 2], i, &stacks)).collect();
    let mut heads = heads_of(&pushes);
    let asked = |start, end| SelectRequest::Tree {
        selection: selection(&[], start, end),
        call_site: Vec::new(),
    };
    let ranges = [(0, 1000), (37, 39), (100, 300)];
    let expected = ranges.map(|(start, end)| told(ask(&heads, None, asked(start, end)).0));
    let files = block_of(&mut heads).unwrap();
    let reader = open(&files).unwrap();
    assert!(reader.index().table(Table::Samples).row_groups.len() > 1);
    for ((start, end), expected) in ranges.into_iter().zip(expected) {
        let (reply, read) = ask(&heads, Some((&reader, &files)), asked(start, end));
        assert_eq!(told(reply), expected);
        if (start, end) == (37, 39) {
            let whole = files["samples.parquet"].len() as u64;
            assert!(read["samples.parquet"] < whole, "a narrow range reads some pages");
        }
    }
}

/// The blocks of the first release of each version (of [`sample_pushes`], in versions before two profiles could share samples of
/// [`pushes_of_one_type`]); every later version reads them.
#[expect(
    clippy::disallowed_methods,
    reason = "a committed fixture; the engine itself reads no file"
)]
#[test]
fn the_committed_block_of_each_version_is_read() {
    for version in BLOCK_VERSION_MIN..=BLOCK_VERSION {
        let fixtures =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/block");
        let dir = fixtures.join(format!("v{version}"));
        if version == BLOCK_VERSION && std::env::var_os("MAKE_BLOCK_FIXTURE").is_some() {
            std::fs::create_dir(&dir).expect("a fixture that is there never changes");
            for (name, bytes) in sample_block() {
                std::fs::write(dir.join(name), bytes).unwrap();
            }
        }
        let names = Table::ALL.map(Table::file_name).into_iter().chain([INDEX_FILE, META_FILE]);
        let files: Files =
            names.map(|name| (name.to_owned(), std::fs::read(dir.join(name)).unwrap())).collect();
        let reader = open(&files).unwrap();
        let pushes = if version < SHARING_VERSION { pushes_of_one_type() } else { sample_pushes() };
        assert_eq!(reader.meta().version, version);
        assert_eq!(reader.meta().ulid, "01J953PQ3DFT7S04HMASW9NF6Y");
        assert_eq!(reader.meta().stats.profiles, 60);
        assert_eq!(faults(&files), []);
        for question in questions() {
            let expected = told(ask(&heads_of(&pushes), None, question.clone()).0);
            let (reply, _) = ask(&heads_of(&[]), Some((&reader, &files)), question.clone());
            assert_eq!(told(reply), expected, "{question:?}");
        }
    }
}
