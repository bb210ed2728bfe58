//! Per-tenant limits of the write and read path: each with its unit, default, and what it protects (api.md §1.4).
//!
//! [`Overrides`] are the limits of all tenants at one moment. They never change: a new file makes new ones, and whoever began
//! with the old ones ends with them.
//!
//! Not here: files and reloading (`net::overrides`); what enforces a limit (its own module each).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::tenant::TenantId;

/// Limits of one tenant. `0` means no limit where the field says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `-distributor.ingestion-rate-limit-mb`: MB (of 1,048,576 bytes, here and below) of uncompressed profiles a second; 0 off.
    pub ingestion_rate_mb: f64,
    /// `-distributor.ingestion-burst-size-mb`: size of the token bucket, MB.
    pub ingestion_burst_size_mb: f64,
    /// `-distributor.ingestion-body-limit-mb`: bytes of one request's body, MB; 0 off.
    pub ingestion_body_limit_mb: f64,
    /// `-ingester.max-global-series-per-tenant`: series in the heads of a node; 0 off.
    pub max_global_series_per_tenant: usize,
    /// `-ingester.max-local-series-per-tenant`: the same for one node; 0 off. The lesser of both holds.
    pub max_local_series_per_tenant: usize,
    /// `-compactor.blocks-retention-period`, ms: blocks whose profiles are all older are removed; 0 keeps them for ever.
    pub compactor_blocks_retention_period_ms: i64,
    /// `-validation.max-length-label-name`, bytes.
    pub max_label_name_length: usize,
    /// `-validation.max-length-label-value`, bytes.
    pub max_label_value_length: usize,
    /// `-validation.max-label-names-per-series`.
    pub max_label_names_per_series: usize,
    /// `-validation.max-sessions-per-series`: 0 removes `__session_id__`, else it is replaced by hash mod this.
    pub max_sessions_per_series: usize,
    /// `-validation.max-profile-size-bytes`: uncompressed bytes of one profile; 0 off.
    pub max_profile_size_bytes: usize,
    /// `-validation.max-profile-stacktrace-samples`; 0 off.
    pub max_profile_stacktrace_samples: usize,
    /// `-validation.max-profile-stacktrace-sample-labels`; 0 off.
    pub max_profile_stacktrace_sample_labels: usize,
    /// `-validation.max-profile-stacktrace-depth`: deeper stacks lose frames at the leaf; 0 off.
    pub max_profile_stacktrace_depth: usize,
    /// `-validation.max-profile-symbol-value-length`: longer strings keep their tail, bytes; 0 off.
    pub max_profile_symbol_value_length: usize,
    /// `-validation.reject-older-than`, ms; 0 off.
    pub reject_older_than_ms: i64,
    /// `-validation.reject-newer-than`, ms; 0 off.
    pub reject_newer_than_ms: i64,
    /// `-querier.max-query-lookback`, ms; 0 off.
    pub max_query_lookback_ms: i64,
    /// `-querier.max-query-length`, ms; 0 off.
    pub max_query_length_ms: i64,
    /// `-querier.max-flamegraph-nodes-default`: used where a request gives none.
    pub max_flamegraph_nodes_default: i64,
    /// `-querier.max-flamegraph-nodes-max`: the most a request may ask for; 0 off.
    pub max_flamegraph_nodes_max: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ingestion_rate_mb: 4.0,
            ingestion_burst_size_mb: 2.0,
            ingestion_body_limit_mb: 256.0,
            max_global_series_per_tenant: 5000,
            max_local_series_per_tenant: 0,
            compactor_blocks_retention_period_ms: 0,
            max_label_name_length: 1024,
            max_label_value_length: 2048,
            max_label_names_per_series: 30,
            max_sessions_per_series: 0,
            max_profile_size_bytes: 4 << 20,
            max_profile_stacktrace_samples: 16_000,
            max_profile_stacktrace_sample_labels: 100,
            max_profile_stacktrace_depth: 1000,
            max_profile_symbol_value_length: 65_535,
            reject_older_than_ms: 3_600_000,
            reject_newer_than_ms: 600_000,
            max_query_lookback_ms: 7 * 86_400_000,
            max_query_length_ms: 86_400_000,
            max_flamegraph_nodes_default: 8192,
            max_flamegraph_nodes_max: 1_048_576,
        }
    }
}

impl Limits {
    /// Series that the tenant may have on a node; `None`: as many as fit.
    pub fn series_max(&self) -> Option<u64> {
        let limits = [self.max_local_series_per_tenant, self.max_global_series_per_tenant];
        limits.into_iter().filter(|limit| *limit > 0).min().map(|limit| limit as u64)
    }

