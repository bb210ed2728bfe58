//! The table of flags as `-help` and as `docs/configuration.md`.

use std::fmt::Write as _;

use super::accepted::ACCEPTED;
use super::flags::FLAGS;
use crate::telemetry::{BRANCH, REVISION};

/// Text of `-version`.
pub(super) fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("pyrite, version {version} (branch: {BRANCH}, revision: {REVISION})\n")
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
        "  -help\n    \tPrint this and end.\n  \
         -help-all\n    \tPrint this with the flags that are accepted and do nothing, and end.\n  \
         -modules\n    \tPrint the modules that -target takes and end.\n  \
         -version\n    \tPrint the version and end.\n\n\
         Commands, in place of flags:\n\n  \
         check DIR\n    \tCheck every file of a data directory and end: 0 where all is sound, else 1.\n  \
         blocks list DIR [--json]\n    \tPrint the blocks of a data directory.\n  \
         blocks inspect BLOCK_DIR [--json]\n    \tPrint what a block holds.\n",
    );
    text
}

/// Text of `-help-all`.
pub(super) fn help_all() -> String {
    let mut text = help();
    text.push_str(
        "\nAccepted for files and manifests of Pyroscope and Phlare; they do nothing:\n\n",
    );
    for setting in ACCEPTED.iter().filter(|setting| !setting.flag.is_empty()) {
        let _ = writeln!(text, "  -{}", setting.flag);
    }
    text
}

/// Text of `docs/configuration.md`.
pub fn reference_page() -> String {
    let mut text = PREFACE.to_owned();
    text.push_str("| Flag | YAML | Value | Default | Meaning |\n|---|---|---|---|---|\n");
    for flag in FLAGS {
        let value =
            if flag.kind.placeholder().is_empty() { "bool" } else { flag.kind.placeholder() };
        let default =
            if flag.default.is_empty() { String::new() } else { format!("`{}`", flag.default) };
        let path = flag.yaml.first().map_or_else(String::new, |path| format!("`{path}`"));
        let _ = write!(text, "| `-{}` | {path} | {value} | {default} | {}", flag.name, flag.help);
        if !flag.aliases.is_empty() {
            let _ = write!(text, " Also: `-{}`.", flag.aliases.join("`, `-"));
        }
        text.push_str(" |\n");
    }
    text.push_str(ACCEPTED_PREFACE);
    let mut block = "";
    for setting in ACCEPTED.iter().filter(|setting| !setting.path.is_empty()) {
        let (outer, name) = setting.path.split_once('.').unwrap_or(("", &setting.path));
        if outer != block || text.ends_with("\n\n") {
            block = outer;
            let shown = if outer.is_empty() { "top level" } else { outer };
            let _ = write!(text, "{}- {shown}: ", if text.ends_with('\n') { "" } else { "\n" });
        } else {
            text.push_str(", ");
        }
        let _ = write!(text, "`{name}`");
    }
    text.push('\n');
    text
}

const PREFACE: &str = "\
# Configuration

Made from the table in `net/src/config/flags.rs`; a test keeps it so (`UPDATE_DOCS=1 cargo test -p net --test docs` rewrites it).

Flags are written as Go programs take them: `-name=value`, `--name=value` or `-name value`; a bool may stand without a value. The last of
several equal flags wins. An unknown flag ends the process with status 2 and is named on stderr. Names and defaults are those of Grafana
Pyroscope where the meaning is the same.

`-config.file` names a YAML file with the same settings; flags win over it. An unknown key, a key given twice or a value that cannot be read
ends the process with status 1, with file and line on stderr. With `-config.expand-env` the variables `${NAME}`, `${NAME:-default}` and
`${NAME:default}` are filled in first (`$${` stands for `${`). Aliases and merge keys (`<<`) work. `GET /api/v1/status/config` shows what
is in force.

- *duration*: `1h30m`, `500ms`, `7d`, `1w`, `0`.
- *size*: bytes, or a number with `KiB`, `MiB`, `GiB` (powers of 1024) or `kB`, `MB`, `GB` (powers of 1000).

`-help` prints this table, `-help-all` also what is accepted and does nothing, `-modules` the modules of `-target`, `-version` the version.

";

const ACCEPTED_PREFACE: &str = "
## Accepted, and without effect

Keys of Pyroscope's and Phlare's files, and the flags that set them, are accepted so that existing files and manifests start Pyrite; each
is named in one warning at the start.

";
