//! Takes pushes in: admits or refuses on sizes and rates, gives each profile its identity, and sends it to the owner.
//!
//! A push is split into its profiles; each goes unopened to the shard that owns (tenant, service) and is answered when its
//! record is in the synced log. Good profiles are stored although the reply of the push is an error (partial success, as in
//! Pyroscope). Generic over the runtime: the simulator enters here.
//!
//! What holds
//! - Labels are looked at once a series, however many profiles it has, and only as many as `SERIES_LABELS_MAX`.
//! - A profile is a slice of the body it came in, so the body is accounted until the last profile of the push is answered by
//!   its owner: also when the client has gone away meanwhile.
//!
//! - A series of a spread service goes to the split its pushed labels have when it is routed, and nowhere else.
//!
//! Not here: what is inside a profile (`component::ingester`, at the owner); transport (`http`); formats (`engine::ingest`).

mod failures;
mod numbers;
mod spent_rates;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::byte_size;
use engine::ingest::{Conversion, IngestError, IngestPush, IngestRequest};
use engine::labels::DisplayPairs;
use engine::labels::name::SERVICE_NAME;
use engine::limits::{BYTES_PER_MB, Limits};
use engine::profile::Step;
use engine::route::shard_of;
use engine::spread::split_of;
use engine::tenant::{PartitionKey, TenantId};
use futures_channel::oneshot;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use proto::push::PushRequest;
use proto::rpc::append::{AppendReply, AppendRequest, IngestNaming};
use proto::rpc::{Code, Failure, Reply, Request, Retry};

use self::failures::Failures;
use self::numbers::{Fate, Numbers};
use self::spent_rates::SpentRates;
use crate::blocks::FreeSpace;
use crate::budget::{Held, ShardBudget};
use crate::component::ingester::INGEST_QUEUE_FULL;
use crate::component::rates::{Charge, Rates};
use crate::component::spread::Spreads;
use crate::component::write_counters::WriteCounters;
use crate::http::{Claim, HttpFailure, Upload, Writes};
use crate::mesh::Mesh;
use crate::overrides::TenantLimits;
use crate::pressure::{INGEST_WAIT_MAX, Pressure};
use crate::runtime::{Class, Runtime};

/// Profiles of one push under way at a time (Pyroscope's `push_max_concurrency`).
const PUSH_CONCURRENCY_MAX: usize = 256;

/// Profiles of one push: what is kept per profile must not outgrow the body that brought it.
const PUSH_PROFILES_MAX: usize = 100_000;

/// Body of a push where the tenant has no limit (`ingestion_body_limit_mb: 0`), bytes: what a 32-bit length can name.
const PUSH_BODY_BYTES_UNLIMITED: u64 = u32::MAX as u64;

/// Labels of one series that are looked at: the owner refuses those above the tenant's limit (30) in Pyroscope's words, and
/// quotes them all; a series with more than these is refused here, for a body has room for 131,072.
const SERIES_LABELS_MAX: usize = 256;

/// Bytes of one series' names and values: each of its profiles is checked against all of them. 30 labels of the greatest default
/// lengths take 90 kB.
const SERIES_LABEL_BYTES_MAX: usize = 128 << 10;

/// Given to series without a `service_name`.
const SERVICE_NAME_UNKNOWN: &str = "unknown_service";

/// One shard's distributor.
#[derive(Debug)]
pub struct Distributor<R: Runtime> {
    rt: R,
    mesh: Mesh,
    origin: u128,
    limits: TenantLimits,
    rates: Rates<R>,
    budget: ShardBudget,
    pressure: Pressure,
    counters: Rc<WriteCounters>,
    spreads: Rc<Spreads>,
    free_space: FreeSpace,
    numbers: Rc<Numbers>,
    spent_rates: SpentRates,
}

/// What a distributor is started with.
#[derive(Debug)]
pub struct DistributorSettings<R: Runtime> {
    /// ULID of this shard's run, which its profiles are stamped with.
    pub origin: u128,
    /// Limits of every tenant.
    pub limits: TenantLimits,
    /// Their rates.
    pub rates: Rates<R>,
    /// This shard's part of the memory budget, for pushes.
    pub budget: ShardBudget,
    /// How long profiles would wait at the node's ingesters.
    pub pressure: Pressure,
    /// What is counted.
    pub counters: Rc<WriteCounters>,
    /// Which services are spread.
    pub spreads: Rc<Spreads>,
    /// Whether there is room for more.
    pub free_space: FreeSpace,
}

