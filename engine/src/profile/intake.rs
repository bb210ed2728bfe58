//! One profile after another, from bytes as received to [`Admission`]: the stages in their order, a millisecond at a time.

use std::sync::Arc;

use bytes::Bytes;
use proto::rpc::append::IngestNaming;
use proto::rpc::{Code, Failure};

use super::admit::{admitted_labels, decide, name_of_ingest};
use super::check::{MALFORMED, Pushed, check, refused};
use super::decode::{DecodeLimits, Decoder};
use super::go::names::drop_type_parameters;
use super::go::truncated::Mender;
use super::inflate::{InflateError, Inflater};
use super::normalise::Grouper;
use super::resolve::{Resolver, clear_addresses};
use super::{Admission, PIPELINE_VERSION, Profile, Step};
use crate::byte_size;
use crate::hash::HashSecret;
use crate::labels::{LabelSet, name};
use crate::limits::Limits;

/// What one call may spend, in nanoseconds as the stages estimate them: a quarter of the longest poll. A poll is steps of a millisecond
/// and one more, and estimates are of a machine that does nothing else.
const STEP_BUDGET: i64 = 500_000;

/// Memory kept between profiles. What a larger profile took is given back before the next one.
const RETAINED_BYTES_MAX: usize = 16 << 20;

/// `reason` of a profile without a sample to store.
const EMPTY_PROFILE: &str = "empty_profile";

/// End of the year 1970, Unix nanoseconds.
const YEAR_1971_NS: i64 = 365 * 86_400 * 1_000_000_000;

/// What is known of a pushed profile beside its bytes.
#[derive(Clone, Debug)]
pub struct PushFacts {
    /// Labels as pushed, with `service_name`.
    pub labels: LabelSet,
    /// For `/ingest`: how `__name__` is found where `labels` have none, and the time of a profile without one.
    pub naming: Option<IngestNaming>,
    /// The tenant's.
    pub limits: Arc<Limits>,
    /// When it was received, Unix milliseconds.
    pub now_ms: i64,
}

/// How far [`Intake::step`] came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntakeStep {
    /// Call again after giving others a turn.
    More,
    /// [`Intake::profile`] is complete, and this is what was decided of it.
    Admitted(Admission),
    /// No sample is left to store: a success for the client.
    Dropped {
        /// Value of the `reason` label of `pyroscope_discarded_*`.
        reason: &'static str,
    },
}

/// Takes one profile after another in; one per shard. Its memory is reused: allocations per profile do not depend on the number
/// of samples.
#[derive(Debug)]
pub struct Intake {
    inflater: Inflater,
    decoder: Decoder,
    resolver: Resolver,
    mender: Mender,
    grouper: Grouper,
    profile: Profile,
    stage: Stage,
    source: Source,
    admission: Admission,
    secret: HashSecret,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Inflate,
    Decode,
    Check,
    Resolve,
    Names,
    Mend,
    Clear,
    Group,
    Decide,
}

#[derive(Debug)]
enum Source {
    Push(PushFacts),
    Replay,
}

impl Default for Intake {
    fn default() -> Self {
        Self::new()
    }
}

impl Intake {
    /// For tests and benches: the secret of its tables is known. A server uses [`Self::with_secret`].
    pub fn new() -> Self {
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        Self::with_secret(HashSecret::from_words(|| {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word
        }))
    }

    /// Keys the tables over ids and labels with a secret, so that no profile can be made to collide in them.
    pub fn with_secret(secret: HashSecret) -> Self {
        Self {
            inflater: Inflater::new(),
            decoder: Decoder::new(secret.clone()),
            resolver: Resolver::default(),
            mender: Mender::new(secret.clone()),
            grouper: Grouper::new(secret.clone()),
            profile: Profile::default(),
            stage: Stage::Idle,
            source: Source::Replay,
            admission: nothing_decided(),
            secret,
        }
    }

