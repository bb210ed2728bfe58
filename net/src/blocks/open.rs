//! The start: every shard lists all blocks, opens those that are dealt to it, and removes what is left of publications and removals
//! that did not end.
//!
//! Where earlier runs left logs, it learns of all blocks what they hold of its own partitions, so that recovery puts nothing back that a
//! block has. Else it reads those of its own alone.

use std::io;
use std::sync::Arc;

use engine::block::{BlockReader, INDEX_FILE, META_FILE, Meta};
use engine::pace::Pace;
use engine::route::{ShardId, shard_of};
use engine::tenant::{PartitionKey, TenantId};
use ulid::Ulid;

use super::directory::{Entry, ROOT, block_path, entry_of, unfinished_path};
use super::publish::remove_published;
use super::{Blocks, Damaged};
use crate::runtime::{ReadFile, Runtime};

/// Why blocks were not opened.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct OpenError {
    path: String,
    source: io::Error,
}

/// Which blocks a shard reads at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenScope {
    /// All of them: logs tell of profiles that any may hold.
    All,
    /// Those that are dealt to it.
    Own,
}

/// Which shard a block of an earlier run belongs to now: the last bits of a ULID are random.
fn shard_of_block(ulid: u128, shards_count: u16) -> ShardId {
    ShardId((ulid % u128::from(shards_count)) as u16)
}

impl Blocks {
    /// Opens what is dealt to shard `own`. Called once, before any shard cuts.
    pub async fn open<R: Runtime>(
        &self,
        rt: &R,
        own: ShardId,
        shards_count: u16,
        scope: OpenScope,
    ) -> Result<(), OpenError> {
        for tenant in list(rt, ROOT).await? {
            let path = format!("{ROOT}/{tenant}");
            let Ok(tenant) = TenantId::parse(&tenant) else {
                tracing::warn!(path, "not a tenant's directory; left alone");
                continue;
            };
            let mut has_block = false;
            for name in list(rt, &path).await? {
                match entry_of(&name) {
                    Some(Entry::Block(ulid)) => {
                        has_block = true;
                        if scope == OpenScope::All || shard_of_block(ulid, shards_count) == own {
                            self.open_one(rt, &tenant, ulid, own, shards_count).await;
                        }
                    }
                    Some(Entry::Unfinished(ulid)) if shard_of_block(ulid, shards_count) == own => {
                        let path = unfinished_path(&tenant, ulid);
                        // Its name first: a crash must not give what is left of it the name of a block again.
                        match remove_published(rt, &tenant, ulid).await {
                            Ok(()) => tracing::info!(path, "removed: what is left of a block"),
                            Err(error) => tracing::warn!(path, %error, "not removed"),
                        }
                    }
                    Some(Entry::Unfinished(_)) => {}
                    None => tracing::warn!(path, name, "not a block; left alone"),
                }
            }
            // Nothing is cut yet. Where other shards have something to remove, the last of them finds it empty.
            if !has_block && rt.remove_dir(&path).await.is_ok() {
                tracing::info!(path, "removed: a tenant's directory without blocks");
            }
        }
        Ok(())
    }

    async fn open_one<R: Runtime>(
        &self,
        rt: &R,
        tenant: &TenantId,
        ulid: u128,
        own: ShardId,
        shards_count: u16,
    ) {
        let path = block_path(tenant, ulid);
        let is_own = shard_of_block(ulid, shards_count) == own;
        let opened = open_block(rt, &path).await.and_then(|block| {
            if block.tenant() != tenant {
                return Err(format!("{META_FILE}: the block is of tenant {}", block.tenant()));
            }
            let name = &block.meta().ulid;
            if *name != Ulid(ulid).to_string() {
                return Err(format!("{META_FILE}: it is block {name}"));
            }
            Ok(block)
        });
        match opened {
            Ok(block) => {
                self.note_published(&block, own, shards_count);
                if is_own {
                    self.add(Arc::new(block));
                }
            }
            // Another shard's block, too: it may hold records that this one owns.
            Err(reason) => {
                if is_own {
                    tracing::error!(
                        path,
                        reason,
                        "this block cannot be read: reads of its tenant are refused"
                    );
                }
                let max_time_ns = max_time_of(rt, &path, tenant, ulid).await;
                let tenant = tenant.clone();
                self.add_damaged(Damaged { tenant, ulid, reason, max_time_ns, is_own });
            }
        }
        rt.yield_if_needed().await;
    }

    /// Notes what a block holds of the partitions of shard `own`.
    fn note_published(&self, block: &BlockReader, own: ShardId, shards_count: u16) {
        let mut published = self.published.borrow_mut();
        #[cfg(feature = "planted-bugs")]
        let mut forgets = self.bug.get() == Some(engine::planted::Bug::LoseIntervalOnRecovery);
        for partition in &block.index().partitions {
            let (tenant, service_name) = (block.tenant(), partition.service_name.as_str());
            if shard_of(tenant.as_str(), service_name, partition.split, shards_count) != own {
                continue;
            }
            let key = PartitionKey {
                tenant: tenant.clone(),
                service_name: service_name.into(),
                split: partition.split,
            };
            let held = published.entry(key).or_default();
            for origin in &partition.origins {
                for interval in &origin.intervals {
                    #[cfg(feature = "planted-bugs")]
                    if std::mem::take(&mut forgets) {
                        continue;
                    }
                    held.insert_interval(origin.origin, interval.first, interval.last);
                }
            }
        }
    }
}

async fn list<R: Runtime>(rt: &R, path: &str) -> Result<Vec<String>, OpenError> {
    rt.list(path).await.map_err(|source| OpenError { path: path.to_owned(), source })
}

/// Opens a block; the error says what is wrong with which file.
async fn open_block<R: Runtime>(rt: &R, path: &str) -> Result<BlockReader, String> {
    let meta = read_file(rt, path, META_FILE).await?;
    let index = read_file(rt, path, INDEX_FILE).await?;
    let opened = BlockReader::open_in_turns(&meta, &index, &Pace::new()).await;
    opened.map_err(|error| error.to_string())
}

/// The greatest time of a block that does not open, by a `meta.json` that is whole and its own.
async fn max_time_of<R: Runtime>(rt: &R, path: &str, tenant: &TenantId, ulid: u128) -> Option<i64> {
    let meta = Meta::from_bytes(&read_file(rt, path, META_FILE).await.ok()?).ok()?;
    let is_its_own = meta.tenant == tenant.as_str() && meta.ulid == Ulid(ulid).to_string();
    is_its_own.then_some(meta.max_time_ns)
}

async fn read_file<R: Runtime>(rt: &R, path: &str, name: &str) -> Result<Vec<u8>, String> {
    let read = async {
        let file = rt.open_to_read(&format!("{path}/{name}")).await?;
        let len = file.len().await?;
        let bytes = file.read_at(0, usize::try_from(len).unwrap_or(usize::MAX)).await?;
        file.close().await?;
        Ok::<_, io::Error>(bytes)
    };
    read.await.map_err(|error| format!("{name}: {error}"))
}
