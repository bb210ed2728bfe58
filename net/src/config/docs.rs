//! The table of flags as `-help` and as `docs/configuration.md`.

use std::fmt::Write as _;

use super::flags::FLAGS;

/// Text of `-version`.
pub(super) fn version() -> String {
    format!("pyrite, version {}\n", env!("CARGO_PKG_VERSION"))
}

/// Text of `-help`.
pub(super) fn help() -> String {
    let mut text = "Usage of pyrite: -name=value, --name=value or -name value\n\n".to_owned();
    for flag in FLAGS {
        let space = if flag.kind.placeholder().is_empty() { "" } else { " " };
        let _ = writeln!(text, "  -{}{space}{}", flag.name, flag.kind.placeholder());
        let _ = write!(text, "    \t{}", flag.help);
        if !flag.default.is_empty() {
            let _ = write!(text, " (default {})", flag.default);
        }
        if !flag.aliases.is_empty() {
            let _ = write!(text, " Also: -{}", flag.aliases.join(", -"));
        }
        text.push('\n');
    }
    text.push_str(
        "  -help\n    \tPrint this and end.\n  -version\n    \tPrint the version and end.\n",
    );
    text
}

/// Text of `docs/configuration.md`.
pub fn reference_page() -> String {
    let mut text = PREFACE.to_owned();
    text.push_str("| Flag | Value | Default | Meaning |\n|---|---|---|---|\n");
    for flag in FLAGS {
        let value =
            if flag.kind.placeholder().is_empty() { "bool" } else { flag.kind.placeholder() };
        let default =
            if flag.default.is_empty() { String::new() } else { format!("`{}`", flag.default) };
        let _ = write!(text, "| `-{}` | {value} | {default} | {}", flag.name, flag.help);
        if !flag.aliases.is_empty() {
            let _ = write!(text, " Also: `-{}`.", flag.aliases.join("`, `-"));
        }
        text.push_str(" |\n");
    }
    text
}

const PREFACE: &str = "\
# Configuration

Made from the table in `net/src/config/flags.rs`; a test keeps it so (`UPDATE_DOCS=1 cargo test -p net --test docs` rewrites it).

Flags are written as Go programs take them: `-name=value`, `--name=value` or `-name value`; a bool may stand without a value. The last of
several equal flags wins. An unknown flag ends the process with status 2 and is named on stderr. Names and defaults are those of Grafana
Pyroscope where the meaning is the same.

- *duration*: `1h30m`, `500ms`, `7d`, `1w`, `0`.
- *size*: bytes, or a number with `KiB`, `MiB`, `GiB` (powers of 1024) or `kB`, `MB`, `GB` (powers of 1000).

`-help` prints this table, `-version` the version.

";