    /// Takes a pushed profile, plain or gzip'd; what was there before is gone.
    pub fn begin(&mut self, received: Bytes, facts: PushFacts) {
        let limits = &facts.limits;
        let narrow = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        let decode_limits = DecodeLimits {
            stacktrace_depth: narrow(limits.max_profile_stacktrace_depth),
            sample_labels: narrow(limits.max_profile_stacktrace_sample_labels),
            symbol_bytes: narrow(limits.max_profile_symbol_value_length),
        };
        let admission = Admission {
            stacktrace_depth_max: decode_limits.stacktrace_depth,
            symbol_bytes_max: decode_limits.symbol_bytes,
            ..nothing_decided()
        };
        let bytes_max = limits.max_profile_size_bytes;
        self.start(received, bytes_max, decode_limits, admission);
        self.source = Source::Push(facts);
    }

    /// Takes a profile of a log: what limits decide was decided when it was pushed, and `admission` comes back as it is.
    pub fn begin_replay(&mut self, received: Bytes, admission: Admission) {
        let decode_limits = DecodeLimits {
            stacktrace_depth: admission.stacktrace_depth_max,
            sample_labels: 0,
            symbol_bytes: admission.symbol_bytes_max,
        };
        self.start(received, 0, decode_limits, admission);
        self.source = Source::Replay;
    }

    fn start(
        &mut self,
        received: Bytes,
        bytes_max: usize,
        limits: DecodeLimits,
        admission: Admission,
    ) {
        self.give_back();
        self.profile.clear();
        self.inflater.begin(received, bytes_max);
        self.decoder.begin(limits);
        self.resolver.begin();
        self.grouper.begin();
        self.admission = admission;
        self.stage = Stage::Inflate;
    }

    /// Works for about a millisecond. After anything but [`IntakeStep::More`] comes the next `begin`.
    pub fn step(&mut self) -> Result<IntakeStep, Failure> {
        let mut budget = STEP_BUDGET;
        while budget > 0 {
            match self.advance(&mut budget) {
                Ok(IntakeStep::More) => {}
                ended => {
                    self.stage = Stage::Idle;
                    return ended;
                }
            }
        }
        Ok(IntakeStep::More)
    }

    /// Works on one stage.
    fn advance(&mut self, budget: &mut i64) -> Result<IntakeStep, Failure> {
        let Self { profile, decoder, .. } = self;
        match self.stage {
            Stage::Idle => panic!("a profile is begun before it is stepped"),
            Stage::Inflate => {
                let step = self.inflater.step(&mut profile.bytes, budget).map_err(not_inflated)?;
                if step == Step::Done {
                    profile.message_len = profile.bytes.len();
                    self.stage = Stage::Decode;
                }
            }
            Stage::Decode => {
                let step = decoder.step(profile, budget);
                let step =
                    step.map_err(|e| refused(MALFORMED, format!("not a pprof message: {e}")))?;
                if step == Step::Done {
                    self.stage = Stage::Check;
                }
            }
            Stage::Check => {
                self.check()?;
                *budget -= self.profile.functions.len() as i64;
                self.stage = Stage::Resolve;
            }
            Stage::Resolve => {
                if self.resolver.step(profile, &decoder.facts, budget) == Step::Done {
                    self.stage = if self.admission.go_fixes { Stage::Names } else { Stage::Clear };
                }
            }
            Stage::Names => {
                let renamed = drop_type_parameters(profile);
                *budget -= profile.message_len as i64 / 8;
                self.mender.begin(renamed);
                self.stage = Stage::Mend;
            }
            Stage::Mend => {
                if self.mender.step(profile, &decoder.facts, budget) == Step::Done {
                    self.stage = Stage::Clear;
                }
            }
            Stage::Clear => {
                clear_addresses(profile);
                *budget -= profile.locations.len() as i64;
                self.stage = Stage::Group;
            }
            Stage::Group => {
                if self.grouper.step(profile, &self.admission.labels, budget) == Step::Done {
                    self.stage = Stage::Decide;
                }
            }
            Stage::Decide => return self.decide(budget),
        }
        Ok(IntakeStep::More)
    }