/// One series of a push, before routing.
#[derive(Debug)]
pub struct PushedSeries {
    /// Labels as pushed, in any order.
    pub labels: Vec<(String, String)>,
    /// How `/ingest` derives `__name__`; `None` for Push.
    pub naming: Option<IngestNaming>,
    /// pprof messages, plain or gzip'd.
    pub profiles: Vec<Bytes>,
}

impl PushedSeries {
    /// Bytes of names and values.
    fn label_bytes(&self) -> usize {
        self.labels.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Where the profiles of one series go, and under what labels.
#[derive(Debug)]
struct Route {
    key: PartitionKey,
    labels: Arc<Vec<(String, String)>>,
    naming: Option<IngestNaming>,
    label_bytes: u64,
}

/// The push that a profile belongs to.
#[derive(Clone, Debug)]
struct Push<'a> {
    tenant: &'a TenantId,
    /// The limits in force when it came.
    limits: &'a Limits,
    /// Whether the rate was charged for all of it at once.
    is_charged: bool,
    /// Accounts its bytes until the last of its profiles is answered.
    held: Rc<Vec<Held>>,
}

/// Sums over a push.
#[derive(Clone, Copy, Debug, Default)]
struct PushSize {
    profiles: usize,
    /// Profiles as received.
    received_bytes: u64,
    /// Profiles as they claim to be uncompressed.
    claimed_bytes: u64,
    /// Labels, once a profile, as rates are charged for them.
    charged_label_bytes: u64,
    /// Labels, as they are kept.
    label_bytes: u64,
}

impl<R: Runtime> Distributor<R> {
    /// A shard's distributor.
    pub fn new(rt: R, mesh: Mesh, settings: DistributorSettings<R>) -> Self {
        let DistributorSettings { origin, limits, rates, budget, pressure, .. } = settings;
        let DistributorSettings { counters, spreads, free_space, .. } = settings;
        let numbers = Rc::new(Numbers::new(budget.clone()));
        Self {
            rt,
            mesh,
            origin,
            limits,
            rates,
            budget,
            pressure,
            counters,
            spreads,
            free_space,
            numbers,
            spent_rates: SpentRates::default(),
        }
    }

    /// Stores the profiles of one push; the outcomes of those that failed are joined in order. `held` accounts the bytes that
    /// the profiles are slices of.
    pub async fn push_series(
        &self,
        tenant: &TenantId,
        series: Vec<PushedSeries>,
        mut held: Vec<Held>,
    ) -> Result<(), Failure> {
        let size = self.size_of(&series).await;
        if size.profiles == 0 {
            return Err(refusal(Code::InvalidArgument, "", "no profiles received"));
        }
        if size.profiles > PUSH_PROFILES_MAX {
            let text = format!("push holds {} profiles, limit {PUSH_PROFILES_MAX}", size.profiles);
            return Err(refusal(Code::InvalidArgument, "profiles_limit", text));
        }
        let limits = self.limits.of(tenant.as_str());
        let admitted = self.admit(size, &limits);
        let is_charged = match admitted {
            // One charge for the whole push; only when that is too much does each profile stand for itself.
            Ok(()) => self.charge(tenant, size.claimed_bytes + size.charged_label_bytes).await,
            Err(failure) => Err(failure),
        };
        let is_charged =
            is_charged.map(|reply| reply == Charge::Granted).inspect_err(|failure| {
                let (tenant, reason) = (tenant.as_str(), failure.reason);
                let PushSize { profiles, received_bytes, .. } = size;
                self.counters.count_all_discarded(tenant, reason, profiles, received_bytes);
            })?;
        held.push(self.budget.hold(size.label_bytes));
        let push = Push { tenant, limits: &limits, is_charged, held: Rc::new(held) };
        self.push_all(push, series).await.outcome()
    }

    async fn size_of(&self, series: &[PushedSeries]) -> PushSize {
        let mut size = PushSize::default();
        for one in series {
            let label_bytes = one.label_bytes() as u64;
            size.profiles += one.profiles.len();
            size.label_bytes +=
                label_bytes + (one.labels.len() * size_of::<(String, String)>()) as u64;
            size.charged_label_bytes += label_bytes * one.profiles.len() as u64;
            for profile in &one.profiles {
                size.received_bytes += profile.len() as u64;
                size.claimed_bytes += claimed_profile_bytes(profile);
            }
            self.rt.yield_if_needed().await;
        }
        size
    }

