//! Real profiles for the tests: those of the shared corpus, and a few that are committed with the benches.
#![expect(
    clippy::disallowed_methods,
    reason = "tests read what they are held to; the engine itself reads no file"
)]

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// What is committed: small, and always there.
pub(super) fn committed() -> Vec<(String, Bytes)> {
    files_below(&workspace().join("bench/fixtures"))
}

/// Every pprof of the corpus, and the committed ones.
pub(super) fn all() -> Vec<(String, Bytes)> {
    let mut found = committed();
    for part in ["agents/pprof", "series"] {
        let dir = shared().join("corpus").join(part);
        if dir.is_dir() {
            found.extend(files_below(&dir));
        } else {
            eprintln!("skipped: {} is absent", dir.display());
        }
    }
    found
}

/// One file of the corpus, where that is there.
pub(super) fn file(path: &str) -> Option<Bytes> {
    read(&shared().join("corpus").join(path))
}

/// One recorded answer of the conformance kit, inflated, where that is there.
pub(super) fn recorded(path: &str) -> Option<Vec<u8>> {
    Some(inflated(&read(&shared().join("conformance/expected").join(path))?))
}

fn read(path: &Path) -> Option<Bytes> {
    let bytes = std::fs::read(path).ok();
    if bytes.is_none() {
        eprintln!("skipped: {} is absent", path.display());
    }
    bytes.map(Bytes::from)
}

/// The message itself.
pub(super) fn inflated(profile: &Bytes) -> Vec<u8> {
    if !profile.starts_with(&[0x1f, 0x8b]) {
        return profile.to_vec();
    }
    let mut message = Vec::new();
    flate2::read::MultiGzDecoder::new(&profile[..]).read_to_end(&mut message).unwrap();
    message
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn shared() -> PathBuf {
    std::env::var_os("PYRITE_SHARED").map_or_else(|| workspace().join("../shared"), PathBuf::from)
}

fn files_below(dir: &Path) -> Vec<(String, Bytes)> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if is_pprof(&path) {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap().into()));
        }
    }
    found
}

fn is_pprof(path: &Path) -> bool {
    let path = path.to_str().unwrap();
    let others = ["/java/", "/folded/", "/generate/", ".json", ".md", ".txt"];
    !others.iter().any(|other| path.contains(other))
}
