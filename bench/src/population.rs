//! An hour of 18 services × 4 pods, a profile every 15 s, in turn of the kinds of the corpus: as heads, and as one or many blocks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use engine::block::{BlockEncoder, BlockReader, ByteRange, EncodeStep, INDEX_FILE, META_FILE};
use engine::tenant::TenantId;
use proto::rpc::select::{MatchOp, MatcherText, SelectRequest, Selection};

use crate::corpus::Series;
use crate::pipeline::{Owner, partition};

/// An hour after which the population's profiles lie, Unix nanoseconds.
pub const START_NS: i64 = 1_795_365_000_000_000_000;

/// Profiles of the hour.
pub const PROFILES: usize = SERVICES * PODS * 240;

/// Services and pods of the population.
const SERVICES: usize = 18;
const PODS: usize = 4;

/// Pushes some of the population's profiles: in each turn one of every pod.
pub fn push(corpus: &[Series], owner: &mut Owner, profiles: Range<usize>) {
    for at in profiles {
        let (turn, sender) = (at / (SERVICES * PODS), at % (SERVICES * PODS));
        let (service, pod) = (sender / PODS, sender % PODS);
        let mut series = corpus[service % corpus.len()].clone();
        let name = service_name(corpus, service);
        series.key = partition(&name);
        series.labels.set("service_name", name);
        series.labels.set("pod", format!("pod-{pod}"));
        let profile = series.profile(turn + pod * 7).clone();
        let mut admission = owner.take_in(&series, &profile);
        admission.time_ns = START_NS + turn as i64 * 15_000_000_000 + sender as i64 * 208_333_333;
        owner.keep(&series, &admission);
    }
}

/// A service's name.
pub fn service_name(corpus: &[Series], service: usize) -> String {
    let series = &corpus[service % corpus.len()];
    format!("{}-{service}", series.key.service_name)
}

/// Files of a block by name, and their reader.
#[derive(Debug)]
pub struct Block {
    /// The block, opened.
    pub reader: Arc<BlockReader>,
    /// Contents.
    pub files: BTreeMap<&'static str, Bytes>,
}

impl Block {
    /// Opens a block of these files.
    pub fn open(files: BTreeMap<&'static str, Vec<u8>>) -> Self {
        let reader = BlockReader::open(&files[META_FILE], &files[INDEX_FILE]);
        let reader = Arc::new(reader.expect("what was just encoded opens"));
        let files = files.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
        Self { reader, files }
    }

    /// Copies what a read asks for, as the page cache does.
    pub fn read(&self, ranges: &[ByteRange]) -> Vec<Bytes> {
        let read = |range: &ByteRange| {
            let (start, end) = (range.offset as usize, (range.offset + range.bytes) as usize);
            Bytes::copy_from_slice(&self.files[range.file][start..end])
        };
        ranges.iter().map(read).collect()
    }
}

/// The first profiles of the population in so many blocks, one behind the other in time.
pub fn blocks(corpus: &[Series], profiles: usize, blocks_count: usize) -> Vec<Block> {
    let mut owner = Owner::default();
    let bound = |at: usize| profiles * at / blocks_count;
    let mut blocks = Vec::new();
    for at in 0..blocks_count {
        push(corpus, &mut owner, bound(at)..bound(at + 1));
        let frozen = owner.heads.freeze(&TenantId::anonymous()).expect("there are heads");
        owner.heads.retire(frozen.id());
        drop(owner.heads.take_unseen());
        let mut encoder = BlockEncoder::new(at as u128 + 1, frozen);
        let mut files: BTreeMap<_, Vec<u8>> = BTreeMap::new();
        loop {
            match encoder.step() {
                EncodeStep::More => {}
                EncodeStep::Write { file, bytes } => files.entry(file).or_default().extend(bytes),
                EncodeStep::Finished(_) => break,
            }
        }
        blocks.push(Block::open(files));
    }
    blocks
}

/// All of the tenant's series that satisfy `label = value` for each pair, at all times.
pub fn selection(labels: &[(&str, &str)]) -> Selection {
    let matcher = |(name, value): &(&str, &str)| MatcherText {
        name: (*name).to_owned(),
        op: MatchOp::Equal,
        value: (*value).to_owned(),
    };
    Selection {
        tenants: vec![TenantId::anonymous().as_str().to_owned()],
        matchers: labels.iter().map(matcher).collect(),
        start_ms: i64::MIN / 2_000_000,
        end_ms: i64::MAX / 2_000_000,
    }
}

/// The matcher of CPU time.
pub const CPU: (&str, &str) = ("__profile_type__", "process_cpu:cpu:nanoseconds:cpu:nanoseconds");

/// `SelectMergeStacktraces`: a tree of function names.
pub fn tree(selection: Selection) -> SelectRequest {
    SelectRequest::Tree { selection, call_site: Vec::new() }
}

/// `SelectMergeProfile`: locations with all their symbols.
pub fn merge(selection: Selection) -> SelectRequest {
    SelectRequest::Profile { selection, call_site: Vec::new() }
}

/// `SelectSeries` by service, in steps of 15 s.
pub fn points(selection: Selection) -> SelectRequest {
    SelectRequest::Points {
        selection,
        grid_start_ms: START_NS / 1_000_000,
        step_ms: 15_000,
        group_by: vec!["service_name".to_owned()],
        call_site: Vec::new(),
    }
}
