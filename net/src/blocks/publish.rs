//! Publishing: a block's files become durable one after the other, and with the renaming of their directory the block exists.
//!
//! A crash at any step leaves a directory that no reader takes for a block, which the next start removes, or the whole block.
//! A failure at any step removes what was written. Writes are aligned and direct, as the log's; a file's end is cut to its length.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;

use engine::block::{INDEX_FILE, META_FILE};
use engine::tenant::TenantId;

use super::directory::{block_path, tenant_path, unfinished_path};
use crate::runtime::{AlignedBytes, DISK_ALIGN, File, Open, Runtime};

/// Bytes of one write: a copy of them is a short poll, and five tables are written side by side.
const WRITE_BYTES: usize = 256 << 10;

const _: () = assert!(WRITE_BYTES.is_multiple_of(DISK_ALIGN), "direct I/O writes whole blocks");

/// What is being done to publish a block, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PublishStep {
    /// Makes the directory that no reader sees.
    CreateDirectory,
    /// Writes the tables, as they are encoded.
    WriteTables,
    /// Makes them durable.
    SyncTables,
    /// Writes the index.
    WriteIndex,
    /// Makes it durable.
    SyncIndex,
    /// Writes `meta.json`.
    WriteMeta,
    /// Makes it durable.
    SyncMeta,
    /// Makes the files' names durable.
    SyncDirectory,
    /// Gives the directory its name: the block exists.
    Rename,
    /// Makes that name durable.
    SyncTenantDirectory,
    /// Lets reads see the block in place of the heads.
    Swap,
}

impl PublishStep {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::CreateDirectory,
        Self::WriteTables,
        Self::SyncTables,
        Self::WriteIndex,
        Self::SyncIndex,
        Self::WriteMeta,
        Self::SyncMeta,
        Self::SyncDirectory,
        Self::Rename,
        Self::SyncTenantDirectory,
        Self::Swap,
    ];
}

/// A step failed.
#[derive(Debug, thiserror::Error)]
#[error("{step:?} of {path} failed: {source}")]
pub(super) struct PublishError {
    step: PublishStep,
    path: String,
    source: io::Error,
}

/// A block on its way.
pub(super) struct Publication<'a, R: Runtime> {
    rt: &'a R,
    /// Where the cutter is.
    step: &'a Cell<Option<PublishStep>>,
    tenant: TenantId,
    ulid: u128,
    path: String,
    tables: BTreeMap<&'static str, BlockFile<R>>,
    /// Whether a start may take it for a block.
    may_be_published: bool,
    /// What a reader is opened from.
    index: Vec<u8>,
    meta: Vec<u8>,
    #[cfg(feature = "planted-bugs")]
    bug: Option<engine::planted::Bug>,
    /// What the planted bug syncs too late.
    #[cfg(feature = "planted-bugs")]
    unsynced: Vec<BlockFile<R>>,
}

impl<'a, R: Runtime> Publication<'a, R> {
    /// Prepares; nothing is on the disk before the first write.
    pub(super) fn new(
        rt: &'a R,
        step: &'a Cell<Option<PublishStep>>,
        tenant: TenantId,
        ulid: u128,
    ) -> Self {
        let path = unfinished_path(&tenant, ulid);
        let (index, meta) = (Vec::new(), Vec::new());
        Self {
            rt,
            step,
            tenant,
            ulid,
            path,
            tables: BTreeMap::new(),
            may_be_published: false,
            index,
            meta,
            #[cfg(feature = "planted-bugs")]
            bug: None,
            #[cfg(feature = "planted-bugs")]
            unsynced: Vec::new(),
        }
    }

    /// Plants a bug.
    #[cfg(feature = "planted-bugs")]
    pub(super) fn plant(&mut self, bug: Option<engine::planted::Bug>) {
        self.bug = bug;
    }

    /// Heap bytes held, about.
    pub(super) fn bytes_held(&self) -> usize {
        self.tables.len() * WRITE_BYTES + self.index.len()
    }

    /// Appends bytes to a file. The tables come first, then the index, then `meta.json`.
    pub(super) async fn write(
        &mut self,
        name: &'static str,
        bytes: Vec<u8>,
    ) -> Result<(), PublishError> {
        match name {
            INDEX_FILE => {
                self.sync_tables().await?;
                self.whole_file(name, &bytes, PublishStep::WriteIndex, PublishStep::SyncIndex)
                    .await?;
                self.index = bytes;
            }
            META_FILE => {
                self.whole_file(name, &bytes, PublishStep::WriteMeta, PublishStep::SyncMeta)
                    .await?;
                self.meta = bytes;
            }
            table => self.table(table, &bytes).await?,
        }
        Ok(())
    }

    /// Makes the block exist; gives the bytes of `meta.json` and index.
    pub(super) async fn publish(&mut self) -> Result<(Vec<u8>, Vec<u8>), PublishError> {
        let synced = self.rt.sync_dir(&self.path).await;
        self.done(PublishStep::SyncDirectory, synced)?;
        self.step.set(Some(PublishStep::Rename));
        let to = block_path(&self.tenant, self.ulid);
        self.may_be_published = true;
        let renamed = self.rt.rename(&self.path, &to).await;
        self.done(PublishStep::Rename, renamed)?;
        #[cfg(feature = "planted-bugs")]
        for file in std::mem::take(&mut self.unsynced) {
            let synced = file.sync_and_close().await;
            self.done(PublishStep::SyncTables, synced)?;
        }
        self.step.set(Some(PublishStep::SyncTenantDirectory));
        let synced = self.rt.sync_dir(&tenant_path(&self.tenant)).await;
        self.done(PublishStep::SyncTenantDirectory, synced)?;
        Ok((std::mem::take(&mut self.meta), std::mem::take(&mut self.index)))
    }

