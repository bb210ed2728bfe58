//! The data directory of a process, and the lock that makes it the only one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// File that is locked; it holds the process id of whoever locked it last.
pub const LOCK_FILE: &str = "lock";

/// Longest process id read from the file, bytes: whatever else lies there is not believed.
const PID_BYTES_MAX: u64 = 20;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Another process uses it.
    #[error("data directory {path} is in use by process {pid}", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other process's id, or `(unknown)`.
        pid: String,
    },
    /// It cannot be made, locked or written to.
    #[error("data directory {path}: {source}", path = path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A locked data directory. The lock is the system's: it ends with the process, however that ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if needed and locks it for this process.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Io { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        // Absolute from here on: nothing may depend on the working directory.
        let path = path.canonicalize().map_err(failed)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataDirError::InUse { path, pid: pid_in(&mut lock) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        write_pid(&mut lock).map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a process has locked the directory. Takes the lock for a moment at most, so that a process that starts is not refused,
/// and changes nothing.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    let lock = match File::open(path.join(LOCK_FILE)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Overwrites what an earlier process wrote, block for block: a disk without room must not keep a process from starting.
fn write_pid(lock: &mut File) -> io::Result<()> {
    const WIDTH: usize = PID_BYTES_MAX as usize;
    lock.rewind()?;
    writeln!(lock, "{:<WIDTH$}", std::process::id())
}

fn pid_in(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(PID_BYTES_MAX).read_to_string(&mut text);
    let pid = text.trim();
    let is_pid = read.is_ok() && !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
    if is_pid { pid.to_owned() } else { "(unknown)".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_opener_learns_who_the_first_is() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep/data");
        let first = DataDir::open(&path).unwrap();
        assert!(first.path().is_absolute());
        let second = DataDir::open(&path).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(second.ends_with(&format!("is in use by process {pid}")), "{second}");
        assert!(is_locked(&path).unwrap());
        drop(first);
        assert!(!is_locked(&path).unwrap());
        DataDir::open(&path).unwrap();
        assert!(!is_locked(parent.path()).unwrap(), "nobody ever used it");
    }

    #[test]
    fn a_lock_file_full_of_nonsense_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let _first = DataDir::open(dir.path()).unwrap();
        std::fs::write(dir.path().join(LOCK_FILE), "x".repeat(100)).unwrap();
        let second = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(second.ends_with("in use by process (unknown)"), "{second}");
    }

    #[test]
    fn a_path_that_is_no_directory_is_an_error_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
