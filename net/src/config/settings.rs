//! YAML onto the table of flags: a key is a flag's path, a value is read as on the command line.
//!
//! A key is honoured ([`FLAGS`]), accepted and noted (`accepted`), a block around such keys, or an error with its line.
//! A key without a value changes nothing, as with Go's YAML.

use engine::limits::Limits;

use super::Config;
use super::accepted::{self, ACCEPTED};
use super::flags::{FLAGS, Flag, Kind};
use super::yaml::{Node, Value, YamlError};

/// A key that is accepted and does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotHonoured {
    /// Its path.
    pub path: String,
    /// Its line, from 1.
    pub line: u32,
}

/// Sets what a document says; the first thing wrong ends it, with `config` half set.
pub fn apply(config: &mut Config, document: &Node) -> Result<Vec<NotHonoured>, YamlError> {
    let mut not_honoured = Vec::new();
    block(config, "", document, &mut not_honoured)?;
    Ok(not_honoured)
}

/// The limits of a tenant whose overrides are the map `document`, with the keys that `limits:` has in the configuration file;
/// what it does not say is as in `base`.
pub fn limits(base: &Limits, document: &Node) -> Result<(Limits, Vec<NotHonoured>), YamlError> {
    let mut config = Config { limits: base.clone(), ..Config::default() };
    let mut not_honoured = Vec::new();
    block(&mut config, "limits", document, &mut not_honoured)?;
    Ok((config.limits, not_honoured))
}

fn block(
    config: &mut Config,
    path: &str,
    node: &Node,
    not_honoured: &mut Vec<NotHonoured>,
) -> Result<(), YamlError> {
    let entries = match &node.value {
        Value::Null => return Ok(()),
        Value::Map(entries) => entries,
        other => {
            let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
            let reason = format!("{place}expected a map of settings, found {}", other.kind());
            return Err(YamlError::new(node.line, reason));
        }
    };
    for entry in entries {
        let path =
            if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        if let Some(flag) = honoured(&path) {
            set(config, flag, &path, &entry.value)?;
        } else if accepted::by_path(&path).is_some() {
            not_honoured.push(NotHonoured { path, line: entry.line });
        } else if is_block(&path) {
            block(config, &path, &entry.value, not_honoured)?;
        } else {
            return Err(YamlError::new(entry.line, format!("unknown key {path}")));
        }
    }
    Ok(())
}

fn honoured(path: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.yaml.contains(&path))
}

/// Whether settings lie below this path.
fn is_block(path: &str) -> bool {
    let is_below =
        |setting: &str| setting.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    FLAGS.iter().flat_map(|flag| flag.yaml).any(|setting| is_below(setting))
        || ACCEPTED.iter().any(|setting| is_below(&setting.path))
}

