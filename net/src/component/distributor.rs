//! Takes pushes in: admits or refuses on sizes and rates, gives each profile its identity, and sends it to the owner.
//!
//! A push is split into its profiles; each goes unopened to the shard that owns (tenant, service) and is answered when its
//! record is in the synced log. Good profiles are stored although the reply of the push is an error (partial success, as in
//! Pyroscope). Generic over the runtime: the simulator enters here.
//! Not here: what is inside a profile (`component::ingester`, at the owner); transport (`http`); formats (`engine::ingest`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use engine::byte_size;
use engine::ingest::{Conversion, IngestError, IngestPush, IngestRequest};
use engine::labels::DisplayPairs;
use engine::labels::name::SERVICE_NAME;
use engine::limits::Limits;
use engine::profile::Step;
use engine::route::{home_shard_of, shard_of};
use engine::tenant::{PartitionKey, TenantId};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use proto::push::PushRequest;
use proto::rpc::append::{AppendReply, AppendRequest, IngestNaming, RateReply, RateRequest};
use proto::rpc::{Code, Failure, Reply, Request};

use crate::budget::ShardBudget;
use crate::component::write_counters::WriteCounters;
use crate::http::{HttpFailure, Upload, Writes};
use crate::mesh::Mesh;
use crate::runtime::Runtime;

/// Profiles of one push under way at a time (Pyroscope's `push_max_concurrency`).
const PUSH_CONCURRENCY_MAX: usize = 256;

/// Profiles of one push: what is kept per profile must not outgrow the body that brought it.
const PUSH_PROFILES_MAX: usize = 100_000;

/// Given to series without a `service_name`.
const SERVICE_NAME_UNKNOWN: &str = "unknown_service";

/// One shard's distributor.
#[derive(Debug)]
pub struct Distributor<R: Runtime> {
    rt: R,
    mesh: Mesh,
    origin: u128,
    limits: Arc<Limits>,
    budget: ShardBudget,
    counters: Rc<WriteCounters>,
    next_seq: RefCell<BTreeMap<PartitionKey, u64>>,
}

/// One profile of a push, before routing.
#[derive(Debug)]
pub struct PushedProfile {
    /// Labels of its series as pushed, in any order; shared by the profiles of one series.
    pub labels: Rc<Vec<(String, String)>>,
    /// How `/ingest` derives `__name__`; `None` for Push.
    pub naming: Option<IngestNaming>,
    /// The pprof message, plain or gzip'd.
    pub profile: Bytes,
}

impl<R: Runtime> Distributor<R> {
    /// A distributor that stamps its profiles with `origin`, the ULID of this shard's run.
    pub fn new(
        rt: R,
        mesh: Mesh,
        origin: u128,
        limits: Arc<Limits>,
        budget: ShardBudget,
        counters: Rc<WriteCounters>,
    ) -> Self {
        Self { rt, mesh, origin, limits, budget, counters, next_seq: RefCell::default() }
    }

    /// Stores the profiles of one push; the outcomes of those that failed are joined in order.
    pub async fn push_profiles(
        &self,
        tenant: &TenantId,
        profiles: Vec<PushedProfile>,
    ) -> Result<(), Failure> {
        if profiles.is_empty() {
            return Err(refusal(Code::InvalidArgument, "", "no profiles received"));
        }
        if profiles.len() > PUSH_PROFILES_MAX {
            let count = profiles.len();
            let text = format!("push holds {count} profiles, limit {PUSH_PROFILES_MAX}");
            return Err(refusal(Code::InvalidArgument, "profiles_limit", text));
        }
        let sizes: Vec<u64> = profiles.iter().map(claimed_bytes).collect();
        let batch_bytes: u64 =
            profiles.iter().map(|pushed| claimed_profile_bytes(&pushed.profile)).sum();
        let batch_limit = self.body_bytes_max();
        if batch_limit > 0 && batch_bytes > batch_limit {
            for pushed in &profiles {
                self.counters.count_discarded(
                    tenant.as_str(),
                    "body_size_limit_exceeded",
                    pushed.profile.len(),
                );
            }
            let text = format!(
                "uncompressed batched profile payload size exceeds limit of {}",
                byte_size::si(batch_limit)
            );
            return Err(refusal(Code::InvalidArgument, "body_size_limit_exceeded", text));
        }
        let received_bytes = profiles.iter().map(|pushed| pushed.profile.len() as u64).sum();
        if let Err(failure) = self.budget.admit(received_bytes) {
            for pushed in &profiles {
                self.counters.count_discarded(
                    tenant.as_str(),
                    failure.reason,
                    pushed.profile.len(),
                );
            }
            return Err(failure);
        }
        let _held = self.budget.hold(received_bytes);
        // One charge for the whole push; only when that is too much does each profile stand for itself.
        let charged = self.charge(tenant, sizes.iter().sum()).await?;

        let mut waiting = profiles.into_iter().zip(sizes).enumerate();
        let mut under_way = FuturesUnordered::new();
        let mut failures = BTreeMap::new();
        loop {
            while under_way.len() < PUSH_CONCURRENCY_MAX {
                let Some((index, (pushed, bytes))) = waiting.next() else { break };
                under_way.push(async move {
                    (index, self.push_one(tenant, pushed, bytes, charged).await)
                });
            }
            let Some((index, outcome)) = under_way.next().await else { break };
            if let Err(failure) = outcome {
                failures.insert(index, failure);
            }
        }
        joined(failures.into_values().collect())
    }