    fn admit(&self, size: PushSize, limits: &Limits) -> Result<(), Failure> {
        if let Some(batch_limit) = limits.body_bytes_max()
            && size.claimed_bytes > batch_limit
        {
            let text = format!(
                "uncompressed batched profile payload size exceeds limit of {}",
                byte_size::si(batch_limit)
            );
            return Err(refusal(Code::InvalidArgument, "body_size_limit_exceeded", text));
        }
        self.free_space.admit()?;
        self.budget.admit(size.label_bytes)
    }

    async fn push_all(&self, push: Push<'_>, series: Vec<PushedSeries>) -> Failures {
        let mut failures = Failures::default();
        let mut under_way = FuturesUnordered::new();
        let mut count = 0;
        for mut one in series {
            let profiles = std::mem::take(&mut one.profiles);
            let first = count;
            count += profiles.len();
            // A series without profiles is nothing that could be refused.
            if profiles.is_empty() {
                continue;
            }
            let route = match route(push.tenant, push.limits, &self.spreads, one) {
                Ok(route) => Rc::new(route),
                Err(failure) => {
                    let (tenant, bytes) = (push.tenant.as_str(), profiles.iter().map(Bytes::len));
                    self.counters.count_all_discarded(
                        tenant,
                        failure.reason,
                        profiles.len(),
                        bytes.sum::<usize>() as u64,
                    );
                    failures.add_all(first..count, failure);
                    self.rt.yield_if_needed().await;
                    continue;
                }
            };
            for (index, profile) in (first..).zip(profiles) {
                if under_way.len() == PUSH_CONCURRENCY_MAX
                    && let Some((index, Err(failure))) = under_way.next().await
                {
                    failures.add(index, failure);
                }
                let (push, route) = (push.clone(), Rc::clone(&route));
                under_way.push(async move { (index, self.push_one(push, &route, profile).await) });
                self.rt.yield_if_needed().await;
            }
        }
        while let Some((index, outcome)) = under_way.next().await {
            if let Err(failure) = outcome {
                failures.add(index, failure);
            }
            self.rt.yield_if_needed().await;
        }
        failures
    }

    async fn push_one(&self, push: Push<'_>, route: &Route, profile: Bytes) -> Result<(), Failure> {
        let Push { tenant, limits, is_charged, held } = push;
        let received_bytes = profile.len();
        let discarded = |failure: &Failure| {
            self.counters.count_discarded(tenant.as_str(), failure.reason, received_bytes);
        };
        if !is_charged {
            let bytes = claimed_profile_bytes(&profile) + route.label_bytes;
            if let Charge::Limited { wait_ns } =
                self.charge(tenant, bytes).await.inspect_err(discarded)?
            {
                let wait = wait_ns.map(Duration::from_nanos);
                if let Some(wait) = wait {
                    let now_ns = self.rt.now_ns();
                    self.spent_rates.note(tenant, limits, received_bytes as u64, wait, now_ns);
                }
                let failure = rate_limited(bytes, limits, wait);
                discarded(&failure);
                return Err(failure);
            }
        }
        let outcome = self.send(route, profile, held).inspect_err(discarded)?;
        outcome.await.unwrap_or_else(|_| {
            Err(refusal(Code::Unavailable, "shard_gone", "the node is stopping"))
        })
    }

    /// Gives a profile its (origin, seq) and sends it to its owner. What comes of it is seen to whether or not somebody still
    /// waits for the outcome: the profile is with its owner all the same.
    fn send(
        &self,
        route: &Route,
        profile: Bytes,
        held: Rc<Vec<Held>>,
    ) -> Result<oneshot::Receiver<Result<(), Failure>>, Failure> {
        let Route { key, labels, naming, .. } = route;
        let request = AppendRequest {
            tenant: key.tenant.as_str().to_owned(),
            service_name: String::from(&*key.service_name),
            split: key.split,
            origin: self.origin,
            seq: self.numbers.next(key),
            receive_time_ms: self.rt.unix_ms(),
            labels: Arc::clone(labels),
            naming: naming.clone(),
            profile,
        };
        let shards_count = self.mesh.shards_count();
        let owner = shard_of(&request.tenant, &request.service_name, request.split, shards_count);
        let reply = self.mesh.send(owner, Request::Append(request));
        let reply = reply.inspect_err(|_| self.numbers.settle(key, Fate::Refused))?;
        let (sender, outcome) = oneshot::channel();
        let (numbers, key) = (Rc::clone(&self.numbers), key.clone());
        self.rt.spawn(Class::Rpc, async move {
            // A shard that is gone leaves the fate open; so does the process, which is stopping.
            let Ok(reply) = reply.await else { return };
            let (fate, told) = match reply {
                Reply::Append(AppendReply::Stored) => (Fate::Kept, Ok(())),
                Reply::Append(AppendReply::Dropped { .. }) => (Fate::Refused, Ok(())),
                Reply::Append(AppendReply::Refused(failure)) => (Fate::Refused, Err(failure)),
                Reply::Append(AppendReply::InDoubt(failure)) => (Fate::Kept, Err(failure)),
                other => panic!("an append is answered by an append's reply, not by {other:?}"),
            };
            numbers.settle(&key, fate);
            drop(held);
            let _ = sender.send(told); // the client may have gone away
        });
        Ok(outcome)
    }

