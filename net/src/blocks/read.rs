//! What a read needs of a block's files.
//!
//! Files are opened when first needed and stay open until the read goes to another block. They are read buffered: the page cache is the
//! cache of blocks.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use engine::block::{BlockReader, ByteRange};

use super::directory::ROOT;
use crate::runtime::{ReadFile, Runtime};

/// The open files of one read.
#[derive(Debug)]
pub struct BlockFiles<R: Runtime> {
    rt: R,
    /// Directory of the block that is being read.
    path: String,
    open: BTreeMap<&'static str, R::ReadFile>,
}

impl<R: Runtime> BlockFiles<R> {
    /// Nothing is open yet.
    pub fn new(rt: R) -> Self {
        Self { rt, path: String::new(), open: BTreeMap::new() }
    }

    /// Reads ranges of a block's files, in order. A file that has become shorter gives fewer bytes. The error names the file.
    pub async fn read(
        &mut self,
        block: &BlockReader,
        ranges: &[ByteRange],
    ) -> Result<Vec<Bytes>, String> {
        let path = format!("{ROOT}/{}/{}", block.tenant(), block.meta().ulid);
        if self.path != path {
            self.close().await;
            self.path = path;
        }
        let mut read = Vec::with_capacity(ranges.len());
        for range in ranges {
            let bytes = self.range(range).await;
            read.push(bytes.map_err(|error| format!("{}/{}: {error}", self.path, range.file))?);
        }
        Ok(read)
    }

    /// Closes all files. What is dropped instead is closed by the shard, which may wait for the disk.
    pub async fn close(&mut self) {
        for (_, file) in std::mem::take(&mut self.open) {
            let _ = file.close().await; // nothing was written to it
        }
    }

    async fn range(&mut self, range: &ByteRange) -> io::Result<Bytes> {
        if !self.open.contains_key(range.file) {
            let path = format!("{}/{}", self.path, range.file);
            self.open.insert(range.file, self.rt.open_to_read(&path).await?);
        }
        let file = self.open.get(range.file).expect("it was there or opened above");
        Ok(file.read_at(range.offset, range.bytes as usize).await?.into())
    }
}
