//! Go's flag syntax: `-name=value`, `--name=value`, `-name value`; a boolean may stand alone.

use super::flags::{FLAGS, Flag, Kind};
use super::{Config, docs};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Invocation {
    /// Run with this configuration.
    Run(Box<Config>),
    /// Print this text on stdout and end with 0.
    Print(String),
}

/// A command line that cannot be read; the process prints it and ends with 2.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the texts say it")]
pub enum UsageError {
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
}

/// Reads the command line without the program's name. The last of several equal flags wins.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Invocation, UsageError> {
    let mut config = Config::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let Some(name) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            return Err(UsageError::Argument { text: arg });
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(UsageError::Syntax { text: arg });
        }
        match name {
            "help" | "h" => return Ok(Invocation::Print(docs::help())),
            "version" => return Ok(Invocation::Print(docs::version())),
            _ => {}
        }
        let flag = find(name).ok_or_else(|| UsageError::Unknown { name: name.to_owned() })?;
        let value = match (value, flag.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true".to_owned(),
            (None, _) => {
                args.next().ok_or_else(|| UsageError::MissingValue { name: name.to_owned() })?
            }
        };
        (flag.set)(&mut config, &value).map_err(|expected| UsageError::Value {
            name: name.to_owned(),
            value,
            expected,
        })?;
    }
    Ok(Invocation::Run(Box::new(config)))
}

fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name || flag.aliases.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Config, UsageError> {
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
            Err(UsageError::Argument { text: "true".to_owned() })
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
            ("-target=distributor", "-target=distributor: only target all is built so far"),
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
        assert!(version.starts_with("pyrite, version "), "{version}");
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
