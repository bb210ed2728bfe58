//! Directories of the data directory, by calls that block: each runtime has a thread for them.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::Space;

/// The path below the data directory; panics where it would lead out of it.
pub(super) fn resolve(data_path: &Path, path: &str) -> PathBuf {
    let path = Path::new(path);
    assert!(
        path.components().all(|part| matches!(part, Component::Normal(_))),
        "{} would leave the data directory",
        path.display()
    );
    data_path.join(path)
}

/// Makes every missing directory between `root` and `path`, and each one's entry in its parent durable.
pub(super) fn create_durably(root: &Path, path: &Path) -> io::Result<()> {
    if path == root {
        return Ok(());
    }
    let parent = path.parent().expect("a path below the data directory has a parent");
    create_durably(root, parent)?;
    match std::fs::create_dir(path) {
        Ok(()) => std::fs::File::open(parent)?.sync_all(),
        // The entry may be there and not yet durable when an earlier run was cut off just here.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            std::fs::File::open(parent)?.sync_all()
        }
        Err(error) => Err(error),
    }
}

/// Names in a directory, sorted; an absent one has none.
pub(super) fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().into_string().map_err(|name| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is no UTF-8 file name", name.display()),
            )
        })?;
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

/// Room of the file system that holds `path`.
pub(super) fn space(path: &Path) -> io::Result<Space> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut found = MaybeUninit::uninit();
    // SAFETY: the path ends with its NUL and `found` has room for what the call writes; both outlive it.
    if unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it wrote all of it.
    let found: libc::statvfs = unsafe { found.assume_init() };
    let bytes = |blocks| u64::saturating_mul(blocks, found.f_frsize);
    Ok(Space { free_bytes: bytes(found.f_bavail), total_bytes: bytes(found.f_blocks) })
}
