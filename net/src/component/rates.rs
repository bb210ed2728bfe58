//! Ingestion rates of the tenants whose home this shard is: one bucket a tenant for the whole node.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use engine::limits::Limits;
use engine::token_bucket::{Rate, TokenBucket};
use proto::rpc::append::{RateReply, RateRequest};

/// Buckets kept; full ones are forgotten first when there are more. A bucket is about 100 bytes.
const TENANTS_MAX: usize = 100_000;

/// The buckets of one home shard.
#[derive(Debug)]
pub struct Rates {
    limits: Arc<Limits>,
    buckets: RefCell<BTreeMap<String, TokenBucket>>,
}

impl Rates {
    /// No tenant seen yet.
    pub fn new(limits: Arc<Limits>) -> Self {
        Self { limits, buckets: RefCell::default() }
    }

    /// Answers a request of any shard of the node.
    pub fn serve(&self, request: RateRequest, now_ns: u64) -> RateReply {
        const MIB: f64 = (1 << 20) as f64;
        if self.limits.ingestion_rate_mb <= 0.0 {
            return RateReply::Granted;
        }
        let rate = Rate {
            per_second: self.limits.ingestion_rate_mb * MIB,
            burst: self.limits.ingestion_burst_size_mb * MIB,
        };
        let mut buckets = self.buckets.borrow_mut();
        if buckets.len() >= TENANTS_MAX && !buckets.contains_key(&request.tenant) {
            buckets.retain(|_, bucket| !bucket.is_full(rate, now_ns));
            if buckets.len() >= TENANTS_MAX {
                return RateReply::Limited;
            }
        }
        let bucket =
            buckets.entry(request.tenant).or_insert_with(|| TokenBucket::full(rate, now_ns));
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
