//! A disk with two images of everything: what reads see, and what would be there after a crash.
//!
//! - A write reaches the durable image by `datasync`. At a crash each 512-byte sector of what was written since, or is being
//!   written, is there or not, by the seed.
//! - A failed `datasync` drops what it should have synced: some sectors are durable, the others never will be, and later
//!   syncs succeed without them (as the page cache of Linux does). The process that wrote them reads them until it is killed.
//! - A new, renamed or removed name is durable by `sync_dir`; at a crash each such change since has happened or not.
//!   Directories are durable when made (the trait says so).
//! - Space is counted over the lengths of all files, and a full disk makes no directory either; EIO comes by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::random::Random;
use crate::runtime::Space;

/// Unit of what a crash tears, bytes.
const SECTOR_BYTES: usize = 512;

/// Bytes of a disk that has room for any number, as it tells them.
const UNBOUNDED_BYTES: u64 = 1 << 50;

/// What may go wrong with a node's disk; all zero at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Of 1000 writes, how many fail with EIO.
    pub write_errors_per_mille: u64,
    /// Of 1000 calls of `datasync`, how many fail with EIO.
    pub sync_errors_per_mille: u64,
    /// Of 1000 files made, renamed and removed and directories synced, how many fail with EIO. Whether it was done nobody is told.
    pub name_errors_per_mille: u64,
    /// Every operation takes this many times longer; 0 and 1 are an ordinary disk.
    pub slowness: u64,
    /// Bytes all files may have together; `None` for any number.
    pub capacity_bytes: Option<u64>,
}

/// What survives of one crash's unsynced changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Survival {
    Nothing,
    Everything,
    /// Each sector and name for itself.
    PerMille(u64),
}

#[derive(Debug, Default)]
pub(super) struct DiskImage {
    pub(super) faults: DiskFaults,
    files: BTreeMap<u64, FileImage>,
    next_file: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    directories: BTreeSet<String>,
    next_write: u64,
}