    async fn charge(&self, tenant: &TenantId, bytes: u64) -> Result<Charge, Failure> {
        self.rates.charge(tenant, bytes).await
    }

    /// The series of a push request. Annotations of clients are dropped.
    async fn series_of(&self, request: PushRequest) -> Vec<PushedSeries> {
        let mut pushed = Vec::with_capacity(request.series.len());
        for series in request.series {
            let labels = series.labels.into_iter().map(|pair| (pair.name, pair.value));
            let profiles = series.samples.into_iter().map(|sample| sample.raw_profile);
            pushed.push(PushedSeries {
                labels: labels.collect(),
                naming: None,
                profiles: profiles.collect(),
            });
            self.rt.yield_if_needed().await;
        }
        pushed
    }
}

/// Completes and checks the labels of a series.
fn route(
    tenant: &TenantId,
    limits: &Limits,
    spreads: &Spreads,
    series: PushedSeries,
) -> Result<Route, Failure> {
    let label_bytes = series.label_bytes();
    let PushedSeries { mut labels, naming, .. } = series;
    if labels.len() > SERIES_LABELS_MAX {
        let (count, limit) = (labels.len(), limits.max_label_names_per_series);
        let limit = limit.min(SERIES_LABELS_MAX);
        let text = format!("profile series has {count} label names; limit {limit}");
        return Err(refusal(Code::InvalidArgument, "max_label_names_per_series", text));
    }
    if label_bytes > SERIES_LABEL_BYTES_MAX {
        let text = format!(
            "profile series has labels of {label_bytes} bytes; limit {SERIES_LABEL_BYTES_MAX}"
        );
        return Err(refusal(Code::InvalidArgument, "label_value_too_long", text));
    }
    let given = labels.iter().find(|(name, _)| name == SERVICE_NAME);
    let service_name: Arc<str> = given.map_or(SERVICE_NAME_UNKNOWN, |(_, value)| value).into();
    if given.is_none() {
        labels.push((SERVICE_NAME.to_owned(), SERVICE_NAME_UNKNOWN.to_owned()));
    }
    labels.sort();
    if let Some(pair) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let (duplicate, labels) = (&pair[0].0, DisplayPairs(&labels));
        let text =
            format!("profile with labels '{labels}' has duplicate label name: '{duplicate}'");
        return Err(refusal(Code::InvalidArgument, "duplicate_label_names", text));
    }
    if service_name.len() > limits.max_label_value_length {
        // The owner would say so too, but by then the name is a partition's.
        let labels = DisplayPairs(&labels);
        let text =
            format!("profile with labels '{labels}' has label value too long: '{service_name}'");
        return Err(refusal(Code::InvalidArgument, "label_value_too_long", text));
    }
    let mut key = PartitionKey { tenant: tenant.clone(), service_name, split: 0 };
    key.split = split_of(&labels, spreads.spread_of(&key));
    Ok(Route { key, labels: Arc::new(labels), naming, label_bytes: label_bytes as u64 })
}

/// `wait`: until the tokens will be there; `None`: never.
fn rate_limited(bytes: u64, limits: &Limits, wait: Option<Duration>) -> Failure {
    let limit = byte_size::iec((limits.ingestion_rate_mb * BYTES_PER_MB) as u64);
    let text = format!("push rate limit ({limit}) exceeded while adding {}", byte_size::iec(bytes));
    let retry = wait.map_or(Retry::Never, Retry::After);
    refusal(Code::ResourceExhausted, "rate_limited", text).with_retry(retry)
}

