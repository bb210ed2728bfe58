//! `sample_type_config`: under which display name a pprof's sample types decide `__name__`.

use std::collections::BTreeMap;

/// What a client says of one sample type; everything but the display name has no effect on what is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub(super) struct SampleTypeConfig {
    #[serde(default, rename = "display-name")]
    display_name: Option<String>,
}

/// Config by pprof sample type name.
pub(super) type SampleTypeConfigs = BTreeMap<String, Option<SampleTypeConfig>>;

/// Display names where a client sends no config. Go's block profiles look like its mutex profiles here: SDKs that send them
/// send a config.
const DISPLAY_NAMES: [(&str, &str); 4] = [
    ("contentions", "mutex_count"),
    ("delay", "mutex_duration"),
    ("goroutine", "goroutines"),
    ("samples", "cpu"),
];

/// Bytes of the JSON: SDKs send some hundred, and it is read in one go (0.3 ms).
const JSON_BYTES_MAX: usize = 64 << 10;

/// Why a config cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("{0} bytes are more than {JSON_BYTES_MAX}")]
    TooLong(usize),
    #[error("{0}")]
    Json(serde_json::Error),
}

/// Reads the JSON object; `None` for `null`, which means the defaults.
pub(super) fn parse(json: &[u8]) -> Result<Option<SampleTypeConfigs>, ConfigError> {
    if json.len() > JSON_BYTES_MAX {
        return Err(ConfigError::TooLong(json.len()));
    }
    serde_json::from_slice(json).map_err(ConfigError::Json)
}

/// (sample type, display name), sorted; a config replaces the defaults whole.
pub(super) fn display_names(configs: Option<&SampleTypeConfigs>) -> Vec<(String, String)> {
    let Some(configs) = configs else {
        return DISPLAY_NAMES.map(|(kind, name)| (kind.to_owned(), name.to_owned())).to_vec();
    };
    configs
        .iter()
        .filter_map(|(kind, config)| {
            let name = config.as_ref()?.display_name.as_ref()?;
            (!name.is_empty()).then(|| (kind.clone(), name.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: &str) -> Vec<(String, String)> {
        display_names(parse(json.as_bytes()).unwrap().as_ref())
    }

    #[test]
    fn a_config_replaces_the_defaults() {
        let config = r#"{"contentions":{"units":"lock_samples","display-name":"block_count","cumulative":true},
                         "delay":{"display-name":""},"cpu":null,"x":{}}"#;
        assert_eq!(names(config), [("contentions".to_owned(), "block_count".to_owned())]);
        assert_eq!(names("{}"), []);
    }

    #[test]
    fn no_config_means_the_defaults() {
        assert_eq!(names("null"), display_names(None));
        assert!(display_names(None).contains(&("samples".to_owned(), "cpu".to_owned())));
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        assert!(parse(b"[1]").is_err());
        assert!(parse("{\"a\":".repeat(10_000).as_bytes()).is_err(), "depth is bounded");
        let sent = br#"{"inuse-space":{"units":"bytes","display-name":"inuse_space"},"cpu":null}"#;
        bolero::check!().with_type().for_each(|(bytes, at): &(Vec<u8>, u8)| {
            let mut mutated = sent.to_vec();
            let at = usize::from(*at) % mutated.len();
            let end = (at + bytes.len()).min(mutated.len());
            mutated.splice(at..end, bytes.iter().copied());
            for json in [bytes, &mutated] {
                if let Ok(configs) = parse(json) {
                    let names = display_names(configs.as_ref());
                    assert!(names.len() <= json.len().max(DISPLAY_NAMES.len()));
                }
            }
        });
    }

    /// It was read whole in one go, whatever its size up to the body's limit of 256 MiB.
    #[test]
    fn a_config_longer_than_any_real_one_is_refused_unread() {
        let json = " ".repeat(JSON_BYTES_MAX) + "{}";
        assert_eq!(
            parse(json.as_bytes()).unwrap_err().to_string(),
            "65538 bytes are more than 65536"
        );
        assert!(parse(&json.as_bytes()[2..]).is_ok());
    }
}