#[derive(Debug, Default)]
struct FileImage {
    /// What reads see.
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Completed since the last sync, in order.
    unsynced: Vec<Change>,
    /// A sync has failed: reads see what never will be durable.
    sync_failed: bool,
    /// Begun and not completed.
    in_flight: BTreeMap<u64, Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Create {
        path: String,
        file: u64,
    },
    Remove {
        path: String,
    },
    Rename {
        from: String,
        to: String,
        file: u64,
    },
    /// Of a directory that has files alone.
    RenameDirectory {
        from: String,
        to: String,
    },
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                image.resize(image.len().max(offset + bytes.len()), 0);
                image[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Self::Length(len) => image.resize(*len, 0),
        }
    }

    /// Applies what survives of it.
    fn tear(&self, image: &mut Vec<u8>, survival: Survival, random: &Random) {
        let lives = || match survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::PerMille(per_mille) => random.chance(per_mille),
        };
        match self {
            Self::Write { offset, bytes } => {
                for (i, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if lives() {
                        let offset = offset + i * SECTOR_BYTES;
                        Self::Write { offset, bytes: sector.to_vec() }.apply(image);
                    }
                }
            }
            Self::Length(_) => {
                if lives() {
                    self.apply(image);
                }
            }
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create { path, file } => {
                names.insert(path.clone(), *file);
            }
            Self::Remove { path } => {
                names.remove(path);
            }
            Self::Rename { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::RenameDirectory { from, to } => {
                let inside: Vec<_> =
                    names.keys().filter(|path| parent(path) == from).cloned().collect();
                for path in inside {
                    let file = names.remove(&path).expect("it was found above");
                    names.insert(format!("{to}{}", &path[from.len()..]), file);
                }
            }
        }
    }

    fn touches(&self, directory: &str) -> bool {
        match self {
            Self::Create { path, .. } | Self::Remove { path } => parent(path) == directory,
            Self::Rename { from, to, .. } | Self::RenameDirectory { from, to } => {
                parent(from) == directory || parent(to) == directory
            }
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn error(kind: io::ErrorKind, path: &str) -> io::Error {
    io::Error::new(kind, path.to_owned())
}

pub(super) fn input_output_error() -> io::Error {
    io::Error::other("simulated input/output error")
}

impl DiskImage {
    pub(super) fn open(&mut self, path: &str, new: bool) -> io::Result<u64> {
        match (self.names.get(path), new) {
            (Some(&file), false) => Ok(file),
            (None, false) => Err(error(io::ErrorKind::NotFound, path)),
            (Some(_), true) => Err(error(io::ErrorKind::AlreadyExists, path)),
            (None, true) => {
                if !parent(path).is_empty() && !self.directories.contains(parent(path)) {
                    return Err(error(io::ErrorKind::NotFound, path));
                }
                let file = self.next_file;
                self.next_file += 1;
                self.files.insert(file, FileImage::default());
                self.change_name(NameChange::Create { path: path.to_owned(), file });
                Ok(file)
            }
        }
    }

    /// Does what changes names, or fails and has done it or not.
    pub(super) fn act_on_names<T>(
        &mut self,
        random: &Random,
        act: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        if !random.chance(self.faults.name_errors_per_mille) {
            return act(self);
        }
        if random.chance(500) {
            act(self)?;
        }
        Err(input_output_error())
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn file(&mut self, file: u64) -> &mut FileImage {
        self.files.get_mut(&file).expect("an open file has an image until its node crashes")
    }

    /// Begins a write; it may be torn from here on.
    pub(super) fn begin_write(&mut self, file: u64, offset: usize, bytes: Vec<u8>) -> u64 {
        let write = self.next_write;
        self.next_write += 1;
        self.file(file).in_flight.insert(write, Change::Write { offset, bytes });
        write
    }

    pub(super) fn complete_write(
        &mut self,
        file: u64,
        write: u64,
        random: &Random,
    ) -> io::Result<()> {
        let change = self.file(file).in_flight.remove(&write).expect("a write completes once");
        let Change::Write { offset, bytes } = &change else { unreachable!("a write was begun") };
        let len = self.file(file).live.len();
        self.check_space((offset + bytes.len()).saturating_sub(len) as u64)?;
        if random.chance(self.faults.write_errors_per_mille) {
            // What arrived of it lies there unsynced, sector by sector.
            let image = self.file(file);
            let mut torn = image.live.clone();
            change.tear(&mut torn, Survival::PerMille(500), random);
            image.unsynced.push(Change::Length(torn.len()));
            image.unsynced.push(Change::Write { offset: 0, bytes: torn.clone() });
            image.live = torn;
            return Err(input_output_error());
        }
        let image = self.file(file);
        change.apply(&mut image.live);
        image.unsynced.push(change);
        Ok(())
    }

    pub(super) fn read(&mut self, file: u64, offset: u64, len: usize) -> Vec<u8> {
        let live = &self.file(file).live;
        let start = (offset as usize).min(live.len());
        let end = start.saturating_add(len).min(live.len());
        live[start..end].to_vec()
    }

    pub(super) fn file_len(&mut self, file: u64) -> u64 {
        self.file(file).live.len() as u64
    }

    pub(super) fn set_len(&mut self, file: u64, len: usize) -> io::Result<()> {
        let grows = len.saturating_sub(self.file(file).live.len());
        self.check_space(grows as u64)?;
        let image = self.file(file);
        image.live.resize(len, 0);
        image.unsynced.push(Change::Length(len));
        Ok(())
    }

    fn check_space(&self, grows_bytes: u64) -> io::Result<()> {
        let Some(capacity) = self.faults.capacity_bytes else { return Ok(()) };
        if grows_bytes > 0 && self.used_bytes() + grows_bytes > capacity {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "simulated disk is full"));
        }
        Ok(())
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.names.values().map(|file| self.files[file].live.len() as u64).sum()
    }

    pub(super) fn space(&self) -> Space {
        let total_bytes = self.faults.capacity_bytes.unwrap_or(UNBOUNDED_BYTES);
        Space { free_bytes: total_bytes.saturating_sub(self.used_bytes()), total_bytes }
    }

    /// How many completed changes a sync that begins now must cover.
    pub(super) fn begin_sync(&mut self, file: u64) -> usize {
        self.file(file).unsynced.len()
    }

    pub(super) fn complete_sync(
        &mut self,
        file: u64,
        covered: usize,
        random: &Random,
    ) -> io::Result<()> {
        let fails = random.chance(self.faults.sync_errors_per_mille);
        let image = self.file(file);
        // Another sync may have covered some of them meanwhile.
        let covered = covered.min(image.unsynced.len());
        let changes: Vec<Change> = image.unsynced.drain(..covered).collect();
        image.sync_failed |= fails;
        let survival = if fails { Survival::PerMille(500) } else { Survival::Everything };
        for change in changes {
            change.tear(&mut image.durable, survival, random);
        }
        if fails { Err(input_output_error()) } else { Ok(()) }
    }

    pub(super) fn create_dir_all(&mut self, path: &str) -> io::Result<()> {
        let mut directory = path;
        while !directory.is_empty() && !self.directories.contains(directory) {
            self.check_space(1)?;
            self.directories.insert(directory.to_owned());
            directory = parent(directory);
        }
        Ok(())
    }

    pub(super) fn list(&self, path: &str) -> Vec<String> {
        let entries = self.names.keys().chain(&self.directories);
        let children = entries.filter(|entry| parent(entry) == path);
        let names = children.map(|child| child.rsplit('/').next().unwrap_or_default().to_owned());
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        if !path.is_empty() && !self.directories.contains(path) {
            return Err(error(io::ErrorKind::NotFound, path));
        }
        let (synced, left) = self.name_changes.drain(..).partition(|c| c.touches(path));
        self.name_changes = left;
        for change in Vec::<NameChange>::from_iter(synced) {
            change.apply(&mut self.durable_names);
        }
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &str) -> io::Result<()> {
        if !self.names.contains_key(path) {
            return Err(error(io::ErrorKind::NotFound, path));
        }
        self.change_name(NameChange::Remove { path: path.to_owned() });
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &str) -> io::Result<()> {
        if !self.list(path).is_empty() {
            return Err(error(io::ErrorKind::DirectoryNotEmpty, path));
        }
        if !self.directories.remove(path) {
            return Err(error(io::ErrorKind::NotFound, path));
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        if self.directories.remove(from) {
            self.directories.insert(to.to_owned());
            let (from, to) = (from.to_owned(), to.to_owned());
            self.change_name(NameChange::RenameDirectory { from, to });
            return Ok(());
        }
        let Some(&file) = self.names.get(from) else {
            return Err(error(io::ErrorKind::NotFound, from));
        };
        self.change_name(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    /// The process is gone: the kernel completes what it had been given, or not; what a failed sync dropped is not seen again.
    pub(super) fn kill(&mut self, random: &Random) {
        for image in self.files.values_mut() {
            if std::mem::take(&mut image.sync_failed) {
                image.live.clone_from(&image.durable);
                for change in &image.unsynced {
                    change.apply(&mut image.live);
                }
            }
            for change in std::mem::take(&mut image.in_flight).into_values() {
                if random.chance(500) {
                    change.apply(&mut image.live);
                    image.unsynced.push(change);
                }
            }
        }
    }

    /// The power fails: what survives is decided, and is all there is from now on.
    pub(super) fn crash(&mut self, random: &Random) {
        let survival = match random.below(4) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            _ => Survival::PerMille(random.between(1, 999)),
        };
        for image in self.files.values_mut() {
            let in_flight = std::mem::take(&mut image.in_flight);
            let unsynced = std::mem::take(&mut image.unsynced);
            for change in unsynced.iter().chain(in_flight.values()) {
                change.tear(&mut image.durable, survival, random);
            }
            image.live.clone_from(&image.durable);
        }
        for change in std::mem::take(&mut self.name_changes) {
            let lives = match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::PerMille(per_mille) => random.chance(per_mille),
            };
            if lives {
                change.apply(&mut self.durable_names);
            } else if let NameChange::RenameDirectory { from, to } = change {
                self.directories.remove(&to);
                self.directories.insert(from);
            }
        }
        self.names.clone_from(&self.durable_names);
        // A name that survived in a directory that did not is gone with it.
        let directories = &self.directories;
        self.names.retain(|path, _| parent(path).is_empty() || directories.contains(parent(path)));
        self.durable_names.clone_from(&self.names);
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }

    /// Changes a file behind everyone's back: bit rot, or a hand on the disk. False if there is no such file.
    pub(super) fn damage(&mut self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(&file) = self.names.get(path) else { return false };
        let image = self.file(file);
        change(&mut image.live);
        image.durable.clone_from(&image.live);
        true
    }
}