/// Uncompressed size as the bytes claim it: a gzip trailer's word, settled by the owner when it proves too small. Never less
/// than what was received: members without content claim nothing, and cost no rate whatever they cost to read.
pub(crate) fn claimed_profile_bytes(profile: &[u8]) -> u64 {
    match profile {
        [0x1f, 0x8b, .., a, b, c, d] if profile.len() >= 18 => {
            u64::from(u32::from_le_bytes([*a, *b, *c, *d])).max(profile.len() as u64)
        }
        _ => profile.len() as u64,
    }
}

fn refusal(code: Code, reason: &'static str, message: impl Into<String>) -> Failure {
    Failure::new(code, reason, message)
}

impl<R: Runtime> Writes for Distributor<R> {
    fn admit_head(&self, tenant: &TenantId, claim: Claim) -> Result<u64, Failure> {
        let Claim { body_bytes, profile_bytes } = claim;
        let limits = self.limits.of(tenant.as_str());
        let body_bytes_max = limits.body_bytes_max().unwrap_or(PUSH_BODY_BYTES_UNLIMITED);
        let spent = self.spent_rates.wait(tenant, &limits, profile_bytes, self.rt.now_ns());
        let wait = self.pressure.least_wait();
        let admitted = if let Err(failure) = self.free_space.admit() {
            Err(failure)
        } else if let Some(wait) = spent {
            // What it is when inflated, nobody knows; it is not less.
            Err(rate_limited(profile_bytes, &limits, Some(wait)))
        } else if wait <= INGEST_WAIT_MAX {
            // What is longer is refused by whoever reads it, and not to be tried again.
            self.budget.admit(body_bytes.min(body_bytes_max))
        } else {
            let text = format!(
                "a profile would wait {} ms to be ingested; limit {} ms; retry later",
                wait.as_millis(),
                INGEST_WAIT_MAX.as_millis()
            );
            // Nothing more is taken in meanwhile: what is above the limit is gone then.
            let retry = Retry::After(wait.saturating_sub(INGEST_WAIT_MAX));
            Err(refusal(Code::ResourceExhausted, INGEST_QUEUE_FULL, text).with_retry(retry))
        };
        admitted.map(|()| body_bytes_max).inspect_err(|failure| {
            // How many profiles it has, nobody knows.
            let bytes = body_bytes as usize;
            self.counters.count_discarded(tenant.as_str(), failure.reason, bytes);
        })
    }

    async fn push(
        &self,
        tenant: TenantId,
        request: PushRequest,
        held: Vec<Held>,
    ) -> Result<(), Failure> {
        let series = self.series_of(request).await;
        self.push_series(&tenant, series, held).await
    }

    async fn ingest(
        &self,
        tenant: TenantId,
        upload: Upload<'_>,
        mut held: Vec<Held>,
    ) -> Result<(), HttpFailure> {
        let refused =
            |error: IngestError| HttpFailure { status: error.status, failure: error.failure };
        let body_bytes = upload.body.len() as u64;
        let limits = self.limits.of(tenant.as_str());
        let mut conversion = Conversion::begin(IngestRequest {
            query: upload.query,
            content_type: upload.content_type,
            content_encoding_gzip: upload.gzip_encoded,
            body: upload.body,
            now_ns: self.rt.unix_ms().saturating_mul(1_000_000),
            body_bytes_max: limits.body_bytes_max().unwrap_or_default() as usize,
            profile_bytes_max: limits.max_profile_size_bytes,
        })
        .map_err(refused)?;
        // What it makes of the body; the body itself stays accounted, as the profile may be a slice of it.
        let mut made = self.budget.hold(0);
        loop {
            let step = conversion.step().map_err(refused)?;
            made.admit_to((conversion.bytes_held() as u64).saturating_sub(body_bytes))?;
            if step == Step::Done {
                break;
            }
            self.rt.yield_if_needed().await;
        }
        let Some(IngestPush { labels, naming, profile, origin }) = conversion.finish() else {
            return Ok(());
        };
        held.push(made);
        let pushed = PushedSeries { labels, naming, profiles: vec![profile] };
        let outcome = self.push_series(&tenant, vec![pushed], held).await;
        outcome.map_err(|failure| refused(IngestError::of_push(origin, failure)))
    }
}

#[cfg(test)]
mod tests;