    /// `ingestion_body_limit_mb` in bytes; `None`: no limit.
    pub fn body_bytes_max(&self) -> Option<u64> {
        let bytes = (self.ingestion_body_limit_mb * BYTES_PER_MB) as u64;
        (bytes > 0).then_some(bytes)
    }
}

/// What Pyroscope calls a MB.
pub const BYTES_PER_MB: f64 = (1 << 20) as f64;

/// The limits of every tenant at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Overrides {
    default: Arc<Limits>,
    of_tenant: BTreeMap<String, Arc<Limits>>,
}

impl Overrides {
    /// The same limits for every tenant.
    pub fn none(default: Limits) -> Self {
        Self { default: Arc::new(default), of_tenant: BTreeMap::new() }
    }

    /// Limits of their own for some tenants. A name that is no tenant id is nobody's.
    pub fn new(
        default: Arc<Limits>,
        of_tenant: impl IntoIterator<Item = (String, Limits)>,
    ) -> Self {
        let of_tenant = of_tenant.into_iter().map(|(name, limits)| (name, Arc::new(limits)));
        Self { default, of_tenant: of_tenant.collect() }
    }

    /// The limits of a tenant.
    pub fn of(&self, tenant: &str) -> &Arc<Limits> {
        self.of_tenant.get(tenant).unwrap_or(&self.default)
    }

    /// Limits of tenants that have none of their own.
    pub fn default_limits(&self) -> &Arc<Limits> {
        &self.default
    }

    /// The tenants with limits of their own, by name.
    pub fn tenants(&self) -> impl ExactSizeIterator<Item = (&str, &Limits)> {
        self.of_tenant.iter().map(|(name, limits)| (name.as_str(), &**limits))
    }

    /// The limits of a read of several tenants: of each query limit the least that is set, as in Pyroscope.
    pub fn of_read(&self, tenants: &[TenantId]) -> Arc<Limits> {
        let mut tenants = tenants.iter().map(|tenant| self.of(tenant.as_str()));
        let Some(first) = tenants.next() else { return Arc::clone(&self.default) };
        tenants.fold(Arc::clone(first), |limits, more| {
            Arc::new(Limits {
                max_query_lookback_ms: least_set(
                    limits.max_query_lookback_ms,
                    more.max_query_lookback_ms,
                ),
                max_query_length_ms: least_set(
                    limits.max_query_length_ms,
                    more.max_query_length_ms,
                ),
                max_flamegraph_nodes_default: least_set(
                    limits.max_flamegraph_nodes_default,
                    more.max_flamegraph_nodes_default,
                ),
                max_flamegraph_nodes_max: least_set(
                    limits.max_flamegraph_nodes_max,
                    more.max_flamegraph_nodes_max,
                ),
                ..(*limits).clone()
            })
        })
    }
}

/// The lesser of two limits, of which 0 is none.
fn least_set(a: i64, b: i64) -> i64 {
    match (a, b) {
        (0, limit) | (limit, 0) => limit,
        (a, b) => a.min(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_own_limits_or_the_default_ones() {
        let default = Arc::new(Limits::default());
        let own = Limits { ingestion_rate_mb: 10.0, ..Limits::default() };
        let overrides = Overrides::new(default, [("a".to_owned(), own.clone())]);
        assert_eq!(**overrides.of("a"), own);
        assert_eq!(**overrides.of("b"), Limits::default());
    }

    #[test]
    fn a_read_of_several_tenants_has_the_least_limit_that_is_set() {
        let with = |name: &str, max_query_length_ms, max_flamegraph_nodes_max| {
            let limits =
                Limits { max_query_length_ms, max_flamegraph_nodes_max, ..Limits::default() };
            (name.to_owned(), limits)
        };
        let all = [with("a", 0, 10), with("b", 7000, 0), with("c", 5000, 20)];
        let overrides = Overrides::new(Arc::new(Limits::default()), all);
        let of = |names: &[&str]| {
            let tenants: Vec<_> = names.iter().map(|name| TenantId::parse(name).unwrap()).collect();
            let limits = overrides.of_read(&tenants);
            (limits.max_query_length_ms, limits.max_flamegraph_nodes_max)
        };
        assert_eq!(of(&["a"]), (0, 10));
        assert_eq!(of(&["a", "b"]), (7000, 10));
        assert_eq!(of(&["a", "b", "c"]), (5000, 10));
        assert_eq!(of(&["b", "unknown"]), (7000, 1_048_576));
    }

    #[test]
    fn of_two_series_limits_the_lesser_that_is_set_holds() {
        let of = |global, local| {
            Limits {
                max_global_series_per_tenant: global,
                max_local_series_per_tenant: local,
                ..Limits::default()
            }
            .series_max()
        };
        assert_eq!([of(0, 0), of(5, 0), of(0, 4), of(5, 4)], [None, Some(5), Some(4), Some(4)]);
    }
}
