//! The configuration as `/api/v1/status/config` shows it: YAML that `-config.file` would read again, secrets masked.
//!
//! Not here: what only the command line can say, and what was accepted without effect (a warning in the log names that).

use bytes::Bytes;
use engine::limits::Limits;
use serde_json::{Map, Value};

use super::Config;
use super::flags::{FLAGS, Flag, Kind};

/// Stands for a secret that is set.
const MASK: &str = "********";

/// The texts of `/api/v1/status/config`, `…/diff` and `…/default`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// What is in force.
    pub in_force: Bytes,
    /// What of it differs from the defaults.
    pub changed: Bytes,
    /// The defaults.
    pub defaults: Bytes,
}

impl Pages {
    /// Made once, at the start: a configuration does not change while the process runs.
    pub fn of(config: &Config) -> Self {
        let defaults = Config::default();
        Self {
            in_force: page(config, |_| true),
            changed: page(config, |flag| (flag.get)(config) != (flag.get)(&defaults)),
            defaults: page(&defaults, |_| true),
        }
    }
}

/// The limits of a tenant as a file of overrides has them, a line each, `indent` before it; only what differs from `base`, if
/// that is given.
pub fn limits_lines(limits: &Limits, base: Option<&Limits>, indent: &str) -> String {
    let of = |limits: &Limits| Config { limits: limits.clone(), ..Config::default() };
    let (config, base) = (of(limits), base.map(of));
    let mut lines = String::new();
    for flag in FLAGS {
        let path = flag.yaml.first();
        let Some(key) = path.and_then(|path| path.strip_prefix("limits.")) else { continue };
        let value = (flag.get)(&config);
        if base.as_ref().is_none_or(|base| (flag.get)(base) != value) {
            // Numbers and durations stand for themselves in YAML.
            lines.extend([indent, key, ": ", &value, "\n"]);
        }
    }
    lines
}

fn page(config: &Config, is_shown: impl Fn(&Flag) -> bool) -> Bytes {
    let mut root = Map::new();
    for flag in FLAGS.iter().filter(|flag| is_shown(flag)) {
        let Some(path) = flag.yaml.first() else { continue };
        insert(&mut root, path, value(flag, config));
    }
    let text = serde_saphyr::to_string(&Value::Object(root));
    Bytes::from(text.expect("a tree of texts and numbers is YAML"))
}

fn insert(map: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            map.insert(path.to_owned(), value);
        }
        Some((block, rest)) => {
            let block = map.entry(block).or_insert_with(|| Value::Object(Map::new()));
            let block = block.as_object_mut().expect("a path is a setting or a block, never both");
            insert(block, rest, value);
        }
    }
}

fn value(flag: &Flag, config: &Config) -> Value {
    let text = (flag.get)(config);
    let number = match flag.kind {
        Kind::Bool => return Value::Bool(text == "true"),
        Kind::Secret if !text.is_empty() => return Value::String(MASK.to_owned()),
        Kind::Int => text.parse::<i64>().ok().map(Value::from),
        Kind::Float => text.parse::<f64>().ok().map(Value::from),
        _ => None,
    };
    number.unwrap_or(Value::String(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{settings, yaml};

    fn read(page: &Bytes) -> Config {
        let document = yaml::read(std::str::from_utf8(page).unwrap()).unwrap();
        let mut config = Config::default();
        assert_eq!(settings::apply(&mut config, &document).unwrap(), []);
        config
    }

    #[test]
    fn what_is_shown_is_read_as_the_same_configuration() {
        let mut config = Config { multitenancy_enabled: true, shards: 3, ..Config::default() };
        config.limits.ingestion_rate_mb = 12.5;
        config.limits.max_query_length_ms = 7 * 86_400_000;
        config.memory_limit_bytes = 512 << 20;
        config.data_path = "/a: b #'c".into();
        let pages = Pages::of(&config);
        assert_eq!(read(&pages.in_force), config);
        assert_eq!(read(&pages.changed), config);
        assert_eq!(read(&pages.defaults), Config::default());
        let changed = String::from_utf8(pages.changed.to_vec()).unwrap();
        assert!(changed.contains("ingestion_rate_mb: 12.5\n"), "{changed}");
        assert!(changed.contains("max_query_length: 1w\n"), "{changed}");
        assert!(!changed.contains("log_level"), "{changed}");
    }

    #[test]
    fn what_is_named_like_a_secret_is_one() {
        for flag in FLAGS {
            let is_named = ["secret", "password", "account-key", "access-key", "connection-string"]
                .iter()
                .any(|word| flag.name.contains(word));
            assert!(!is_named || flag.kind == Kind::Secret, "-{} is a secret", flag.name);
        }
    }
}
