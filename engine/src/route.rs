//! Which shard owns a partition.
//!
//! The hash is unkeyed and fixed for all versions: several processes, and later several nodes, must agree on it.

use xxhash_rust::xxh3::xxh3_64;

use crate::tenant::TenantId;

/// Number of a shard within its node, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

/// Owner of (tenant, service, split) among `shards_count` shards.
pub fn shard_of(tenant: &str, service_name: &str, split: u32, shards_count: u16) -> ShardId {
    assert!(shards_count > 0, "a node has at least one shard");
    let mut key = Vec::with_capacity(tenant.len() + service_name.len() + 5);
    key.extend_from_slice(tenant.as_bytes());
    key.push(0); // no tenant id holds a zero byte, so the pair is unambiguous
    key.extend_from_slice(service_name.as_bytes());
    key.extend_from_slice(&split.to_le_bytes());
    reduce(xxh3_64(&key), shards_count)
}

/// The shard that keeps a tenant's rates and limits.
pub fn home_shard_of(tenant: &TenantId, shards_count: u16) -> ShardId {
    reduce(xxh3_64(tenant.as_str().as_bytes()), shards_count)
}

/// Multiply-shift: even for any count, no division.
fn reduce(hash: u64, shards_count: u16) -> ShardId {
    ShardId(((u128::from(hash) * u128::from(shards_count)) >> 64) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of different versions must agree on the owner: this table never changes.
    #[test]
    fn owners_are_fixed_for_all_versions() {
        let owners: Vec<u16> =
            (0..8).map(|i| shard_of("tenant", &format!("service-{i}"), 0, 16).0).collect();
        assert_eq!(owners, OWNERS);
    }

    const OWNERS: [u16; 8] = [8, 12, 0, 4, 15, 12, 14, 14];

    #[test]
    fn a_thousand_services_spread_evenly() {
        let on_first = (0..1000)
            .filter(|i| shard_of("t", &format!("service-{i}"), 0, 2) == ShardId(0))
            .count();
        assert!((400..=600).contains(&on_first), "{on_first} of 1000 on shard 0");
    }
}
