//! What is mended in profiles of Go programs before anything is stored (facts: `pkg/pprof/fix_go_*.go` of Pyroscope 2.2).
//!
//! Names lose their type parameters ([`names`]), and stacks that the runtime cut at the root get their missing part back from
//! other stacks of the profile ([`truncated`]). Both are decided by the profile's content alone, so a replay repeats them.

pub(super) mod names;
mod sort_order;
pub(super) mod truncated;

use super::Profile;
use crate::labels::{LabelSet, name};

/// Languages by the name of the profiler that sent a profile.
const LANGUAGE_OF_SPY: [(&str, &str); 9] = [
    ("gospy", "go"),
    ("pyspy", "python"),
    ("rbspy", "ruby"),
    ("nodespy", "nodejs"),
    ("javaspy", "java"),
    ("grafana-agent.java", "java"),
    ("dotnetspy", "dotnet"),
    ("phpspy", "php"),
    ("pyroscope-rs", "rust"),
];

/// How symbols of a language begin or end; the first match of the first symbol that matches any decides.
const SYMBOLS_OF_LANGUAGE: [(&str, &[&[u8]]); 7] = [
    ("go", &[b".go", b"/usr/local/go/"]),
    ("java", &[b"java/", b"sun/"]),
    ("ruby", &[b".rb", b"gems/"]),
    ("nodejs", &[b"./node_modules/", b".js"]),
    ("dotnet", &[b"System.", b"Microsoft."]),
    ("python", &[b".py"]),
    ("rust", &[b"main.rs", b"core.rs"]),
];

/// Whether a profile is of a Go program: its profiler says so, or, where that is unknown, its symbols look so.
pub(super) fn is_go(profile: &Profile, labels: &LabelSet) -> bool {
    let spy = labels.get(name::PYROSCOPE_SPY).unwrap_or_default();
    if let Some((_, language)) = LANGUAGE_OF_SPY.iter().find(|(name, _)| *name == spy) {
        return *language == "go";
    }
    let rows = 0..profile.strings.len() as u32;
    rows.map(|row| profile.string_bytes(row)).find_map(language_of_symbol) == Some("go")
}

fn language_of_symbol(symbol: &[u8]) -> Option<&'static str> {
    // Most symbols match nothing: they neither begin nor end with a byte that a pattern begins or ends with.
    let (&first, &last) = (symbol.first()?, symbol.last()?);
    if !matches!(first, b'.' | b'/' | b'j' | b's' | b'g' | b'S' | b'M' | b'm' | b'c')
        && !matches!(last, b'o' | b'/' | b'b' | b's' | b'.' | b'y')
    {
        return None;
    }
    let matches = |pattern: &&[u8]| symbol.starts_with(pattern) || symbol.ends_with(pattern);
    SYMBOLS_OF_LANGUAGE
        .iter()
        .find(|(_, patterns)| patterns.iter().any(matches))
        .map(|(language, _)| *language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_tell_the_language() {
        for (symbol, language) in [
            ("/usr/lib/go/src/runtime/proc.go", Some("go")),
            ("/usr/local/go/x", Some("go")),
            ("java/lang/Thread.run", Some("java")),
            ("a/gems/", Some("ruby")),
            ("./node_modules/x", Some("nodejs")),
            ("Microsoft.AspNet", Some("dotnet")),
            ("src/main.rs", Some("rust")),
            ("x.py", Some("python")),
            ("runtime.main", None),
            ("", None),
        ] {
            assert_eq!(language_of_symbol(symbol.as_bytes()), language, "{symbol}");
        }
    }

    /// The filter on first and last bytes must let every pattern through.
    #[test]
    fn every_pattern_matches_itself_at_either_end() {
        for (language, patterns) in SYMBOLS_OF_LANGUAGE {
            for pattern in patterns {
                assert_eq!(language_of_symbol(&[pattern, &b"\x01"[..]].concat()), Some(language));
                assert_eq!(language_of_symbol(&[&b"\x01"[..], pattern].concat()), Some(language));
            }
        }
    }
}
