//! Files of a block read from a directory, without a runtime: this process does nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use engine::block::{BlockError, ByteRange, INDEX_FILE, META_FILE, Meta};

use super::OfflineError;

/// Bytes of `meta.json` that are read: more than any has, so that a longer one is seen to be.
const META_BYTES_MAX: u64 = (64 << 10) + 1;

/// The directory of one block.
#[derive(Debug)]
pub(super) struct BlockDirectory {
    path: PathBuf,
    open: BTreeMap<&'static str, File>,
}

impl BlockDirectory {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: BTreeMap::new() }
    }

    /// Bytes of `meta.json`.
    pub(super) fn meta(&self) -> Result<Vec<u8>, OfflineError> {
        self.whole(META_FILE, META_BYTES_MAX)
    }

    /// Bytes of `index`, as many as `meta.json` says it has; one more where it is longer.
    pub(super) fn index(&self, meta: &Meta) -> Result<Vec<u8>, OfflineError> {
        let bytes = meta.file(INDEX_FILE).map_or(0, |facts| facts.bytes);
        self.whole(INDEX_FILE, bytes.saturating_add(1))
    }

    /// Names of all files.
    pub(super) fn names(&self) -> Result<Vec<String>, OfflineError> {
        super::names(&self.path)
    }

    /// Length of a file.
    pub(super) fn length(&self, name: &str) -> Result<u64, OfflineError> {
        let path = self.path.join(name);
        Ok(std::fs::metadata(&path).map_err(OfflineError::of(&path))?.len())
    }

    /// What the file has of a range.
    pub(super) fn range(&mut self, range: &ByteRange) -> Result<Bytes, OfflineError> {
        let path = self.path.join(range.file);
        let read = |open: &mut BTreeMap<&'static str, File>| -> io::Result<Bytes> {
            if !open.contains_key(range.file) {
                open.insert(range.file, File::open(&path)?);
            }
            let file = open.get(range.file).expect("it was there or opened above");
            // By the file's own length: the range is what a checked index says, the file may be shorter.
            let length = file.metadata()?.len().saturating_sub(range.offset).min(range.bytes);
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, range.offset)?;
            Ok(bytes.into())
        };
        read(&mut self.open).map_err(OfflineError::of(&path))
    }

    /// An error with the block's place.
    pub(super) fn error(&self, source: BlockError) -> OfflineError {
        OfflineError::Block { path: self.path.display().to_string(), source }
    }

    fn whole(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>, OfflineError> {
        let path = self.path.join(name);
        let read = || {
            let mut bytes = Vec::new();
            File::open(&path)?.take(bytes_max).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(OfflineError::of(&path))
    }
}