fn set(config: &mut Config, flag: &Flag, path: &str, node: &Node) -> Result<(), YamlError> {
    let text = match &node.value {
        Value::Null => return Ok(()),
        Value::Scalar(text) => text,
        other => {
            let reason = format!("{path}: expected one value, found {}", other.kind());
            return Err(YamlError::new(node.line, reason));
        }
    };
    // YAML 1.1's words, which Go's YAML still takes for booleans.
    let text = match (flag.kind, text.as_str()) {
        (Kind::Bool, "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON") => "true",
        (Kind::Bool, "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF") => "false",
        (_, text) => text,
    };
    (flag.set)(config, text).map_err(|expected| {
        YamlError::new(node.line, format!("{path}: {expected}, found {text:?}"))
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::config::yaml;

    fn applied(text: &str) -> Result<(Config, Vec<NotHonoured>), String> {
        let document = yaml::read(text).map_err(|error| error.to_string())?;
        let mut config = Config::default();
        let not_honoured = apply(&mut config, &document).map_err(|error| error.to_string())?;
        Ok((config, not_honoured))
    }

    #[test]
    fn every_flag_with_a_path_is_set_from_yaml_as_from_the_command_line() {
        for flag in FLAGS {
            for path in flag.yaml {
                let mut nested = String::new();
                for (depth, key) in path.split('.').enumerate() {
                    write!(nested, "\n{}{key}:", "  ".repeat(depth)).unwrap();
                }
                let (config, not_honoured) =
                    applied(&format!("{nested} '{}'\n", flag.default)).unwrap();
                assert_eq!((config, not_honoured), (Config::default(), Vec::new()), "{path}");
                let inside = applied(&format!("{nested} [1]\n")).unwrap_err();
                assert!(
                    inside.contains(&format!("{path}: expected one value, found a list")),
                    "{inside}"
                );
            }
        }
    }

    #[test]
    fn a_file_sets_what_it_says_and_nothing_else() {
        let text = "target: all\nmultitenancy_enabled: yes\nserver:\n  http_listen_port: 4100\n  log_level: debug\n\
                    limits:\n  ingestion_rate_mb: 10\n  max_query_length: 7d\n  max_query_lookback:\n\
                    pyroscopedb:\n  data_path: /data\n";
        let (config, not_honoured) = applied(text).unwrap();
        let mut want =
            Config { multitenancy_enabled: true, data_path: "/data".into(), ..Config::default() };
        want.http.listen_port = 4100;
        want.log.level = crate::config::LogLevel::Debug;
        want.limits.ingestion_rate_mb = 10.0;
        want.limits.max_query_length_ms = 7 * 86_400_000;
        assert_eq!((config, not_honoured), (want, Vec::new()));
    }

    #[test]
    fn what_is_accepted_is_noted_once_a_key_whatever_lies_below_it() {
        let text = "scrape_configs:\n- job_name: x\n  static_configs: [{targets: [a]}]\nmemberlist:\n  join_members: [a, b]\n\
                    storage:\n  backend: filesystem\n  s3:\n    region: eu\n    http: {}\nlimits:\n  ingestion_relabeling_rules:\n  - action: drop\n";
        let (config, not_honoured) = applied(text).unwrap();
        assert_eq!(config, Config::default());
        let noted: Vec<String> =
            not_honoured.iter().map(|key| format!("{}@{}", key.path, key.line)).collect();
        let want = [
            "scrape_configs@1",
            "memberlist.join_members@5",
            "storage.s3.region@9",
            "limits.ingestion_relabeling_rules@12",
        ];
        assert_eq!(noted, want);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_key() {
        for (text, error) in [
            ("servre:\n  http_listen_port: 1\n", "line 1: unknown key servre"),
            ("server:\n  http_port: 1\n", "line 2: unknown key server.http_port"),
            (
                "limits:\n  # why\n  ingestion_rate_mb: fast\n",
                "line 3: limits.ingestion_rate_mb: expected a number of 0 or more, found \"fast\"",
            ),
            ("server: 5\n", "line 1: server: expected a map of settings, found a value"),
            ("- a\n", "line 1: expected a map of settings, found a list"),
            (
                "limits:\n  max_query_length: {a: b}\n",
                "line 2: limits.max_query_length: expected one value, found a map",
            ),
            (
                "storage:\n  s3: [a]\n",
                "line 2: storage.s3: expected a map of settings, found a list",
            ),
        ] {
            assert_eq!(applied(text).unwrap_err(), error);
        }
    }

    #[test]
    fn overrides_begin_with_the_limits_of_all() {
        let base = Limits { ingestion_rate_mb: 7.0, ..Limits::default() };
        let document = yaml::read("ingestion_rate: 2\n").unwrap();
        let error = limits(&base, &document).unwrap_err();
        assert_eq!(error.to_string(), "line 1: unknown key limits.ingestion_rate");
        let document = yaml::read("max_query_length: 2d\nmax_query_parallelism: 3\n").unwrap();
        let (found, not_honoured) = limits(&base, &document).unwrap();
        assert_eq!(found, Limits { max_query_length_ms: 2 * 86_400_000, ..base });
        let path = "limits.max_query_parallelism".to_owned();
        assert_eq!(not_honoured, [NotHonoured { path, line: 2 }]);
    }

    #[test]
    fn no_document_panics() {
        bolero::check!().with_type::<Vec<(u8, String)>>().for_each(|pairs| {
            let mut text = String::new();
            for (pick, value) in pairs {
                let flag = &FLAGS[*pick as usize % FLAGS.len()];
                let key = flag.yaml.first().and_then(|path| path.split('.').next());
                writeln!(text, "{}: {value}", key.unwrap_or("x")).unwrap();
            }
            let _ = applied(&text);
        });
    }
}
