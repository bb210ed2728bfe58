//! The table of flags: name, aliases, kind, default, help, and where the value goes.

use std::path::PathBuf;

use super::value::{boolean, duration, float, integer, milliseconds, size};
use super::{Config, LogFormat, LogLevel, RuntimeKind};
use crate::wal::Ack;

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// Further names with the same meaning.
    pub aliases: &'static [&'static str],
    /// What a value looks like.
    pub kind: Kind,
    /// The default, as one would write it.
    pub default: &'static str,
    /// One or two sentences.
    pub help: &'static str,
    /// Reads a value into the configuration; the error says what was expected.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
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
            Self::Text => "string",
        }
    }
}

/// One of several words.
fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// Declares a flag whose value is read by `$read` into the field `$field`.
macro_rules! flag {
    ($name:literal $(| $alias:literal)*, $kind:ident, $default:literal, $($field:ident).+ = $read:expr, $help:literal) => {
        Flag {
            name: $name,
            aliases: &[$($alias),*],
            kind: Kind::$kind,
            default: $default,
            help: $help,
            set: |config, text| {
                config.$($field).+ = ($read)(text)?;
                Ok(())
            },
        }
    };
}

/// All flags, sorted by name.
pub static FLAGS: &[Flag] = &[
    flag!(
        "auth.multitenancy-enabled",
        Bool,
        "false",
        multitenancy_enabled = boolean,
        "Take the tenant from the header X-Scope-OrgID, which is then required. Otherwise all data belongs to the tenant anonymous."
    ),
    flag!(
        "data.path" | "pyroscopedb.data-path" | "phlaredb.data-path",
        Text,
        "./data",
        data_path = |value: &str| if value.is_empty() {
            Err("expected a directory".to_owned())
        } else {
            Ok(PathBuf::from(value))
        },
        "Directory of the write-ahead log and of local blocks. One process at a time uses it."
    ),
    flag!(
        "distributor.ingestion-body-limit-mb",
        Float,
        "256",
        limits.ingestion_body_limit_mb = float,
        "Largest body of one request of a tenant as received, in MB of 1048576 bytes. 0 for no limit."
    ),
    flag!(
        "distributor.ingestion-burst-size-mb",
        Float,
        "2",
        limits.ingestion_burst_size_mb = float,
        "How far a tenant may run ahead of its ingestion rate, in MB of 1048576 bytes. At least the size of the largest push."
    ),
    flag!(
        "distributor.ingestion-rate-limit-mb",
        Float,
        "4",
        limits.ingestion_rate_mb = float,
        "Uncompressed profile bytes a tenant may push a second, in MB of 1048576 bytes. 0 for no limit."
    ),
    flag!(
        "log.format",
        Text,
        "logfmt",
        log.format =
            |value: &str| word(value, &[("logfmt", LogFormat::Logfmt), ("json", LogFormat::Json)]),
        "Format of the log lines on stderr: logfmt or json."
    ),
    flag!(
        "log.level",
        Text,
        "info",
        log.level = |value: &str| word(
            value,
            &[
                ("debug", LogLevel::Debug),
                ("info", LogLevel::Info),
                ("warn", LogLevel::Warn),
                ("error", LogLevel::Error),
            ]
        ),
        "Least severity of the log lines written: debug, info, warn or error."
    ),
    flag!(
        "memory.limit",
        Size,
        "0",
        memory_limit_bytes = size,
        "Most memory that data, queues and queries may take together. Pushes are answered 429 from 90 % of it on, queries above it. 0: 70 % of the \
         container's memory limit, or of the machine's memory where there is none."
    ),
    flag!(
        "querier.max-flamegraph-nodes-default",
        Int,
        "8192",
        limits.max_flamegraph_nodes_default = integer_i64,
        "Nodes of a flame graph where a query asks for no number. 0 for no limit."
    ),
    flag!(
        "querier.max-flamegraph-nodes-max",
        Int,
        "1048576",
        limits.max_flamegraph_nodes_max = integer_i64,
        "Most nodes of a flame graph that a query may ask for. 0 for no limit."
    ),
    flag!(
        "querier.max-query-length",
        Duration,
        "1d",
        limits.max_query_length_ms = milliseconds,
        "Longest time range of a query. 0 for no limit."
    ),
    flag!(
        "querier.max-query-lookback",
        Duration,
        "1w",
        limits.max_query_lookback_ms = milliseconds,
        "How far back queries reach; what lies before is left out of their range. 0 for no limit."
    ),
    flag!(
        "runtime",
        Text,
        "auto",
        runtime = |value: &str| word(
            value,
            &[
                ("auto", RuntimeKind::Auto),
                ("uring", RuntimeKind::Uring),
                ("portable", RuntimeKind::Portable),
            ]
        ),
        "How shards run: uring (io_uring), portable (epoll, and a thread for files per shard), or auto for uring where it can be used, else portable with a warning."
    ),
    flag!(
        "server.graceful-shutdown-timeout",
        Duration,
        "30s",
        http.graceful_shutdown_timeout = duration,
        "How long requests under way may take to end after SIGTERM. 20s at most are granted, so that the process ends within 25s."
    ),
    flag!(
        "server.http-conn-limit",
        Int,
        "0",
        http.connections_max = integer,
        "Most HTTP connections at a time, dealt out evenly to the shards. 0: only the built-in limit of each shard."
    ),
    flag!(
        "server.http-idle-timeout",
        Duration,
        "2m",
        http.idle_timeout = duration,
        "How long an HTTP connection may be idle. 0 for no limit."
    ),
    flag!(
        "server.http-listen-address",
        Text,
        "",
        http.listen_address = |value: &str| Ok::<_, String>(value.to_owned()),
        "IP address or host name the HTTP server listens on. Empty for all addresses, IPv4 and IPv6."
    ),
    flag!(
        "server.http-listen-port",
        Int,
        "4040",
        http.listen_port = integer,
        "TCP port of the HTTP server. 0 takes a free one and logs it."
    ),
    flag!(
        "server.http-read-timeout",
        Duration,
        "30s",
        http.read_timeout = duration,
        "How long reading a request may take. 0 for no limit."
    ),
    flag!(
        "server.http-write-timeout",
        Duration,
        "30s",
        http.write_timeout = duration,
        "Accepted for compatibility. An answer that its client does not read is given up after -server.http-idle-timeout."
    ),
    flag!(
        "shards",
        Int,
        "0",
        shards = integer,
        "Shards, each an executor with its own log, data and listener. 0: as many as CPUs the process may use, one fewer above four."
    ),
    flag!(
        "storage.backend",
        Text,
        "filesystem",
        storage_backend = |value: &str| Ok::<_, String>(value.to_owned()),
        "Where blocks are kept. Only filesystem is built so far."
    ),
    flag!(
        "target",
        Text,
        "all",
        target = |value: &str| Ok::<_, String>(value.to_owned()),
        "Modules this process runs. Only all is built so far."
    ),
    flag!(
        "validation.max-label-names-per-series",
        Int,
        "30",
        limits.max_label_names_per_series = integer,
        "Most label names of a series."
    ),
    flag!(
        "validation.max-length-label-name",
        Int,
        "1024",
        limits.max_label_name_length = integer,
        "Longest label name, in bytes."
    ),
    flag!(
        "validation.max-length-label-value",
        Int,
        "2048",
        limits.max_label_value_length = integer,
        "Longest label value, in bytes."
    ),
    flag!(
        "validation.max-profile-size-bytes",
        Int,
        "4194304",
        limits.max_profile_size_bytes = integer,
        "Largest profile, in uncompressed bytes. 0 for no limit."
    ),
    flag!(
        "validation.max-profile-stacktrace-depth",
        Int,
        "1000",
        limits.max_profile_stacktrace_depth = integer,
        "Deepest stack. Deeper ones lose frames at the leaf and are kept. 0 for no limit."
    ),
    flag!(
        "validation.max-profile-stacktrace-sample-labels",
        Int,
        "100",
        limits.max_profile_stacktrace_sample_labels = integer,
        "Most labels of a sample. 0 for no limit."
    ),
    flag!(
        "validation.max-profile-stacktrace-samples",
        Int,
        "16000",
        limits.max_profile_stacktrace_samples = integer,
        "Most samples of a profile. 0 for no limit."
    ),
    flag!(
        "validation.max-profile-symbol-value-length",
        Int,
        "65535",
        limits.max_profile_symbol_value_length = integer,
        "Longest label value, function name or file name in a profile, in bytes. Longer ones keep their end. 0 for no limit."
    ),
    flag!(
        "validation.max-sessions-per-series",
        Int,
        "0",
        limits.max_sessions_per_series = integer,
        "Sessions that a series is split into by the label __session_id__. 0 removes that label."
    ),
    flag!(
        "validation.reject-newer-than",
        Duration,
        "10m",
        limits.reject_newer_than_ms = milliseconds,
        "How far in the future a profile's time may lie. 0 for no limit."
    ),
    flag!(
        "validation.reject-older-than",
        Duration,
        "1h",
        limits.reject_older_than_ms = milliseconds,
        "How far in the past a profile's time may lie. 0 for no limit."
    ),
    flag!(
        "wal.ack",
        Text,
        "fsync",
        wal.ack = |value: &str| word(value, &[("fsync", Ack::Fsync), ("memory", Ack::Memory)]),
        "When a push is acknowledged: fsync, when it is synced to disk; memory, before that, so that a crash may lose it."
    ),
    flag!(
        "wal.segment-bytes",
        Size,
        "64MiB",
        wal.segment_bytes = size,
        "Length of the files of the write-ahead log. Each shard keeps the current one and a prepared one ahead."
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

    /// The table's defaults are texts for people; this holds them against the values in force.
    #[test]
    fn default_texts_are_the_defaults_in_force() {
        for flag in FLAGS {
            let mut config = Config::default();
            (flag.set)(&mut config, flag.default).unwrap();
            assert_eq!(config, Config::default(), "-{}={}", flag.name, flag.default);
        }
    }
}
