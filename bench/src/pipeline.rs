//! An owner's way of a profile, from received bytes to rows, as one thread of `net` drives it.

use std::sync::Arc;

use bytes::Bytes;
use engine::hash::HashSecret;
use engine::head::{Append, HeadOptions, Heads};
use engine::identity::Identity;
use engine::limits::Limits;
use engine::profile::{Admission, Intake, IntakeStep, PushFacts, Step};
use engine::tenant::{PartitionKey, TenantId};

use crate::corpus::Series;

/// A fixed secret: figures and tests are the same each time.
pub fn secret() -> HashSecret {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    HashSecret::from_words(move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        state ^ (state >> 29)
    })
}

/// The scratch and the heads of one shard.
#[derive(Debug)]
pub struct Owner {
    /// From bytes to columns and decisions.
    pub intake: Intake,
    /// From columns to rows.
    pub append: Append,
    /// What was kept.
    pub heads: Heads,
    limits: Arc<Limits>,
    taken_in: u64,
}

impl Default for Owner {
    fn default() -> Self {
        Self {
            intake: Intake::with_secret(secret()),
            append: Append::default(),
            heads: Heads::new(secret(), HeadOptions::default()),
            limits: Arc::new(Limits {
                reject_older_than_ms: 0,
                reject_newer_than_ms: 0,
                ..Limits::default()
            }),
            taken_in: 0,
        }
    }
}

impl Owner {
    /// Forgets all heads; scratch stays.
    pub fn forget(&mut self) {
        self.heads = Heads::new(secret(), HeadOptions::default());
    }

    /// Takes one profile in.
    pub fn ingest(&mut self, series: &Series, profile: &Bytes) {
        let admission = self.take_in(series, profile);
        self.keep(series, &admission);
    }

    /// Inflates, decodes, normalises and admits.
    pub fn take_in(&mut self, series: &Series, profile: &Bytes) -> Admission {
        self.begin(series, profile);
        loop {
            match self.intake.step() {
                Ok(IntakeStep::More) => {}
                Ok(IntakeStep::Admitted(admission)) => return admission,
                other => panic!("the corpus is admitted, not {other:?}"),
            }
        }
    }

    /// Begins to take a profile in; the steps are the caller's.
    pub fn begin(&mut self, series: &Series, profile: &Bytes) {
        let facts = PushFacts {
            labels: series.labels.clone(),
            naming: None,
            limits: Arc::clone(&self.limits),
            now_ms: 1_795_368_700_000,
        };
        self.intake.begin(profile.clone(), facts);
    }

    /// Appends what was taken in last.
    pub fn keep(&mut self, series: &Series, admission: &Admission) {
        let profile = self.intake.profile();
        self.taken_in += 1;
        let identity = Identity { origin: 1, seq: self.taken_in };
        self.append.begin(&self.heads, &series.key, identity, profile, admission);
        while self.append.step(&mut self.heads, profile, admission) == Step::More {}
    }
}

/// The partition of a service of the benches.
pub fn partition(service_name: &str) -> PartitionKey {
    PartitionKey { tenant: TenantId::anonymous(), service_name: service_name.into(), split: 0 }
}
