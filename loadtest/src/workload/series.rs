//! Files of real profiles: consecutive ones of several programs, or any folder.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::template::Template;

/// Profile files of one kind that are read at most: they are held in memory.
const FILES_MAX: usize = 10_000;

/// Bytes of one file, inflated.
const PROFILE_BYTES_MAX: u64 = 64 << 20;

/// The nine kinds of the even mix, and the name an agent gives their profiles.
const KINDS: [(&str, &str); 9] = [
    ("go-server/cpu", "process_cpu"),
    ("go-server/heap", "memory"),
    ("go-big/cpu", "process_cpu"),
    ("go-big/heap", "memory"),
    ("rust/cpu", "process_cpu"),
    ("python/cpu", "process_cpu"),
    ("python/memory", "memory"),
    ("node/wall", "wall"),
    ("node/heap", "memory"),
];

/// Consecutive profiles of one program and type.
#[derive(Debug)]
pub struct Kind {
    /// What services of it are called.
    pub service: String,
    /// The label `__name__`.
    pub profile_name: &'static str,
    /// The profiles in order of time.
    pub templates: Vec<Template>,
}

/// Reads those of the nine kinds that lie in a folder as `program/kind/*.pb.gz`.
pub(super) fn kinds_of(folder: &Path) -> Result<Vec<Kind>, String> {
    let kinds: Vec<Kind> = KINDS
        .iter()
        .filter(|(kind, _)| folder.join(kind).is_dir())
        .map(|(kind, profile_name)| {
            let templates = templates_of(&folder.join(kind))?;
            Ok(Kind { service: kind.replace('/', "-"), profile_name, templates })
        })
        .collect::<Result<_, String>>()?;
    if kinds.is_empty() {
        let names = KINDS.map(|(kind, _)| kind).join(", ");
        return Err(format!("{}: none of {names} is there", folder.display()));
    }
    Ok(kinds)
}

/// Reads the `.pb.gz`, `.pb` and `.pprof` files of a folder, as CPU profiles of one program.
pub(super) fn kind_of_files(folder: &Path) -> Result<Kind, String> {
    let templates = templates_of(folder)?;
    Ok(Kind { service: "loadtest".to_owned(), profile_name: "process_cpu", templates })
}

fn templates_of(folder: &Path) -> Result<Vec<Template>, String> {
    let mut paths = files_of(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    paths.sort();
    paths.truncate(FILES_MAX);
    if paths.is_empty() {
        return Err(format!("no profile files in {}", folder.display()));
    }
    let template = |path: &PathBuf| {
        let message = read(path).map_err(|error| error.to_string());
        message.and_then(Template::new).map_err(|error| format!("{}: {error}", path.display()))
    };
    paths.iter().map(template).collect()
}

fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_profile = |path: &PathBuf| {
        let name = path.to_string_lossy();
        [".pb.gz", ".pb", ".pprof"].iter().any(|ending| name.ends_with(ending))
    };
    let entries = std::fs::read_dir(folder)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    Ok(paths.collect::<io::Result<Vec<_>>>()?.into_iter().filter(is_profile).collect())
}

/// A file's message, inflated where it is gzip'd.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = std::fs::read(path)?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    let inflated = flate2::read::MultiGzDecoder::new(bytes.as_slice());
    inflated.take(PROFILE_BYTES_MAX + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > PROFILE_BYTES_MAX {
        return Err(io::Error::other(format!("inflates to more than {PROFILE_BYTES_MAX} bytes")));
    }
    Ok(plain)
}
