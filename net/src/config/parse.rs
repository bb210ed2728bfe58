//! What a process is told: Go's flag syntax (`-name=value`, `--name=value`, `-name value`; a boolean may stand alone), and the file
//! that `-config.file` names. Flags win over the file, the file over the defaults.

use std::io::{self, Read as _};

use super::accepted::{self, Accepted};
use super::flags::{FLAGS, Flag, Kind};
use super::yaml::DOCUMENT_BYTES_MAX;
use super::{Config, docs, env, modules, settings, yaml};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Invocation {
    /// Run with this configuration.
    Run(Box<Config>),
    /// Print this text on stdout and end with 0.
    Print(String),
}

/// A command line or a file that cannot be read; the process prints it and ends with [`ConfigError::is_usage`]'s status.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the texts say it")]
pub enum ConfigError {
    #[error("flag provided but not defined: -{name}")]
    Unknown { name: String },
    #[error("flag needs an argument: -{name}")]
    MissingValue { name: String },
    #[error("invalid value {value:?} for flag -{name}: {expected}")]
    Value { name: String, value: String, expected: String },
    #[error("bad flag syntax: {text}")]
    Syntax { text: String },
    #[error("unexpected argument {text:?}: all settings are flags")]
    Argument { text: String },
    #[error("failed parsing config: {file}: {reason}")]
    File { file: String, reason: String },
    #[error("failed parsing config: {file}:{line}: {reason}")]
    Line { file: String, line: u32, reason: String },
}

impl ConfigError {
    /// Whether the command line itself is wrong, which ends the process with 2; a file that is wrong ends it with 1.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::File { .. } | Self::Line { .. })
    }
}

/// Reads the command line without the program's name, and the file it names. The last of several equal flags wins.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Invocation, ConfigError> {
    parse_with(args, &Host { read: &read_file, variable: &|name| std::env::var(name).ok() })
}

/// What parsing needs of the machine.
struct Host<'a> {
    read: &'a dyn Fn(&str) -> io::Result<Vec<u8>>,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

/// One byte more than a document may have, so that a longer one is refused and not cut.
fn read_file(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse_with(
    args: impl IntoIterator<Item = String>,
    host: &Host<'_>,
) -> Result<Invocation, ConfigError> {
    let mut given = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let Some(name) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            return Err(ConfigError::Argument { text: arg });
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(ConfigError::Syntax { text: arg });
        }
        match name {
            "help" | "h" => return Ok(Invocation::Print(docs::help())),
            "help-all" => return Ok(Invocation::Print(docs::help_all())),
            "modules" => return Ok(Invocation::Print(modules::listing())),
            "version" => return Ok(Invocation::Print(docs::version())),
            _ => {}
        }
        let setting = find(name).ok_or_else(|| ConfigError::Unknown { name: name.to_owned() })?;
        let value = match (value, setting.is_bool()) {
            (Some(value), _) => value,
            (None, true) => "true".to_owned(),
            (None, false) => {
                args.next().ok_or_else(|| ConfigError::MissingValue { name: name.to_owned() })?
            }
        };
        given.push(Given { name: name.to_owned(), setting, value });
    }
    let mut flags_only = Config::default();
    apply(&mut flags_only, &given)?;
    if flags_only.config_file.is_empty() {
        return Ok(Invocation::Run(Box::new(flags_only)));
    }
    let mut config = Config::default();
    apply_file(&mut config, &flags_only, host)?;
    apply(&mut config, &given)?;
    Ok(Invocation::Run(Box::new(config)))
}

/// A flag of the command line.
struct Given {
    name: String,
    setting: Setting,
    value: String,
}

