//! Ingestion rates of the tenants whose home this shard is: one bucket a tenant for the whole node.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;

use engine::limits::BYTES_PER_MB;
use engine::token_bucket::{Rate, TokenBucket};
use proto::rpc::append::{RateReply, RateRequest};

use crate::overrides::TenantLimits;

/// Buckets kept; above it full ones are forgotten, and a new tenant is limited where there is none. A bucket is about 100 bytes.
const TENANTS_MAX: usize = 100_000;

/// Buckets that one request of a new tenant looks at for full ones when there is no room: a few µs. The next request goes on
/// behind them.
const LOOKED_AT_MAX: usize = 32;

/// The buckets of one home shard.
#[derive(Debug)]
pub struct Rates {
    limits: TenantLimits,
    buckets: RefCell<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    of_tenant: BTreeMap<String, TokenBucket>,
    /// The tenant that was looked at last for room.
    looked_at: String,
}

impl Buckets {
    /// Forgets the full ones of the next few buckets.
    fn forget_full(&mut self, rate: Rate, now_ns: u64) {
        let behind = (Bound::Excluded(std::mem::take(&mut self.looked_at)), Bound::Unbounded);
        let next = self.of_tenant.range_mut::<String, _>(behind).take(LOOKED_AT_MAX);
        let seen: Vec<(String, bool)> =
            next.map(|(tenant, bucket)| (tenant.clone(), bucket.is_full(rate, now_ns))).collect();
        // At the end it begins anew.
        if seen.len() == LOOKED_AT_MAX {
            self.looked_at.clone_from(&seen[LOOKED_AT_MAX - 1].0);
        }
        for (tenant, _) in seen.iter().filter(|(_, is_full)| *is_full) {
            self.of_tenant.remove(tenant);
        }
    }
}

impl Rates {
    /// No tenant seen yet.
    pub fn new(limits: TenantLimits) -> Self {
        Self { limits, buckets: RefCell::default() }
    }

    /// Answers a request of any shard of the node.
    pub fn serve(&self, request: RateRequest, now_ns: u64) -> RateReply {
        let limits = self.limits.of(&request.tenant);
        if limits.ingestion_rate_mb <= 0.0 {
            return RateReply::Granted;
        }
        let rate = Rate {
            per_second: limits.ingestion_rate_mb * BYTES_PER_MB,
            burst: limits.ingestion_burst_size_mb * BYTES_PER_MB,
        };
        let buckets = &mut *self.buckets.borrow_mut();
        if buckets.of_tenant.len() >= TENANTS_MAX
            && !buckets.of_tenant.contains_key(&request.tenant)
        {
            buckets.forget_full(rate, now_ns);
            if buckets.of_tenant.len() >= TENANTS_MAX {
                return RateReply::Limited;
            }
        }
        let new = || TokenBucket::full(rate, now_ns);
        let bucket = buckets.of_tenant.entry(request.tenant).or_insert_with(new);
        if request.settle {
            bucket.settle(request.bytes, rate, now_ns);
            return RateReply::Granted;
        }
        if bucket.take(request.bytes, rate, now_ns) {
            RateReply::Granted
        } else {
            RateReply::Limited
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
        let rates = Rates::new(limits.into());
        let ask = |tenant: String, bytes| {
            rates.serve(RateRequest { tenant, bytes, settle: false }, 0) == RateReply::Granted
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
