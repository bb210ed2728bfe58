//! What a process is told: flags in Go's syntax with Pyroscope's names where the meaning is the same.
//!
//! One table ([`FLAGS`]) makes parsing, `-help` and `docs/configuration.md`. What is not built yet is accepted where files and
//! manifests carry it and refused with a clear text where it would change what the server does ([`Config::check`]).

mod accepted;
mod docs;
mod env;
mod flags;
mod memory;
mod modules;
mod pages;
mod parse;
pub mod settings;
mod value;
pub mod yaml;

use std::path::PathBuf;
use std::time::Duration;

use engine::limits::Limits;

use crate::{blocks, wal};

pub use accepted::{ACCEPTED, Accepted};
pub use docs::reference_page;
pub use flags::{FLAGS, Flag, Kind};
pub use memory::memory_limit_default;
pub use modules::{MODULES, Module};
pub use pages::{Pages, limits_lines};
pub use parse::{ConfigError, Invocation, parse};

/// Everything a process is told at its start.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// File with further settings, which flags override; empty: none.
    pub config_file: String,
    /// Whether `${NAME}` in that file stands for a variable of the environment.
    pub expand_env: bool,
    /// What was said and does nothing, each once, in words for a warning.
    pub not_honoured: Vec<String>,
    /// Modules to run, by name and separated by commas; only `all` exists.
    pub target: String,
    /// Directory of the log (and later of blocks).
    pub data_path: PathBuf,
    /// Shards; 0: as many as CPUs, one fewer above four.
    pub shards: u16,
    /// How shards run.
    pub runtime: RuntimeKind,
    /// The HTTP server.
    pub http: HttpConfig,
    /// Whether requests carry their tenant in `X-Scope-OrgID`; off, all data is `anonymous`'s.
    pub multitenancy_enabled: bool,
    /// Where blocks go; only `filesystem` exists.
    pub storage_backend: String,
    /// The write-ahead log.
    pub wal: wal::Settings,
    /// What becomes of damaged logs of earlier runs.
    pub wal_repair: wal::recovery::Repair,
    /// When heads are cut.
    pub cuts: blocks::Settings,
    /// What is kept of blocks and of the disk.
    pub retention: blocks::RetentionSettings,
    /// Limit of what is accounted, bytes; 0: a share of the machine's or container's memory.
    pub memory_limit_bytes: u64,
    /// The process's own log lines.
    pub log: LogConfig,
    /// Limits of every tenant.
    pub limits: Limits,
    /// Limits of single tenants.
    pub runtime_config: RuntimeConfig,
}

/// Where limits of single tenants are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Files, separated by commas; empty: none.
    pub files: String,
    /// How often they are read again; zero: never.
    pub reload_period: Duration,
}

/// How shards run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// io_uring where it can be used, else portable.
    Auto,
    /// io_uring.
    Uring,
    /// epoll, and a thread for files per shard.
    Portable,
}

/// The HTTP server's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// IP address or host name to listen on; empty: all addresses.
    pub listen_address: String,
    /// TCP port; 0: a free one.
    pub listen_port: u16,
    /// How long requests may take to end when the process stops.
    pub graceful_shutdown_timeout: Duration,
    /// How long a request's headers and body may take; zero: for ever.
    pub read_timeout: Duration,
    /// How long an answer may be on its way to a client; zero: for ever.
    pub write_timeout: Duration,
    /// What the paths of all routes begin with; empty: nothing.
    pub path_prefix: String,
    /// How long a connection may be without requests; zero: for ever.
    pub idle_timeout: Duration,
    /// Connections of the process; 0: no limit but the built-in one of each shard.
    pub connections_max: usize,
}

/// The process's own log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Least severity written.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `ts=… level=info msg="…" key=value`.
    Logfmt,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            config_file: String::new(),
            expand_env: false,
            not_honoured: Vec::new(),
            target: "all".to_owned(),
            data_path: PathBuf::from("./data"),
            shards: 0,
            runtime: RuntimeKind::Auto,
            http: HttpConfig {
                listen_address: String::new(),
                listen_port: 4040,
                graceful_shutdown_timeout: Duration::from_secs(30),
                read_timeout: Duration::from_secs(30),
                write_timeout: Duration::from_secs(30),
                path_prefix: String::new(),
                idle_timeout: Duration::from_mins(2),
                connections_max: 0,
            },
            multitenancy_enabled: false,
            storage_backend: "filesystem".to_owned(),
            wal: wal::Settings::default(),
            wal_repair: wal::recovery::Repair::None,
            cuts: blocks::Settings::default(),
            retention: blocks::RetentionSettings::default(),
            memory_limit_bytes: 0,
            log: LogConfig { level: LogLevel::Info, format: LogFormat::Logfmt },
            limits: Limits::default(),
            runtime_config: RuntimeConfig {
                files: String::new(),
                reload_period: Duration::from_secs(10),
            },
        }
    }
}

/// A setting that this version cannot serve.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("-{flag}={value}: {reason}")]
pub struct Unsupported {
    flag: &'static str,
    value: String,
    reason: String,
}

impl Config {
    fn note_not_honoured(&mut self, setting: String) {
        if !self.not_honoured.contains(&setting) {
            self.not_honoured.push(setting);
        }
    }

    /// Refuses what is legal and not built yet, and values that fit no machine.
    pub fn check(&self) -> Result<(), Unsupported> {
        let refused = |flag, value: &str, reason: &str| {
            Err(Unsupported { flag, value: value.to_owned(), reason: reason.to_owned() })
        };
        if let Err(reason) = modules::check(&self.target) {
            return refused("target", &self.target, &reason);
        }
        if self.storage_backend != "filesystem" {
            let reason = "only the backend filesystem is built so far";
            return refused("storage.backend", &self.storage_backend, reason);
        }
        if let Err((flag, reason)) = self.wal.check() {
            let bytes = match flag {
                "wal.max-bytes" => self.wal.bytes_max,
                _ => self.wal.segment_bytes,
            };
            return refused(flag, &bytes.to_string(), &reason);
        }
        if self.shards > crate::runtime::cpu_plan::SHARDS_MAX {
            return refused("shards", &self.shards.to_string(), "at most 1024 shards");
        }
        Ok(())
    }
}
