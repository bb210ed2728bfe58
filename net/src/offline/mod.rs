//! What `pyrite` does besides serving: looking through a data directory that need not belong to a running server.
//!
//! ```text
//! pyrite check DIR                      everything in it, against itself
//! pyrite blocks list DIR [--json]       its blocks
//! pyrite blocks inspect BLOCK [--json]  one of them
//! ```
//! Nothing is written to the directory. Memory is bounded by the largest partition of a block, not by what lies on the disk.
//!
//! Not here: bytes (`engine::block`, `engine::wal`); what the server removes or refuses when it starts.

mod block_file;
mod blocks;
mod check;
mod log_check;

use std::io::{self, Write};
use std::path::Path;

use self::check::check;
use crate::process::{EXIT_FAILED, EXIT_OK, EXIT_USAGE};

/// What is said to a command line that cannot be read.
const USAGE: &str = "usage: pyrite check DIR\n       \
                     pyrite blocks list DIR [--json]\n       \
                     pyrite blocks inspect BLOCK_DIR [--json]\n";

/// Does what the arguments say if they begin with one of these commands; the result is the exit status: 1 where something is
/// wrong or cannot be read, 2 for arguments that mean nothing.
pub fn run(args: &[String], out: &mut dyn Write, errors: &mut dyn Write) -> Option<u8> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let status = match words[..] {
        ["check", directory] if !is_flag(directory) => run_check(Path::new(directory), out),
        ["blocks", ref rest @ ..] => {
            let form = if rest.contains(&"--json") { Form::Json } else { Form::Text };
            let rest: Vec<&str> = rest.iter().copied().filter(|word| *word != "--json").collect();
            match rest[..] {
                ["list", directory] if !is_flag(directory) => {
                    blocks::list(Path::new(directory), form, out)
                }
                ["inspect", block] if !is_flag(block) => {
                    blocks::inspect(Path::new(block), form, out)
                }
                _ => return Some(usage(errors)),
            }
        }
        ["check", ..] => return Some(usage(errors)),
        _ => return None,
    };
    Some(status.unwrap_or_else(|error| {
        let _ = writeln!(errors, "{error}"); // nothing is left to do if it is gone, too
        EXIT_FAILED
    }))
}

/// How blocks are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
enum OfflineError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path}: {source}")]
    Block { path: String, source: engine::block::BlockError },
    #[error("writing what was found: {0}")]
    Output(#[from] io::Error),
}

impl OfflineError {
    fn of(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.display().to_string(), source }
    }
}

fn is_flag(word: &str) -> bool {
    word.starts_with('-')
}

fn usage(errors: &mut dyn Write) -> u8 {
    let _ = errors.write_all(USAGE.as_bytes());
    EXIT_USAGE
}

fn run_check(directory: &Path, out: &mut dyn Write) -> Result<u8, OfflineError> {
    let report = check(directory, out)?;
    writeln!(out, "{report}")?;
    out.flush()?;
    Ok(if report.faults == 0 { EXIT_OK } else { EXIT_FAILED })
}

/// Entries of a directory by name; one that is not there has none.
fn names(directory: &Path) -> Result<Vec<String>, OfflineError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(OfflineError::of(directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(OfflineError::of(directory))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
