//! Spreading a hot service: its home asks the shards what it costs them, and tells them its split count.

/// How the pushes of a service are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Splits that pushes go to, from 0; at least 1.
    pub splits: u32,
    /// Which of the ways to deal label sets to splits; from 0.
    pub deal: u32,
}

impl Default for Spread {
    /// Not spread: one split.
    fn default() -> Self {
        Self { splits: 1, deal: 0 }
    }
}

/// What a shard's ingester spends; shares of a core.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ShardLoad {
    /// On everything.
    pub whole: f64,
    /// On the service asked for.
    pub service: f64,
}

/// From the shard that owns split 0 of a service.
#[derive(Clone, Debug)]
pub struct SpreadRequest {
    /// Tenant id, already checked.
    pub tenant: String,
    /// Value of `service_name`.
    pub service_name: String,
    /// How pushes are to be spread from now on; `None` asks only.
    pub spread: Option<Spread>,
}
