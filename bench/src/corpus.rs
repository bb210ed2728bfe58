//! Consecutive profiles of real programs: the shared corpus, or a handful of committed ones where that is absent.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use engine::labels::LabelSet;
use engine::tenant::PartitionKey;

use crate::pipeline::partition;

/// The nine kinds of the even mix, `program/kind`.
pub const MIX: [&str; 9] = [
    "go-server/cpu",
    "go-server/heap",
    "go-big/cpu",
    "go-big/heap",
    "rust/cpu",
    "python/cpu",
    "python/memory",
    "node/wall",
    "node/heap",
];

/// What is committed with the project.
const FIXTURES: [&str; 3] = ["go-server/goroutine", "python/cpu", "node/heap"];

/// Profiles of one kind in the order of time.
#[derive(Clone, Debug)]
pub struct Series {
    /// `program/kind`.
    pub kind: &'static str,
    /// pprof messages, gzip'd.
    pub profiles: Vec<Bytes>,
    /// Labels as an agent sends them.
    pub labels: LabelSet,
    /// The service's partition.
    pub key: PartitionKey,
}

impl Series {
    /// The profile at an index, starting over at the end.
    pub fn profile(&self, at: usize) -> &Bytes {
        &self.profiles[at % self.profiles.len()]
    }
}

/// Loads the mix of the shared corpus, or says that it is not there and loads the fixtures.
pub fn load() -> Vec<Series> {
    let shared = shared_dir().join("corpus/series");
    if shared.is_dir() {
        return MIX.iter().map(|kind| series(&shared, kind)).collect();
    }
    say_absent(&shared);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    FIXTURES.iter().map(|kind| series(&fixtures, kind)).collect()
}

/// Whether [`load`] finds the nine kinds that figures are about.
pub fn is_whole(corpus: &[Series]) -> bool {
    corpus.len() == MIX.len()
}

/// `PYRITE_SHARED`, or `shared` beside the project.
fn shared_dir() -> PathBuf {
    std::env::var_os("PYRITE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from)
}

#[expect(
    clippy::print_stderr,
    reason = "whoever runs a bench must know that its figures are of another corpus"
)]
fn say_absent(dir: &Path) {
    eprintln!("{} is absent: using the few profiles in bench/fixtures", dir.display());
}

fn series(dir: &Path, kind: &'static str) -> Series {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.join(kind))
        .expect("the corpus holds every kind of the mix")
        .map(|entry| entry.expect("a directory is read to its end").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "gz"))
        .collect();
    files.sort();
    let read =
        |path: &PathBuf| Bytes::from(std::fs::read(path).expect("a corpus file is readable"));
    let service_name = kind.split('/').next().unwrap_or(kind);
    Series {
        kind,
        profiles: files.iter().map(read).collect(),
        labels: labels(kind, service_name),
        key: partition(service_name),
    }
}

fn labels(kind: &str, service_name: &str) -> LabelSet {
    let name = match kind {
        "go-server/heap" | "go-big/heap" | "python/memory" | "node/heap" => "memory",
        "node/wall" => "wall",
        "go-server/goroutine" => "goroutine",
        _ => "process_cpu",
    };
    let pairs = [
        ("__name__", name),
        ("service_name", service_name),
        ("namespace", "shop"),
        ("pod", "shop-7c9d8b6f5-x2x4q"),
        ("instance", "10.1.2.3:4040"),
    ];
    LabelSet::from_pairs(pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec())
}
