//! Per-tenant limits of the write and read path: each with its unit, default, and what it protects (api.md §1.4).

/// Limits of one tenant. `0` means no limit where the field says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `-distributor.ingestion-rate-limit-mb`: MB (of 1,048,576 bytes, here and below) of uncompressed profiles a second; 0 off.
    pub ingestion_rate_mb: f64,
    /// `-distributor.ingestion-burst-size-mb`: size of the token bucket, MB.
    pub ingestion_burst_size_mb: f64,
    /// `-distributor.ingestion-body-limit-mb`: bytes of one request's body, MB; 0 off.
    pub ingestion_body_limit_mb: f64,
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
