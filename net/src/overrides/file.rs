//! Reads files of runtime overrides (`-runtime-config.file`): limits of single tenants, with the keys of `limits:`.
//!
//! ```yaml
//! overrides:
//!   tenant-a:
//!     ingestion_rate_mb: 10
//!     max_query_length: 7d
//! ```
//! Of several files a later one wins, key by key. The first thing wrong refuses all of them, with file and line.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::sync::Arc;

use engine::limits::{Limits, Overrides};

use crate::config::settings;
use crate::config::yaml::{self, DOCUMENT_BYTES_MAX, Node, Value, YamlError};

/// Why files of overrides cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file that cannot be read.
    #[error("runtime config {path}: {source}")]
    Io {
        /// As it was given.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file that does not say what limits are.
    #[error("runtime config {path}: {source}")]
    Yaml {
        /// As it was given.
        path: String,
        /// Line and reason.
        source: YamlError,
    },
}

/// The files' bytes, in order; equal texts mean the same overrides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files(Vec<(String, String)>);

/// What files of overrides say.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The limits of every tenant.
    pub overrides: Overrides,
    /// Keys that are accepted and do nothing, each once, with the place where it was seen first.
    pub not_honoured: Vec<String>,
}

impl Files {
    /// Reads the files of a comma list. A file that is longer than any document may be is refused without being read to its end.
    pub fn read(paths: &str) -> Result<Self, LoadError> {
        let paths = paths.split(',').map(str::trim).filter(|path| !path.is_empty());
        let read = |path: &str| {
            let io = |source| LoadError::Io { path: path.to_owned(), source };
            let mut text = String::new();
            let file = std::fs::File::open(path).map_err(io)?;
            file.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(io)?;
            Ok((path.to_owned(), text))
        };
        Ok(Self(paths.map(read).collect::<Result<_, _>>()?))
    }

    /// One file that says this.
    #[cfg(test)]
    pub(crate) fn of_text(path: &str, text: &str) -> Self {
        Self(vec![(path.to_owned(), text.to_owned())])
    }

    /// The limits of every tenant; those without a word are as in `default`.
    pub fn parse(&self, default: &Arc<Limits>) -> Result<Loaded, LoadError> {
        let mut of_tenant = BTreeMap::new();
        let mut not_honoured = Ignored::default();
        for (path, text) in &self.0 {
            let yaml = |source| LoadError::Yaml { path: path.clone(), source };
            let document = yaml::read(text).map_err(yaml)?;
            document_of(path, &document, default, &mut of_tenant, &mut not_honoured)
                .map_err(yaml)?;
        }
        let overrides = Overrides::new(Arc::clone(default), of_tenant);
        Ok(Loaded { overrides, not_honoured: not_honoured.places })
    }
}

/// Keys that do nothing.
#[derive(Debug, Default)]
struct Ignored {
    keys: BTreeSet<String>,
    places: Vec<String>,
}

fn document_of(
    path: &str,
    document: &Node,
    default: &Limits,
    of_tenant: &mut BTreeMap<String, Limits>,
    ignored: &mut Ignored,
) -> Result<(), YamlError> {
    for entry in entries_of(document, "runtime config")? {
        if entry.key != "overrides" {
            return Err(YamlError::new(entry.line, format!("unknown key {}", entry.key)));
        }
        for yaml::Entry { key: tenant, value, .. } in entries_of(&entry.value, "overrides")? {
            let base = of_tenant.get(tenant).unwrap_or(default);
            let (limits, not_honoured) = settings::limits(base, value).map_err(|error| {
                let place = format!("overrides.{tenant}");
                YamlError::new(error.line, error.reason.replacen("limits", &place, 1))
            })?;
            of_tenant.insert(tenant.clone(), limits);
            for key in not_honoured {
                let name = key.path.strip_prefix("limits.").unwrap_or(&key.path).to_owned();
                if ignored.keys.insert(name.clone()) {
                    ignored.places.push(format!("{path}: line {}: {name}", key.line));
                }
            }
        }
    }
    Ok(())
}

fn entries_of<'a>(node: &'a Node, what: &str) -> Result<&'a [yaml::Entry], YamlError> {
    match &node.value {
        Value::Null => Ok(&[]),
        Value::Map(entries) => Ok(entries),
        other => {
            let reason = format!("{what}: expected a map, found {}", other.kind());
            Err(YamlError::new(node.line, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Result<Loaded, String> {
        let files = texts.iter().zip(["a.yaml", "b.yaml"]);
        let files = files.map(|(text, path)| (path.to_owned(), (*text).to_owned())).collect();
        let default = Arc::new(Limits { ingestion_rate_mb: 7.0, ..Limits::default() });
        Files(files).parse(&default).map_err(|error| error.to_string())
    }

    #[test]
    fn later_files_win_key_by_key() {
        let first =
            "overrides:\n  a:\n    ingestion_rate_mb: 10\n    max_query_length: 7d\n  b: {}\n";
        let second =
            "overrides:\n  a:\n    ingestion_rate_mb: 20\n  c:\n    reject_older_than: 0\n";
        let loaded = parsed(&[first, second]).unwrap();
        let of = |tenant| loaded.overrides.of(tenant);
        assert_eq!(of("a").ingestion_rate_mb.to_bits(), 20_f64.to_bits());
        assert_eq!(of("a").max_query_length_ms, 7 * 86_400_000);
        assert_eq!(of("b").ingestion_rate_mb.to_bits(), 7_f64.to_bits(), "as by default");
        assert_eq!(of("c").reject_older_than_ms, 0);
        assert_eq!(loaded.overrides.tenants().len(), 3);
    }

    #[test]
    fn empty_files_override_nothing() {
        for text in ["", "overrides:\n", "overrides: {}\n", "# nothing\n"] {
            let loaded = parsed(&[text]).unwrap();
            assert_eq!(loaded.overrides.tenants().len(), 0, "{text:?}");
        }
    }

    #[test]
    fn a_key_that_is_accepted_and_not_honoured_is_told_once() {
        let text =
            "overrides:\n  a:\n    max_query_parallelism: 3\n  b:\n    max_query_parallelism: 4\n";
        let loaded = parsed(&[text]).unwrap();
        assert_eq!(loaded.not_honoured, ["a.yaml: line 3: max_query_parallelism"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_line() {
        for (text, error) in [
            (
                "limits:\n  ingestion_rate_mb: 1\n",
                "runtime config b.yaml: line 1: unknown key limits",
            ),
            (
                "overrides:\n  a:\n    ingestion_rate: 1\n",
                "runtime config b.yaml: line 3: unknown key overrides.a.ingestion_rate",
            ),
            (
                "overrides:\n  a:\n    ingestion_rate_mb: fast\n",
                "runtime config b.yaml: line 3: overrides.a.ingestion_rate_mb: expected a number of 0 or more, found \"fast\"",
            ),
            (
                "overrides: 3\n",
                "runtime config b.yaml: line 1: overrides: expected a map, found a value",
            ),
            (
                "overrides:\n  a: [1]\n",
                "runtime config b.yaml: line 2: overrides.a: expected a map of settings, found a list",
            ),
        ] {
            assert_eq!(parsed(&["overrides: {}\n", text]).unwrap_err(), error);
        }
        assert!(
            parsed(&["overrides: {a: {"]).unwrap_err().starts_with("runtime config a.yaml: line ")
        );
    }

    #[test]
    fn no_text_panics() {
        bolero::check!().with_type::<(String, String)>().for_each(|(key, value)| {
            let _ = parsed(&[&format!("overrides:\n  {key}:\n    {value}")]);
            let _ = parsed(&[key, value]);
        });
    }
}
