//! The table of flags: name, aliases, paths in YAML, kind, default, help, and where the value goes.
//!
//! A setting of Pyroscope that moves here from what is only accepted leaves `accepted.txt`.

use super::Config;
use super::value::{
    Shown as _, boolean, directory, duration, float, integer, milliseconds, size, text, url_path,
    word,
};

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// Further names with the same meaning.
    pub aliases: &'static [&'static str],
    /// Paths of the setting in a configuration file, the usual one first; none for what only the command line can say.
    pub yaml: &'static [&'static str],
    /// What a value looks like.
    pub kind: Kind,
    /// The default, as one would write it.
    pub default: &'static str,
    /// One or two sentences.
    pub help: &'static str,
    /// Reads a value into the configuration; the error says what was expected.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
    /// The value in force, as `set` reads it.
    pub get: fn(&Config) -> String,
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// May stand without a value: then it is true.
    Bool,
    /// Decimal.
    Float,
    /// Whole number.
    Int,
    /// `1h30m`, `7d`.
    Duration,
    /// `64MiB`.
    Size,
    /// Anything.
    Text,
    /// Anything, and never shown.
    Secret,
}

impl Kind {
    /// How `-help` calls a value of this kind; nothing for booleans.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Bool => "",
            Self::Float => "float",
            Self::Int => "int",
            Self::Duration => "duration",
            Self::Size => "size",
            Self::Text | Self::Secret => "string",
        }
    }
}

/// Declares a flag whose value is read by `$read` into the field `$field`. After `@` stand its paths in YAML.
macro_rules! flag {
    ($name:literal $(| $alias:literal)* @ $($path:literal)|*, $kind:ident, $default:literal, $($field:ident).+ = $read:expr, $help:literal) => {
        Flag {
            name: $name,
            aliases: &[$($alias),*],
            yaml: &[$($path),*],
            kind: Kind::$kind,
            default: $default,
            help: $help,
            set: |config, text| {
                config.$($field).+ = ($read)(text)?;
                Ok(())
            },
            get: |config| config.$($field).+.shown(Kind::$kind),
        }
    };
}

