//! Rates of the tenants whose home this shard is: one bucket a tenant for the whole node.

use std::collections::BTreeMap;
use std::ops::Bound;

use engine::lease::{TokenAnswer, TokenHome};
use engine::limits::BYTES_PER_MB;
use engine::route::ShardId;
use engine::token_bucket::Rate;
use proto::rpc::limits::TokenReport;

use crate::overrides::TenantLimits;

/// Buckets kept; above it full ones are forgotten, and a new tenant is limited where there is none. A bucket is about 150 bytes.
const TENANTS_MAX: usize = 100_000;

/// Buckets that one request of a new tenant looks at for full ones when there is no room: a few µs. The next request goes on
/// behind them.
const LOOKED_AT_MAX: usize = 32;

/// When a new tenant for whom there is no room may ask again, ns.
const NO_ROOM_WAIT_NS: u64 = 1_000_000_000;

/// Of a tenant whose rate was switched off: what comes back is noted, and nothing is lent.
const OFF: Rate = Rate { per_second: 0.0, burst: 0.0 };

/// The buckets of one home shard.
#[derive(Debug)]
pub(super) struct Homes {
    limits: TenantLimits,
    of_tenant: BTreeMap<String, TokenHome>,
    /// The tenant that was looked at last for room.
    looked_at: String,
}

/// What a shard asks for a push.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) from: ShardId,
    pub(super) tenant: String,
    pub(super) bytes: u64,
    /// Taken with the first try.
    pub(super) report: TokenReport,
    pub(super) takes_lease: bool,
}

/// The rate of a tenant; `None` where it is off.
pub(super) fn rate_of(limits: &TenantLimits, tenant: &str) -> Option<Rate> {
    let limits = limits.of(tenant);
    (limits.ingestion_rate_mb > 0.0).then(|| Rate {
        per_second: limits.ingestion_rate_mb * BYTES_PER_MB,
        burst: limits.ingestion_burst_size_mb * BYTES_PER_MB,
    })
}

impl Homes {
    pub(super) fn new(limits: TenantLimits) -> Self {
        Self { limits, of_tenant: BTreeMap::new(), looked_at: String::new() }
    }

    /// Takes tokens for a push.
    pub(super) fn take(&mut self, ask: &mut Ask, now_ns: u64) -> TokenAnswer {
        let report = std::mem::take(&mut ask.report);
        let Some(rate) = rate_of(&self.limits, &ask.tenant) else {
            self.report(&ask.tenant, ask.from, report, now_ns);
            return TokenAnswer::Granted { lease: 0 };
        };
        match self.bucket(&ask.tenant, rate, now_ns) {
            Some(home) => home.take((ask.from, report), ask.bytes, ask.takes_lease, rate, now_ns),
            None => TokenAnswer::Limited { wait_ns: Some(NO_ROOM_WAIT_NS) },
        }
    }

    /// Takes tokens whether they are there or not.
    pub(super) fn settle(&mut self, tenant: &str, bytes: u64, now_ns: u64) {
        if let Some(rate) = rate_of(&self.limits, tenant)
            && let Some(home) = self.bucket(tenant, rate, now_ns)
        {
            home.settle(bytes, rate, now_ns);
        }
    }

    /// Notes what became of tokens that a holder had.
    pub(super) fn report(&mut self, tenant: &str, from: ShardId, report: TokenReport, now_ns: u64) {
        if report == TokenReport::default() {
            return;
        }
        let rate = rate_of(&self.limits, tenant).unwrap_or(OFF);
        let home = self.of_tenant.get_mut(tenant);
        let home = home.expect("a bucket of which tokens are lent is not forgotten");
        home.report(from, report, rate, now_ns);
    }

    /// Who may have tokens of a tenant.
    pub(super) fn holders(&self, tenant: &str) -> Vec<ShardId> {
        self.of_tenant.get(tenant).map_or_else(Vec::new, |home| home.holders().collect())
    }

    /// The tenant's bucket, made full where there is none; `None`: there is no room for it.
    fn bucket(&mut self, tenant: &str, rate: Rate, now_ns: u64) -> Option<&mut TokenHome> {
        if !self.of_tenant.contains_key(tenant) {
            if self.of_tenant.len() >= TENANTS_MAX {
                self.forget_full(now_ns);
            }
            if self.of_tenant.len() >= TENANTS_MAX {
                return None;
            }
            self.of_tenant.insert(tenant.to_owned(), TokenHome::full(rate, now_ns));
        }
        self.of_tenant.get_mut(tenant)
    }

    /// Forgets the full ones of the next few buckets.
    fn forget_full(&mut self, now_ns: u64) {
        let behind = (Bound::Excluded(std::mem::take(&mut self.looked_at)), Bound::Unbounded);
        let next = self.of_tenant.range_mut::<String, _>(behind).take(LOOKED_AT_MAX);
        let seen: Vec<(String, bool)> = next
            .map(|(tenant, home)| {
                let rate = rate_of(&self.limits, tenant).unwrap_or(OFF);
                (tenant.clone(), home.is_full(rate, now_ns))
            })
            .collect();
        // At the end it begins anew.
        if seen.len() == LOOKED_AT_MAX {
            self.looked_at.clone_from(&seen[LOOKED_AT_MAX - 1].0);
        }
        for (tenant, _) in seen.iter().filter(|(_, is_full)| *is_full) {
            self.of_tenant.remove(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::limits::Limits;

    use super::*;

    /// A request of a new tenant once looked at all 100,000 buckets in one poll.
    #[test]
    fn a_new_tenant_finds_room_by_looking_at_a_few_buckets_a_request() {
        let limits = Limits { ingestion_rate_mb: 1.0, ..Limits::default() };
        let mut homes = Homes::new(limits.into());
        let mut ask = |tenant: String, bytes| {
            let mut ask = Ask {
                from: ShardId(0),
                tenant,
                bytes,
                report: TokenReport::default(),
                takes_lease: false,
            };
            homes.take(&mut ask, 0) == TokenAnswer::Granted { lease: 0 }
        };
        for tenant in 0..TENANTS_MAX {
            // All but the last one are below their burst, for time stands still.
            let bytes = u64::from(tenant + 1 < TENANTS_MAX);
            assert!(ask(format!("{tenant:06}"), bytes));
        }
        let requests = (0..TENANTS_MAX).take_while(|_| !ask("new".to_owned(), 1)).count();
        assert_eq!(requests, TENANTS_MAX / LOOKED_AT_MAX - 1, "the full one is among the last");
        assert!(!ask("newer".to_owned(), 1), "there was room for one");
    }
}