enum Setting {
    Honoured(&'static Flag),
    Accepted(&'static Accepted),
}

impl Setting {
    fn is_bool(&self) -> bool {
        match self {
            Self::Honoured(flag) => flag.kind == Kind::Bool,
            Self::Accepted(accepted) => accepted.is_bool,
        }
    }
}

fn find(name: &str) -> Option<Setting> {
    let flag = FLAGS.iter().find(|flag| flag.name == name || flag.aliases.contains(&name));
    flag.map(Setting::Honoured).or_else(|| accepted::by_flag(name).map(Setting::Accepted))
}

fn apply(config: &mut Config, given: &[Given]) -> Result<(), ConfigError> {
    for Given { name, setting, value } in given {
        match setting {
            Setting::Accepted(_) => config.note_not_honoured(format!("-{name}")),
            Setting::Honoured(flag) => {
                (flag.set)(config, value).map_err(|expected| ConfigError::Value {
                    name: name.clone(),
                    value: value.clone(),
                    expected,
                })?;
            }
        }
    }
    Ok(())
}

/// Applies the file that the command line `told` names.
fn apply_file(config: &mut Config, told: &Config, host: &Host<'_>) -> Result<(), ConfigError> {
    let file = &told.config_file;
    let failed = |reason: String| ConfigError::File { file: file.clone(), reason };
    let bytes = (host.read)(file).map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| failed("the file is not UTF-8".to_owned()))?;
    let at = |line, reason| ConfigError::Line { file: file.clone(), line, reason };
    let expanded = if told.expand_env {
        env::expand(&text, host.variable).map_err(|error| at(error.line, error.reason))?
    } else {
        env::Expanded::unchanged(text)
    };
    let wrong = |error: yaml::YamlError| at(expanded.line(error.line), error.reason);
    let document = yaml::read(&expanded.text).map_err(wrong)?;
    for key in settings::apply(config, &document).map_err(wrong)? {
        config.note_not_honoured(format!("{} ({file}:{})", key.path, expanded.line(key.line)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogLevel;

    fn run(args: &[&str]) -> Result<Config, ConfigError> {
        match parse(args.iter().map(|arg| (*arg).to_owned()))? {
            Invocation::Run(config) => Ok(*config),
            Invocation::Print(text) => panic!("printed {text}"),
        }
    }

    #[test]
    fn all_of_gos_spellings_set_the_same_value() {
        for args in [
            &["-server.http-listen-port=4100"][..],
            &["--server.http-listen-port=4100"],
            &["-server.http-listen-port", "4100"],
            &["--server.http-listen-port", "4100"],
            &["-server.http-listen-port=1", "-server.http-listen-port=4100"],
        ] {
            assert_eq!(run(args).unwrap().http.listen_port, 4100, "{args:?}");
        }
    }

    #[test]
    fn a_boolean_stands_alone_and_takes_no_argument_after_it() {
        assert!(run(&["-auth.multitenancy-enabled"]).unwrap().multitenancy_enabled);
        assert!(!run(&["-auth.multitenancy-enabled=false"]).unwrap().multitenancy_enabled);
        assert_eq!(
            run(&["-auth.multitenancy-enabled", "true"]),
            Err(ConfigError::Argument { text: "true".to_owned() })
        );
    }

    #[test]
    fn aliases_set_what_their_flag_sets() {
        for name in ["data.path", "pyroscopedb.data-path", "phlaredb.data-path"] {
            let config = run(&[&format!("-{name}=/x")]).unwrap();
            assert_eq!(config.data_path.to_str(), Some("/x"), "{name}");
        }
    }

    #[test]
    fn a_value_may_hold_equal_signs_and_dashes() {
        let config = run(&["-data.path", "-a=b"]).unwrap();
        assert_eq!(config.data_path.to_str(), Some("-a=b"));
        assert_eq!(run(&["-data.path=a=b"]).unwrap().data_path.to_str(), Some("a=b"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let cases = [
            (&["-nonsense=1"][..], "flag provided but not defined: -nonsense"),
            (&["--no-such-flag"], "flag provided but not defined: -no-such-flag"),
            (&["-shards"], "flag needs an argument: -shards"),
            (
                &["-shards=x"],
                "invalid value \"x\" for flag -shards: expected a whole number of 0 or more",
            ),
            (
                &["-wal.ack=never"],
                "invalid value \"never\" for flag -wal.ack: expected one of fsync, memory",
            ),
            (
                &["-validation.reject-older-than=-1h"],
                "invalid value \"-1h\" for flag -validation.reject-older-than: expected a duration such as 1h30m, 500ms or 7d",
            ),
            (&["-data.path="], "invalid value \"\" for flag -data.path: expected a directory"),
            (&["---shards=1"], "bad flag syntax: ---shards=1"),
            (&["-=1"], "bad flag syntax: -=1"),
            (&["--"], "bad flag syntax: --"),
            (&["serve"], "unexpected argument \"serve\": all settings are flags"),
        ];
        for (args, text) in cases {
            assert_eq!(run(args).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn every_limit_has_a_flag() {
        let config = run(&[
            "-distributor.ingestion-rate-limit-mb=1000",
            "-distributor.ingestion-burst-size-mb=0.5",
            "-validation.reject-older-than=0",
            "-querier.max-query-length=7d",
            "-querier.max-flamegraph-nodes-max=0",
        ])
        .unwrap();
        let rates = [config.limits.ingestion_rate_mb, config.limits.ingestion_burst_size_mb];
        assert_eq!(rates.map(f64::to_bits), [1000.0, 0.5].map(f64::to_bits));
        assert_eq!(config.limits.reject_older_than_ms, 0);
        assert_eq!(config.limits.max_query_length_ms, 604_800_000);
        assert_eq!(config.limits.max_flamegraph_nodes_max, 0);
    }

    #[test]
    fn what_is_not_built_yet_is_refused_in_words() {
        let cases = [
            (
                "-target=distributor",
                "-target=distributor: only target all is built so far: a process runs all modules",
            ),
            (
                "-storage.backend=s3",
                "-storage.backend=s3: only the backend filesystem is built so far",
            ),
            ("-shards=2000", "-shards=2000: at most 1024 shards"),
        ];
        for (arg, text) in cases {
            assert_eq!(run(&[arg]).unwrap().check().unwrap_err().to_string(), text);
        }
        let short = run(&["-wal.segment-bytes=4KiB"]).unwrap().check().unwrap_err().to_string();
        assert!(short.starts_with("-wal.segment-bytes=4096: a WAL segment has "), "{short}");
        assert_eq!(Config::default().check(), Ok(()));
    }

    /// The configuration that the command line and this file make, with a variable `PORT`.
    fn with_file(file: &str, args: &[&str]) -> Result<Config, ConfigError> {
        let host = Host {
            read: &|path| match path {
                "p.yaml" => Ok(file.as_bytes().to_vec()),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
            variable: &|name| (name == "PORT").then(|| "4200".to_owned()),
        };
        let args = ["-config.file=p.yaml"].iter().chain(args).map(|arg| (*arg).to_owned());
        match parse_with(args, &host)? {
            Invocation::Run(config) => Ok(*config),
            Invocation::Print(text) => panic!("printed {text}"),
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let file = "server:\n  http_listen_port: 4100\n  log_level: warn\n";
        let config = with_file(file, &["-server.http-listen-port=4300"]).unwrap();
        assert_eq!((config.http.listen_port, config.log.level), (4300, LogLevel::Warn));
        let config = with_file(file, &["-log.level=info"]).unwrap();
        assert_eq!((config.http.listen_port, config.log.level), (4100, LogLevel::Info));
        assert_eq!(with_file("", &[]).unwrap().http.listen_port, 4040);
    }

    #[test]
    fn variables_are_filled_in_only_when_asked() {
        let file =
            "server:\n  http_listen_port: ${PORT}\nstorage:\n  backend: ${BACKEND:filesystem}\n";
        let config = with_file(file, &["-config.expand-env=true"]).unwrap();
        assert_eq!(config.http.listen_port, 4200);
        let error = with_file(file, &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("failed parsing config: p.yaml:2: server.http_listen_port: "),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_wrong_is_named_with_its_line_and_is_no_usage_error() {
        for (file, text) in [
            ("limits:\n  rate: 1\n", "failed parsing config: p.yaml:2: unknown key limits.rate"),
            ("target: [\n", "failed parsing config: p.yaml:"),
            (
                "target: all\ntarget: all\n",
                "failed parsing config: p.yaml:2: the key \"target\" is given twice, first on line 1",
            ),
        ] {
            let error = with_file(file, &[]).unwrap_err();
            assert!(error.to_string().starts_with(text), "{error}");
            assert!(!error.is_usage());
        }
        let error = with_file("", &["-config.file=none.yaml"]).unwrap_err();
        assert!(error.to_string().starts_with("failed parsing config: none.yaml: "), "{error}");
        // A wrong flag counts before the file is looked at.
        assert!(with_file("a: b", &["-shards=x"]).unwrap_err().is_usage());
    }

    #[test]
    fn what_is_accepted_and_does_nothing_is_noted_once() {
        let file = "memberlist:\n  join_members: [a]\n";
        let args = ["-ring.store", "consul", "-tracing.enabled", "-ring.store=etcd", "-shards=2"];
        let config = with_file(file, &args).unwrap();
        let noted = ["memberlist.join_members (p.yaml:2)", "-ring.store", "-tracing.enabled"];
        assert_eq!(config.not_honoured, noted);
        assert_eq!(config.shards, 2);
        for setting in accepted::ACCEPTED.iter().filter(|setting| !setting.flag.is_empty()) {
            let arg = format!("-{}{}", setting.flag, if setting.is_bool { "" } else { "=x" });
            assert_eq!(run(&[&arg]).unwrap().not_honoured, [format!("-{}", setting.flag)]);
        }
    }

    #[test]
    fn help_names_every_flag_and_version_the_program() {
        for arg in ["-help", "--help", "-h"] {
            let Ok(Invocation::Print(help)) = parse([arg.to_owned()]) else {
                panic!("{arg} prints");
            };
            for flag in FLAGS {
                assert!(help.contains(&format!("  -{}", flag.name)), "-{}", flag.name);
            }
        }
        let Ok(Invocation::Print(version)) = parse(["-version".to_owned()]) else {
            panic!("-version prints");
        };
        let begin = format!("pyrite, version {} (branch: ", env!("CARGO_PKG_VERSION"));
        assert!(version.starts_with(&begin) && version.contains(", revision: "), "{version}");
    }

    #[test]
    fn no_command_line_panics() {
        bolero::check!().with_type::<Vec<String>>().for_each(|args| {
            let _ = parse(args.iter().cloned());
        });
        bolero::check!().with_type::<(u8, String)>().for_each(|(flag, value)| {
            let flag = &FLAGS[*flag as usize % FLAGS.len()];
            let _ = (flag.set)(&mut Config::default(), value);
        });
    }
}
