//! What an owner keeps of the corpus: the right sums, few bytes, and a number of allocations that does not follow the samples.

use std::collections::BTreeMap;

use bench::allocation::{self, Counting};
use bench::corpus::{self, Series};
use bench::naive::{self, Sums};
use bench::pipeline::Owner;
use bytes::Bytes;
use engine::head::{Head, Heads};
use engine::labels::LabelSet;
use engine::profile::{IntakeStep, Step};
use engine::symbols::{NodeId, Symbols};
use prost::Message;
use proto::pprof;

#[global_allocator]
static ALLOCATOR: Counting<mimalloc::MiMalloc> = Counting(mimalloc::MiMalloc);

/// Profiles of a kind that the oracle sums; its maps of names are slow in a debug build.
const SUMMED_PROFILES: usize = 4;

/// Profiles of a kind after which bytes are counted, as in `reference/limits.md`.
const COUNTED_PROFILES: usize = 30;

#[test]
fn a_head_holds_what_the_naive_oracle_sums() {
    for series in corpus::load() {
        let (mut owner, mut oracle) = (Owner::default(), Sums::new());
        for profile in series.profiles.iter().take(SUMMED_PROFILES) {
            ingest_without_go_fixes(&mut owner, &series, profile);
            let message = pprof::Profile::decode(&*naive::inflate(profile)).unwrap();
            naive::add(&message, &mut oracle);
        }
        let head = owner.heads.get(&series.key).unwrap();
        let kept = read(head, &series.labels);
        assert_eq!(kept.keys().collect::<Vec<_>>(), oracle.keys().collect::<Vec<_>>());
        for (key, stacks) in &oracle {
            assert!(kept[key] == *stacks, "{}: sums of {key:?} differ", series.kind);
        }
    }
}

/// The oracle knows nothing of the mending of Go's names.
fn ingest_without_go_fixes(owner: &mut Owner, series: &Series, profile: &Bytes) {
    let mut admission = owner.take_in(series, profile);
    admission.go_fixes = false;
    owner.intake.begin_replay(profile.clone(), admission);
    loop {
        match owner.intake.step().expect("what was admitted is replayed") {
            IntakeStep::More => {}
            IntakeStep::Admitted(admission) => return owner.keep(series, &admission),
            IntakeStep::Dropped { reason } => panic!("replay drops nothing: {reason}"),
        }
    }
}

fn read(head: &Head, pushed: &LabelSet) -> Sums {
    let mut sums = Sums::new();
    let mut names = BTreeMap::new();
    let mut cursor = head.cursor();
    while head.scan(
        |_| true,
        i64::MIN,
        i64::MAX,
        &mut cursor,
        1000,
        |row| {
            let labels = &head.series()[row.series.0 as usize].labels;
            let group = labels
                .iter()
                .filter(|(name, _)| pushed.get(name).is_none() && !name.starts_with("__"))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let kind = labels.get("__type__").expect("every series has a type").to_owned();
            let stacks = sums.entry((group, kind)).or_default();
            row.for_each_sample(|node, value| {
                let stack: &Vec<String> =
                    names.entry(node).or_insert_with(|| names_of(head.symbols(), node));
                *stacks.entry(stack.clone()).or_insert(0) += value;
            })
        },
    ) == Step::More
    {}
    sums
}

fn names_of(symbols: &Symbols, mut node: NodeId) -> Vec<String> {
    let mut stack = Vec::new();
    while let (Some(location), Some(parent)) = (symbols.location(node), symbols.parent(node)) {
        let address = symbols.address_of(location);
        if symbols.lines(location).len() == 0 {
            stack.push(format!("#{address}"));
        }
        for line in symbols.lines(location) {
            let f = symbols.function(line.function);
            let [name, system_name, file] =
                [f.name, f.system_name, f.filename].map(|id| symbols.string(id));
            stack.push(format!(
                "{name}|{system_name}|{file}|{}@{}#{address}",
                f.start_line, line.line
            ));
        }
        node = parent;
    }
    stack.reverse();
    stack
}