/// All flags, sorted by name.
pub static FLAGS: &[Flag] = &[
    flag!(
        "auth.multitenancy-enabled" @ "multitenancy_enabled",
        Bool,
        "false",
        multitenancy_enabled = boolean,
        "Take the tenant from the header X-Scope-OrgID, which is then required. Otherwise all data belongs to the tenant anonymous."
    ),
    flag!(
        "compactor.blocks-retention-period" @ "limits.compactor_blocks_retention_period",
        Duration,
        "0",
        limits.compactor_blocks_retention_period_ms = milliseconds,
        "Blocks whose profiles are all older than this are removed. 0 keeps them for ever."
    ),
    flag!(
        "config.expand-env" @,
        Bool,
        "false",
        expand_env = boolean,
        "Fill in ${NAME}, ${NAME:-default} and ${NAME:default} in the configuration file from the environment."
    ),
    flag!(
        "config.file" @,
        Text,
        "",
        config_file = text,
        "YAML file with settings; flags win over it. Files of Pyroscope and Phlare load: what does nothing here is named in a warning."
    ),
    flag!(
        "data.path" | "pyroscopedb.data-path" | "phlaredb.data-path" @ "data.path" | "pyroscopedb.data_path" | "phlaredb.data_path",
        Text,
        "./data",
        data_path = directory,
        "Directory of the write-ahead log and of local blocks. One process at a time uses it."
    ),
    flag!(
        "distributor.ingestion-body-limit-mb" @ "limits.ingestion_body_limit_mb",
        Float,
        "256",
        limits.ingestion_body_limit_mb = float,
        "Largest body of one request of a tenant as received, in MB of 1048576 bytes. 0 for no limit."
    ),
    flag!(
        "distributor.ingestion-burst-size-mb" @ "limits.ingestion_burst_size_mb",
        Float,
        "2",
        limits.ingestion_burst_size_mb = float,
        "How far a tenant may run ahead of its ingestion rate, in MB of 1048576 bytes. At least the size of the largest push."
    ),
    flag!(
        "distributor.ingestion-rate-limit-mb" @ "limits.ingestion_rate_mb",
        Float,
        "4",
        limits.ingestion_rate_mb = float,
        "Uncompressed profile bytes a tenant may push a second, in MB of 1048576 bytes. 0 for no limit."
    ),
    flag!(
        "ingester.max-global-series-per-tenant" @ "limits.max_global_series_per_tenant",
        Int,
        "5000",
        limits.max_global_series_per_tenant = integer,
        "Most series of a tenant in the newest data of a node, which is what its last blocks do not hold. 0 for no limit."
    ),
    flag!(
        "ingester.max-local-series-per-tenant" @ "limits.max_local_series_per_tenant",
        Int,
        "0",
        limits.max_local_series_per_tenant = integer,
        "The same; of the two the lesser holds. 0 for no limit."
    ),
    flag!(
        "log.format" @ "server.log_format",
        Text,
        "logfmt",
        log.format = word,
        "Format of the log lines on stderr: logfmt or json."
    ),
    flag!(
        "log.level" @ "server.log_level",
        Text,
        "info",
        log.level = word,
        "Least severity of the log lines written: debug, info, warn or error."
    ),
    flag!(
        "memory.limit" @ "memory.limit",
        Size,
        "0",
        memory_limit_bytes = size,
        "Most memory that data, queues and queries may take together. Pushes are answered 429 from 90 % of it on, queries above it. 0: 70 % of the \
         container's memory limit, or of the machine's memory where there is none."
    ),
    flag!(
        "pyroscopedb.max-block-duration" | "phlaredb.max-block-duration" @ "pyroscopedb.max_block_duration" | "phlaredb.max_block_duration",
        Duration,
        "1h",
        cuts.max_block_duration = duration,
        "Age at which the newest data of a tenant is written to a block."
    ),
    flag!(
        "pyroscopedb.retention-policy-disable" @ "pyroscopedb.disable_enforcement",
        Bool,
        "false",
        retention.is_space_ignored = boolean,
        "Take pushes until the disk is full, instead of refusing them when it is low."
    ),
    flag!(
        "pyroscopedb.retention-policy-enforcement-interval" @ "pyroscopedb.enforcement_interval",
        Duration,
        "5m",
        retention.interval = duration,
        "How often blocks are looked at for their age. Free disk space is looked at every 5s, or as often as this if that is shorter."
    ),
    flag!(
        "pyroscopedb.retention-policy-min-disk-available-percentage" @ "pyroscopedb.min_disk_available_percentage",
        Float,
        "0.05",
        retention.available_fraction_min = float,
        "Part of the disk that is kept free, of 1: pushes are answered 503 while less is free, and less than -pyroscopedb.retention-policy-min-free-disk-gb."
    ),
    flag!(
        "pyroscopedb.retention-policy-min-free-disk-gb" @ "pyroscopedb.min_free_disk_gb",
        Int,
        "10",
        retention.free_gib_min = integer,
        "GiB of the disk that are kept free: pushes are answered 503 while less is free, and less than -pyroscopedb.retention-policy-min-disk-available-percentage. \
         Blocks are never removed to make room."
    ),
    flag!(
        "querier.max-flamegraph-nodes-default" @ "limits.max_flamegraph_nodes_default",
        Int,
        "8192",
        limits.max_flamegraph_nodes_default = integer_i64,
        "Nodes of a flame graph where a query asks for no number. 0 for no limit."
    ),
    flag!(
        "querier.max-flamegraph-nodes-max" @ "limits.max_flamegraph_nodes_max",
        Int,
        "1048576",
        limits.max_flamegraph_nodes_max = integer_i64,
        "Most nodes of a flame graph that a query may ask for. 0 for no limit."
    ),
    flag!(
        "querier.max-query-length" @ "limits.max_query_length",
        Duration,
        "1d",
        limits.max_query_length_ms = milliseconds,
        "Longest time range of a query. 0 for no limit."
    ),
    flag!(
        "querier.max-query-lookback" @ "limits.max_query_lookback",
        Duration,
        "1w",
        limits.max_query_lookback_ms = milliseconds,
        "How far back queries reach; what lies before is left out of their range. 0 for no limit."
    ),
    flag!(
        "runtime" @ "runtime",
        Text,
        "auto",
        runtime = word,
        "How shards run: uring (io_uring), portable (epoll, and a thread for files per shard), or auto for uring where it can be used, else portable with a warning."
    ),
    flag!(
        "runtime-config.file" @ "runtime_config.file",
        Text,
        "",
        runtime_config.files = text,
        "Files of limits of single tenants (overrides:), separated by commas; a later one wins. They are read again every -runtime-config.reload-period."
    ),
    flag!(
        "runtime-config.reload-period" @ "runtime_config.period",
        Duration,
        "10s",
        runtime_config.reload_period = duration,
        "How often the files of -runtime-config.file are read again. 0: only at the start."
    ),
    flag!(
        "server.graceful-shutdown-timeout" @ "server.graceful_shutdown_timeout",
        Duration,
        "30s",
        http.graceful_shutdown_timeout = duration,
        "How long requests under way may take to end after SIGTERM. 20s at most are granted, so that the process ends within 25s."
    ),
    flag!(
        "server.http-conn-limit" @ "server.http_listen_conn_limit",
        Int,
        "0",
        http.connections_max = integer,
        "Most HTTP connections at a time, dealt out evenly to the shards. 0: only the built-in limit of each shard."
    ),
    flag!(
        "server.http-idle-timeout" @ "server.http_server_idle_timeout",
        Duration,
        "2m",
        http.idle_timeout = duration,
        "How long an HTTP connection may be idle. 0 for no limit."
    ),
    flag!(
        "server.http-listen-address" @ "server.http_listen_address",
        Text,
        "",
        http.listen_address = text,
        "IP address or host name the HTTP server listens on. Empty for all addresses, IPv4 and IPv6."
    ),
    flag!(
        "server.http-listen-port" @ "server.http_listen_port",
        Int,
        "4040",
        http.listen_port = integer,
        "TCP port of the HTTP server. 0 takes a free one and logs it."
    ),
    flag!(
        "server.http-read-timeout" @ "server.http_server_read_timeout",
        Duration,
        "30s",
        http.read_timeout = duration,
        "How long reading a request may take. 0 for no limit."
    ),
    flag!(
        "server.http-write-timeout" @ "server.http_server_write_timeout",
        Duration,
        "30s",
        http.write_timeout = duration,
        "How long an answer may be on its way to its client. A connection with one that takes longer is ended. 0 for no limit."
    ),
    flag!(
        "server.path-prefix" @ "server.http_path_prefix",
        Text,
        "",
        http.path_prefix = url_path,
        "What the paths of all routes begin with, such as /profiles; those of gRPC, too. Other paths are not found."
    ),
    flag!(
        "shards" @ "shards",
        Int,
        "0",
        shards = integer,
        "Shards, each an executor with its own log, data and listener. 0: as many as CPUs the process may use, one fewer above four."
    ),
    flag!(
        "storage.backend" @ "storage.backend",
        Text,
        "filesystem",
        storage_backend = text,
        "Where blocks are kept. Only filesystem is built so far."
    ),
    flag!(
        "target" @ "target",
        Text,
        "all",
        target = text,
        "Modules this process runs, separated by commas (-modules lists them). Only all is built so far."
    ),
    flag!(
        "validation.max-label-names-per-series" @ "limits.max_label_names_per_series",
        Int,
        "30",
        limits.max_label_names_per_series = integer,
        "Most label names of a series."
    ),
    flag!(
        "validation.max-length-label-name" @ "limits.max_label_name_length",
        Int,
        "1024",
        limits.max_label_name_length = integer,
        "Longest label name, in bytes."
    ),
    flag!(
        "validation.max-length-label-value" @ "limits.max_label_value_length",
        Int,
        "2048",
        limits.max_label_value_length = integer,
        "Longest label value, in bytes."
    ),
    flag!(
        "validation.max-profile-size-bytes" @ "limits.max_profile_size_bytes",
        Int,
        "4194304",
        limits.max_profile_size_bytes = integer,
        "Largest profile, in uncompressed bytes. 0 for no limit."
    ),
    flag!(
        "validation.max-profile-stacktrace-depth" @ "limits.max_profile_stacktrace_depth",
        Int,
        "1000",
        limits.max_profile_stacktrace_depth = integer,
        "Deepest stack. Deeper ones lose frames at the leaf and are kept. 0 for no limit."
    ),
    flag!(
        "validation.max-profile-stacktrace-sample-labels" @ "limits.max_profile_stacktrace_sample_labels",
        Int,
        "100",
        limits.max_profile_stacktrace_sample_labels = integer,
        "Most labels of a sample. 0 for no limit."
    ),
    flag!(
        "validation.max-profile-stacktrace-samples" @ "limits.max_profile_stacktrace_samples",
        Int,
        "16000",
        limits.max_profile_stacktrace_samples = integer,
        "Most samples of a profile. 0 for no limit."
    ),
    flag!(
        "validation.max-profile-symbol-value-length" @ "limits.max_profile_symbol_value_length",
        Int,
        "65535",
        limits.max_profile_symbol_value_length = integer,
        "Longest label value, function name or file name in a profile, in bytes. Longer ones keep their end. 0 for no limit."
    ),
    flag!(
        "validation.max-sessions-per-series" @ "limits.max_sessions_per_series",
        Int,
        "0",
        limits.max_sessions_per_series = integer,
        "Sessions that a series is split into by the label __session_id__. 0 removes that label."
    ),
    flag!(
        "validation.reject-newer-than" @ "limits.reject_newer_than",
        Duration,
        "10m",
        limits.reject_newer_than_ms = milliseconds,
        "How far in the future a profile's time may lie. 0 for no limit."
    ),
    flag!(
        "validation.reject-older-than" @ "limits.reject_older_than",
        Duration,
        "1h",
        limits.reject_older_than_ms = milliseconds,
        "How far in the past a profile's time may lie. 0 for no limit."
    ),
    flag!(
        "wal.ack" @ "wal.ack",
        Text,
        "fsync",
        wal.ack = word,
        "When a push is acknowledged: fsync, when it is synced to disk; memory, before that, so that a crash may lose it."
    ),
    flag!(
        "wal.max-bytes" @ "wal.max_bytes",
        Size,
        "1GiB",
        wal.bytes_max = size,
        "Bytes of the files of a shard's write-ahead log at most. At half of it the heads that need its oldest file are cut; at it pushes wait, and after 3 s are refused, until they are. Files are kept for reuse up to it."
    ),
    flag!(
        "wal.repair" @ "wal.repair",
        Text,
        "none",
        wal_repair = word,
        "What to do with a write-ahead log that is damaged in its middle: none, refuse the start; truncate, go on with what is before the damage and lose what is behind it. The log line tells how many records that are."
    ),
    flag!(
        "wal.segment-bytes" @ "wal.segment_bytes",
        Size,
        "64MiB",
        wal.segment_bytes = size,
        "Length of the files of the write-ahead log. Each shard keeps the current one and a prepared one ahead; -wal.max-bytes has room for four at least."
    ),
];