    async fn push_one(
        &self,
        tenant: &TenantId,
        pushed: PushedProfile,
        bytes: u64,
        charged: bool,
    ) -> Result<(), Failure> {
        let received_bytes = pushed.profile.len();
        if !charged && !self.charge(tenant, bytes).await? {
            self.counters.count_discarded(tenant.as_str(), "rate_limited", received_bytes);
            let limit = byte_size::iec((self.limits.ingestion_rate_mb * f64::from(1 << 20)) as u64);
            let text = format!(
                "push rate limit ({limit}) exceeded while adding {}",
                byte_size::iec(bytes)
            );
            return Err(refusal(Code::ResourceExhausted, "rate_limited", text));
        }
        let request = self.route(tenant, pushed).inspect_err(|failure| {
            self.counters.count_discarded(tenant.as_str(), failure.reason, received_bytes);
        })?;
        let owner = shard_of(
            &request.tenant,
            &request.service_name,
            request.split,
            self.mesh.shards_count(),
        );
        match self.mesh.call(owner, Request::Append(request)).await? {
            Reply::Append(AppendReply::Stored | AppendReply::Dropped { .. }) => Ok(()),
            Reply::Append(AppendReply::Refused(failure) | AppendReply::InDoubt(failure)) => {
                Err(failure)
            }
            other => panic!("an append is answered by an append's reply, not by {other:?}"),
        }
    }

    /// Completes the labels and gives the profile its (origin, seq).
    fn route(&self, tenant: &TenantId, pushed: PushedProfile) -> Result<AppendRequest, Failure> {
        let PushedProfile { labels, naming, profile } = pushed;
        let mut labels = Rc::unwrap_or_clone(labels);
        let given = labels.iter().find(|(name, _)| name == SERVICE_NAME);
        let service_name = given.map_or(SERVICE_NAME_UNKNOWN, |(_, value)| value).to_owned();
        if given.is_none() {
            labels.push((SERVICE_NAME.to_owned(), service_name.clone()));
        }
        labels.sort();
        if let Some(pair) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let (duplicate, labels) = (&pair[0].0, DisplayPairs(&labels));
            let text =
                format!("profile with labels '{labels}' has duplicate label name: '{duplicate}'");
            return Err(refusal(Code::InvalidArgument, "duplicate_label_names", text));
        }
        let service: Arc<str> = Arc::from(service_name.as_str());
        let key = PartitionKey { tenant: tenant.clone(), service_name: service, split: 0 };
        let mut next_seq = self.next_seq.borrow_mut();
        let seq = next_seq.entry(key).or_insert(0);
        *seq += 1;
        Ok(AppendRequest {
            tenant: tenant.as_str().to_owned(),
            service_name,
            split: 0,
            origin: self.origin,
            seq: *seq,
            receive_time_ms: self.rt.unix_ms(),
            labels,
            naming,
            profile,
        })
    }

    /// `ingestion_body_limit_mb` in bytes; 0 is no limit.
    fn body_bytes_max(&self) -> u64 {
        (self.limits.ingestion_body_limit_mb * f64::from(1 << 20)) as u64
    }

    async fn charge(&self, tenant: &TenantId, bytes: u64) -> Result<bool, Failure> {
        let request = RateRequest { tenant: tenant.as_str().to_owned(), bytes, settle: false };
        let home = home_shard_of(tenant, self.mesh.shards_count());
        match self.mesh.call(home, Request::Rate(request)).await? {
            Reply::Rate(reply) => Ok(reply == RateReply::Granted),
            other => panic!("a rate request is answered by a rate's reply, not by {other:?}"),
        }
    }
}