#[test]
fn a_value_takes_four_bytes_and_a_stack_three_hundred() {
    let corpus = corpus::load();
    let mut whole = Footprint::default();
    for series in &corpus {
        let mut owner = Owner::default();
        for at in 0..COUNTED_PROFILES.min(series.profiles.len()) {
            owner.ingest(series, series.profile(at));
        }
        let bytes = Footprint::of(&mut owner.heads);
        bytes.print(series.kind);
        whole.add(&bytes);
    }
    whole.print("all");
    if corpus::is_whole(&corpus) {
        assert!(whole.of_chunks <= 4 * whole.values, "bytes a sealed value, rows included");
        assert!(whole.of_symbols <= 300 * whole.stacks, "bytes a distinct stack, all tables");
    }
}

/// Bytes of heads and what they hold.
#[derive(Default)]
struct Footprint {
    of_chunks: u64,
    of_symbols: u64,
    of_series: u64,
    values: u64,
    rows: u64,
    stacks: u64,
    nodes: u64,
}

impl Footprint {
    fn of(heads: &mut Heads) -> Self {
        for now_ms in [0, i64::MAX] {
            while heads.seal_aged(now_ms) == Step::More {}
        }
        let mut bytes = Self::default();
        for (_, head) in heads.iter() {
            for chunk in head.sealed() {
                bytes.of_chunks += chunk.bytes_held() as u64;
                bytes.values += chunk.values_count();
                bytes.rows += chunk.rows_count();
            }
            bytes.of_symbols += head.symbols().bytes_held() as u64;
            bytes.of_series +=
                (head.bytes_held() - head.symbols().bytes_held()) as u64 - bytes.of_chunks;
            bytes.stacks += head.symbols().stacks_count() as u64;
            bytes.nodes += head.symbols().nodes_count() as u64;
        }
        bytes
    }

    fn add(&mut self, other: &Self) {
        self.of_chunks += other.of_chunks;
        self.of_symbols += other.of_symbols;
        self.of_series += other.of_series;
        self.values += other.values;
        self.rows += other.rows;
        self.stacks += other.stacks;
        self.nodes += other.nodes;
    }

    #[expect(clippy::print_stdout, reason = "the figures of docs/benchmarks.md")]
    fn print(&self, what: &str) {
        println!(
            "{what:>14}: {:5.2} B a value ({} values in {} rows), {:6.1} B a stack ({} stacks, {} nodes), series {} B",
            self.of_chunks as f64 / self.values as f64,
            self.values,
            self.rows,
            self.of_symbols as f64 / self.stacks as f64,
            self.stacks,
            self.nodes,
            self.of_series,
        );
    }
}

/// The same stacks in eight times as many samples: the scratch is there, so the allocator hears nothing of them.
#[test]
fn allocations_do_not_follow_the_samples() {
    let corpus = corpus::load();
    let series = corpus.iter().find(|series| series.kind == "python/cpu").unwrap();
    let mut message = pprof::Profile::decode(&*naive::inflate(series.profile(0))).unwrap();
    let few = Bytes::from(message.encode_to_vec());
    let samples = message.sample.clone();
    for _ in 1..8 {
        message.sample.extend_from_slice(&samples);
    }
    let many = Bytes::from(message.encode_to_vec());
    let mut owner = Owner::default();
    for profile in [&many, &few, &many, &few] {
        owner.ingest(series, profile);
    }
    // An open chunk grows now and then; the least of several is what a profile takes by itself.
    let mut least = |profile: &Bytes| {
        (0..5).map(|_| allocation::count(|| owner.ingest(series, profile)).1.count).min().unwrap()
    };
    let (of_few, of_many) = (least(&few), least(&many));
    println!("{of_few} allocations for {} samples, {of_many} for 8 times as many", samples.len());
    assert_eq!(of_few, of_many);
    assert!(of_few <= 64, "{of_few} allocations a profile: labels and decisions only");
}