fn integer_i64(text: &str) -> Result<i64, String> {
    integer(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_distinct_with_their_aliases() {
        assert!(FLAGS.is_sorted_by(|a, b| a.name < b.name), "the table is sorted by name");
        let mut names: Vec<&str> =
            FLAGS.iter().flat_map(|flag| flag.aliases.iter().copied().chain([flag.name])).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name means one flag");
    }

    #[test]
    fn a_path_in_yaml_means_one_flag_and_no_block() {
        let mut paths: Vec<&str> =
            FLAGS.iter().flat_map(|flag| flag.yaml.iter().copied()).collect();
        paths.sort_unstable();
        for pair in paths.windows(2) {
            assert_ne!(pair[0], pair[1], "a path means one flag");
            let inside = format!("{}.", pair[0]);
            assert!(!pair[1].starts_with(&inside), "{} is a setting and a block", pair[0]);
        }
    }

    /// The table's defaults are texts for people; this holds them against the values in force.
    #[test]
    fn default_texts_are_the_defaults_in_force() {
        for flag in FLAGS {
            let mut config = Config::default();
            (flag.set)(&mut config, flag.default).unwrap();
            assert_eq!(config, Config::default(), "-{}={}", flag.name, flag.default);
            let shown = (flag.get)(&config);
            (flag.set)(&mut config, &shown).unwrap();
            assert_eq!(config, Config::default(), "-{} shows {shown}", flag.name);
        }
    }
}