/// The profiles of a push request: every (series, sample) pair is one. Annotations of clients are dropped.
fn profiles_of(request: PushRequest) -> Vec<PushedProfile> {
    let mut profiles = Vec::new();
    for series in request.series {
        let labels = series.labels.into_iter().map(|pair| (pair.name, pair.value));
        let labels = Rc::new(labels.collect());
        for sample in series.samples {
            profiles.push(PushedProfile {
                labels: Rc::clone(&labels),
                naming: None,
                profile: sample.raw_profile,
            });
        }
    }
    profiles
}

/// Uncompressed size as the bytes claim it: a gzip trailer's word, settled by the owner when it proves too small.
pub(crate) fn claimed_profile_bytes(profile: &[u8]) -> u64 {
    match profile {
        [0x1f, 0x8b, .., a, b, c, d] if profile.len() >= 18 => {
            u64::from(u32::from_le_bytes([*a, *b, *c, *d]))
        }
        _ => profile.len() as u64,
    }
}

fn claimed_bytes(pushed: &PushedProfile) -> u64 {
    let labels: usize = pushed.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    claimed_profile_bytes(&pushed.profile) + labels as u64
}

fn refusal(code: Code, reason: &'static str, message: impl Into<String>) -> Failure {
    Failure { code, reason, message: message.into() }
}

/// One failure as it is; several as `N errors: a; b`, with the code of the one whose retry makes most sense.
fn joined(mut failures: Vec<Failure>) -> Result<(), Failure> {
    if failures.len() < 2 {
        return failures.pop().map_or(Ok(()), Err);
    }
    // A client drops what is invalid and retries what is unavailable: with both at hand it should retry.
    let urgency = |code: Code| match code {
        Code::Unavailable => 3,
        Code::ResourceExhausted => 2,
        Code::InvalidArgument => 0,
        _ => 1,
    };
    let worst = failures
        .iter()
        .max_by_key(|failure| urgency(failure.code))
        .expect("there are at least two");
    let (code, reason) = (worst.code, worst.reason);
    let texts: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
    Err(Failure { code, reason, message: format!("{} errors: {}", texts.len(), texts.join("; ")) })
}

impl<R: Runtime> Writes for Distributor<R> {
    async fn push(&self, tenant: TenantId, request: PushRequest) -> Result<(), Failure> {
        self.push_profiles(&tenant, profiles_of(request)).await
    }

    async fn ingest(&self, tenant: TenantId, upload: Upload<'_>) -> Result<(), HttpFailure> {
        let refused =
            |error: IngestError| HttpFailure { status: error.status, failure: error.failure };
        self.budget.admit(upload.body.len() as u64)?;
        let held = self.budget.hold(upload.body.len() as u64);
        let mut conversion = Conversion::begin(IngestRequest {
            query: upload.query,
            content_type: upload.content_type,
            content_encoding_gzip: upload.gzip_encoded,
            body: upload.body,
            now_ns: self.rt.unix_ms().saturating_mul(1_000_000),
            body_bytes_max: self.body_bytes_max() as usize,
            profile_bytes_max: self.limits.max_profile_size_bytes,
        })
        .map_err(refused)?;
        while conversion.step().map_err(refused)? == Step::More {
            self.rt.yield_if_needed().await;
        }
        let Some(IngestPush { labels, naming, profile, origin }) = conversion.finish() else {
            return Ok(());
        };
        drop(held); // `push_profiles` accounts the profile from here on
        let pushed = PushedProfile { labels: Rc::new(labels), naming, profile };
        let outcome = self.push_profiles(&tenant, vec![pushed]).await;
        outcome.map_err(|failure| refused(IngestError::of_push(origin, failure)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_failures_are_told_together_and_the_retryable_one_gives_the_code() {
        let invalid = refusal(Code::InvalidArgument, "malformed_profile", "empty profile");
        let limited = refusal(Code::ResourceExhausted, "rate_limited", "slow down");
        assert_eq!(joined(vec![invalid.clone()]), Err(invalid.clone()));
        let both = joined(vec![invalid, limited]).unwrap_err();
        assert_eq!(
            (both.code, both.message.as_str()),
            (Code::ResourceExhausted, "2 errors: empty profile; slow down")
        );
    }

    #[test]
    fn a_gzip_trailer_is_only_a_claim() {
        assert_eq!(claimed_profile_bytes(b"plain"), 5);
        let mut gzip = vec![0x1f, 0x8b];
        gzip.extend([0; 14]);
        gzip.extend(1234u32.to_le_bytes());
        assert_eq!(claimed_profile_bytes(&gzip), 1234);
        assert_eq!(claimed_profile_bytes(&gzip[..10]), 10, "too short for a gzip member");
    }
}
