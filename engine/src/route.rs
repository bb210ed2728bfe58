//! Which shard owns a partition.
//!
//! The hash is unkeyed and fixed for all versions: several processes, and later several nodes, must agree on it.

use xxhash_rust::xxh3::xxh3_64;

use crate::tenant::TenantId;

/// Number of a shard within its node, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

/// Owner of (tenant, service, split) among `shards_count` shards. The splits of a service lie on consecutive shards: those of a
/// spread service, fewer than there are shards, on different ones.
pub fn shard_of(tenant: &str, service_name: &str, split: u32, shards_count: u16) -> ShardId {
    assert!(shards_count > 0, "a node has at least one shard");
    let mut key = Vec::with_capacity(tenant.len() + service_name.len() + 5);
    key.extend_from_slice(tenant.as_bytes());
    key.push(0); // no tenant id holds a zero byte, so the pair is unambiguous
    key.extend_from_slice(service_name.as_bytes());
    key.extend_from_slice(&0u32.to_le_bytes()); // the first split's number
    let first = reduce(xxh3_64(&key), shards_count);
    let after = split % u32::from(shards_count);
    ShardId(((u32::from(first.0) + after) % u32::from(shards_count)) as u16)
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
    fn as_many_splits_as_shards_lie_on_different_shards() {
        for shards_count in 1..=16 {
            let owners = (0..shards_count)
                .map(|split| shard_of("t", "checkout", split.into(), shards_count))
                .collect::<std::collections::BTreeSet<_>>();
            assert_eq!(owners.len(), usize::from(shards_count));
        }
        assert!(shard_of("t", "checkout", u32::MAX, 7).0 < 7, "splits of a log of more shards");
    }

    #[test]
    fn a_thousand_services_spread_evenly() {
        let on_first = (0..1000)
            .filter(|i| shard_of("t", &format!("service-{i}"), 0, 2) == ShardId(0))
            .count();
        assert!((400..=600).contains(&on_first), "{on_first} of 1000 on shard 0");
    }
}