    /// Checks the message, and of a pushed one finds its time, its labels and whether it is Go's.
    fn check(&mut self) -> Result<(), Failure> {
        let Self { profile, decoder, admission, .. } = self;
        let Source::Push(push) = &mut self.source else {
            return check(profile, &decoder.facts, None);
        };
        let mut time_ns = profile.time_ns;
        if let Some(naming) = &push.naming {
            if (0..YEAR_1971_NS).contains(&time_ns) {
                time_ns = naming.from_time_ns;
            }
            if push.labels.get(name::NAME).is_none() {
                let known =
                    profile.sample_types.iter().all(|t| (t.kind as usize) < profile.strings.len());
                let name = if known { name_of_ingest(profile, naming) } else { "" };
                push.labels.set(name::NAME, name);
            }
        }
        let PushFacts { labels, limits, now_ms, .. } = push;
        let pushed = Pushed { limits, labels, time_ns, now_ms: *now_ms };
        check(profile, &decoder.facts, Some(&pushed))?;
        admission.time_ns = if time_ns > 0 { time_ns } else { now_ms.saturating_mul(1_000_000) };
        admission.go_fixes = super::go::is_go(profile, labels);
        admission.labels = admitted_labels(labels, limits);
        Ok(())
    }

    fn decide(&mut self, budget: &mut i64) -> Result<IntakeStep, Failure> {
        let Self { profile, grouper, admission, .. } = self;
        let series_count = profile.groups_count() * profile.sample_types.len();
        if let Source::Push(push) = &self.source {
            if profile.groups_count() == 0 {
                return Ok(IntakeStep::Dropped { reason: EMPTY_PROFILE });
            }
            let Admission { labels, outcomes, .. } = admission;
            if !decide(profile, grouper, labels, Some(&push.limits), outcomes, budget)? {
                return Ok(IntakeStep::More);
            }
        } else if admission.outcomes.len() != series_count {
            let decided = admission.outcomes.len();
            let message = format!("{decided} decisions for a profile of {series_count} series");
            return Err(Failure::new(Code::DataLoss, MALFORMED, message));
        }
        Ok(IntakeStep::Admitted(std::mem::replace(&mut self.admission, nothing_decided())))
    }

    /// The profile: complete between [`IntakeStep::Admitted`] and the next `begin`.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Length of the current profile's message: what rates and `received_decompressed_bytes` count.
    pub fn inflated_bytes(&self) -> usize {
        self.profile.message_len
    }

    /// Heap bytes held, capacities included.
    pub fn bytes_held(&self) -> usize {
        self.profile.bytes_held()
            + self.decoder.bytes_held()
            + self.resolver.bytes_held()
            + self.mender.bytes_held()
            + self.grouper.bytes_held()
    }

    /// Gives the memory that a large profile took back, and with it that profile; what ordinary ones need stays.
    pub fn give_back(&mut self) {
        if self.bytes_held() > RETAINED_BYTES_MAX {
            self.shrink();
        }
    }

    /// Gives all memory back, and with it the current profile.
    pub fn shrink(&mut self) {
        *self = Self::with_secret(self.secret.clone());
    }
}

fn nothing_decided() -> Admission {
    Admission {
        pipeline_version: PIPELINE_VERSION,
        time_ns: 0,
        stacktrace_depth_max: 0,
        symbol_bytes_max: 0,
        go_fixes: false,
        labels: LabelSet::default(),
        outcomes: Vec::new(),
    }
}

fn not_inflated(error: InflateError) -> Failure {
    match error {
        InflateError::OverLimit(limit) => Failure::new(
            Code::InvalidArgument,
            "profile_size_limit",
            format!(
                "uncompressed profile payload size exceeds limit of {}",
                byte_size::si(limit as u64)
            ),
        ),
        InflateError::Damaged | InflateError::TrailingGarbage => {
            refused(MALFORMED, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