    /// Removes what was written; `false` where it may still be taken for a block.
    pub(super) async fn abandon(mut self) -> bool {
        for (_, file) in std::mem::take(&mut self.tables) {
            let _ = file.file.close().await; // its bytes are of no use
        }
        if self.may_be_published {
            return remove_published(self.rt, &self.tenant, self.ulid).await.is_ok();
        }
        if let Err(error) = remove_unfinished(self.rt, &self.path).await {
            tracing::warn!(path = %self.path, %error, "what is left of a block is removed by the next start");
        }
        true
    }

    async fn table(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), PublishError> {
        if self.tables.is_empty() {
            self.create_directory().await?;
            self.step.set(Some(PublishStep::WriteTables));
        }
        if !self.tables.contains_key(name) {
            let opened = self.rt.open(&format!("{}/{name}", self.path), Open::New).await;
            let file = BlockFile::new(self.done(PublishStep::WriteTables, opened)?);
            self.tables.insert(name, file);
        }
        let file = self.tables.get_mut(name).expect("it was there or opened above");
        let written = file.append(self.rt, bytes).await;
        self.done(PublishStep::WriteTables, written)
    }

    async fn create_directory(&self) -> Result<(), PublishError> {
        self.step.set(Some(PublishStep::CreateDirectory));
        let created = self.rt.create_dir_all(&self.path).await;
        self.done(PublishStep::CreateDirectory, created)
    }

    async fn sync_tables(&mut self) -> Result<(), PublishError> {
        let mut tables = std::mem::take(&mut self.tables);
        for file in tables.values_mut() {
            let written = file.finish().await;
            self.done(PublishStep::WriteTables, written)?;
        }
        for (_, file) in tables {
            self.make_durable(file, PublishStep::SyncTables).await?;
        }
        Ok(())
    }

    async fn whole_file(
        &mut self,
        name: &'static str,
        bytes: &[u8],
        write: PublishStep,
        sync: PublishStep,
    ) -> Result<(), PublishError> {
        self.step.set(Some(write));
        let written = async {
            let opened = self.rt.open(&format!("{}/{name}", self.path), Open::New).await?;
            let mut file = BlockFile::<R>::new(opened);
            file.append(self.rt, bytes).await?;
            file.finish().await?;
            Ok(file)
        };
        let file = self.done(write, written.await)?;
        self.make_durable(file, sync).await?;
        self.step.set(Some(PublishStep::SyncDirectory));
        Ok(())
    }

    async fn make_durable(
        &mut self,
        file: BlockFile<R>,
        step: PublishStep,
    ) -> Result<(), PublishError> {
        self.step.set(Some(step));
        #[cfg(feature = "planted-bugs")]
        if self.bug == Some(engine::planted::Bug::PublishBeforeFsync) {
            self.unsynced.push(file);
            return Ok(());
        }
        let synced = file.sync_and_close().await;
        self.done(step, synced)
    }

    fn done<T>(&self, step: PublishStep, result: io::Result<T>) -> Result<T, PublishError> {
        result.map_err(|source| PublishError { step, path: self.path.clone(), source })
    }
}

/// Removes a published block: first its name, so that no half of it is ever taken for one.
pub(super) async fn remove_published<R: Runtime>(
    rt: &R,
    tenant: &TenantId,
    ulid: u128,
) -> io::Result<()> {
    let unfinished = unfinished_path(tenant, ulid);
    match rt.rename(&block_path(tenant, ulid), &unfinished).await {
        Ok(()) => {}
        // It was renamed already, or never.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    rt.sync_dir(&tenant_path(tenant)).await?;
    remove_unfinished(rt, &unfinished).await
}

/// Removes the directory of a block that is none, and its files.
pub(super) async fn remove_unfinished<R: Runtime>(rt: &R, path: &str) -> io::Result<()> {
    for name in rt.list(path).await? {
        rt.remove_file(&format!("{path}/{name}")).await?;
    }
    match rt.remove_dir(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A file that is written from its start to its end.
struct BlockFile<R: Runtime> {
    file: R::File,
    /// Not written yet; shorter than [`WRITE_BYTES`].
    tail: Vec<u8>,
    written_bytes: u64,
}

impl<R: Runtime> BlockFile<R> {
    fn new(file: R::File) -> Self {
        Self { file, tail: Vec::with_capacity(WRITE_BYTES), written_bytes: 0 }
    }

    async fn append(&mut self, rt: &R, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(WRITE_BYTES - self.tail.len()));
            self.tail.extend_from_slice(piece);
            bytes = rest;
            if self.tail.len() == WRITE_BYTES {
                self.write_tail().await?;
            }
            rt.yield_if_needed().await;
        }
        Ok(())
    }

    /// Writes what is left and cuts off what filled the last block up.
    async fn finish(&mut self) -> io::Result<()> {
        if !self.tail.is_empty() {
            self.write_tail().await?;
        }
        self.file.truncate(self.written_bytes).await
    }

    async fn write_tail(&mut self) -> io::Result<()> {
        let (offset, len) = (self.written_bytes, self.tail.len());
        let tail = std::mem::replace(&mut self.tail, Vec::with_capacity(WRITE_BYTES));
        self.file.write_at(AlignedBytes::padded(tail), offset).await?;
        self.written_bytes = offset + len as u64;
        Ok(())
    }

    async fn sync_and_close(self) -> io::Result<()> {
        self.file.datasync().await?;
        self.file.close().await
    }
}
