//! `pyrite check`: every file of a data directory against its own checksums and against what else tells of it.
//!
//! A fault is a line that names a file, a place in it, and what was expected there. What is no fault and worth knowing (a
//! publication that did not end, a last group that a crash cut, a file that is not ours) is a note.
//!
//! A server may be using the directory: its blocks never change and are checked; its logs do, and are left out. The directory is
//! not locked, for a check must not keep a server from starting.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::Path;

use engine::block::{BlockCheck, BlockReader, CheckStep, INDEX_FILE, META_FILE, Meta, Table};
use engine::hash::HashSecret;
use engine::identity::Identities;
use engine::tenant::TenantId;
use ulid::Ulid;

use super::block_file::BlockDirectory;
use super::{OfflineError, log_check, names};
use crate::blocks::{self, Entry, entry_of};
use crate::data_dir::{LOCK_FILE, is_locked};

/// What a check looked at, and how much of it is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Logs that were read.
    pub(super) logs: u64,
    /// Records in them.
    pub(super) records: u64,
    /// Blocks that were read.
    pub(super) blocks: u64,
    /// Profiles in them, as they were sent.
    pub(super) profiles: u64,
    /// What is wrong.
    pub(super) faults: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { logs, records, blocks, profiles, faults } = self;
        write!(
            f,
            "checked {logs} logs with {records} records, {blocks} blocks with {profiles} profiles: {faults} faults"
        )
    }
}

/// Writes lines and counts faults.
pub(super) struct Findings<'a> {
    pub(super) report: Report,
    out: &'a mut dyn Write,
}

impl Findings<'_> {
    pub(super) fn fault(&mut self, text: fmt::Arguments<'_>) -> Result<(), OfflineError> {
        self.report.faults += 1;
        Ok(writeln!(self.out, "fault: {text}")?)
    }

    pub(super) fn note(&mut self, text: fmt::Arguments<'_>) -> Result<(), OfflineError> {
        Ok(writeln!(self.out, "note: {text}")?)
    }
}

/// Checks a data directory and writes what it finds.
pub(super) fn check(directory: &Path, out: &mut dyn Write) -> Result<Report, OfflineError> {
    std::fs::read_dir(directory).map_err(OfflineError::of(directory))?;
    let mut findings = Findings { report: Report::default(), out };
    let is_in_use = is_locked(directory).map_err(OfflineError::of(directory))?;
    for name in names(directory)? {
        if ![LOCK_FILE, blocks::ROOT, crate::wal::ROOT].contains(&name.as_str()) {
            findings.note(format_args!("{name}: not looked at"))?;
        }
    }
    if is_in_use {
        findings.note(format_args!(
            "a server is using this directory: its blocks are checked, its logs are not"
        ))?;
    } else {
        log_check::logs(directory, &mut findings)?;
    }
    all_blocks(directory, &mut findings)?;
    if !is_in_use && is_locked(directory).map_err(OfflineError::of(directory))? {
        findings.note(format_args!(
            "a server has begun to use this directory meanwhile: what is said of its logs may be of no meaning"
        ))?;
    }
    Ok(findings.report)
}

fn all_blocks(directory: &Path, findings: &mut Findings<'_>) -> Result<(), OfflineError> {
    for tenant in names(&directory.join(blocks::ROOT))? {
        let Ok(tenant) = TenantId::parse(&tenant) else {
            findings.note(format_args!("{}/{tenant}: not a tenant's directory", blocks::ROOT))?;
            continue;
        };
        let place = blocks::tenant_path(&tenant);
        let mut held = BTreeMap::new();
        for name in names(&directory.join(&place))? {
            let path = format!("{place}/{name}");
            match entry_of(&name) {
                Some(Entry::Block(_)) => block(directory, &path, &tenant, &mut held, findings)?,
                Some(Entry::Unfinished(_)) => findings.note(format_args!(
                    "{path}: a publication that did not end; the next start removes it"
                ))?,
                None => findings.note(format_args!("{path}: not a block"))?,
            }
        }
    }
    Ok(())
}

/// Profiles of a partition (service name, split) that were found in blocks, each with the block where it was.
type Held = BTreeMap<(String, u32), Vec<(String, Identities)>>;

fn block(
    directory: &Path,
    path: &str,
    tenant: &TenantId,
    held: &mut Held,
    findings: &mut Findings<'_>,
) -> Result<(), OfflineError> {
    let mut files = BlockDirectory::new(&directory.join(path));
    let meta = match files.meta() {
        Ok(meta) => meta,
        // Retention of a running server may take a block away meanwhile, whole.
        Err(_) if !directory.join(path).exists() => return Ok(()),
        Err(error) => return findings.fault(format_args!("{path}: {error}")),
    };
    findings.report.blocks += 1;
    let described = match Meta::from_bytes(&meta) {
        Ok(described) => described,
        Err(error) => return findings.fault(format_args!("{path}/{error}")),
    };
    let name = path.rsplit('/').next().unwrap_or_default();
    if described.ulid != name {
        let ulid = &described.ulid;
        findings.fault(format_args!("{path}/{META_FILE}: it is block {ulid}, not {name}"))?;
    }
    if described.tenant != tenant.as_str() {
        let other = &described.tenant;
        findings
            .fault(format_args!("{path}/{META_FILE}: it is of tenant {other}, not {tenant}"))?;
    }
    if !lengths_are_right(path, &files, &described, findings)? {
        return Ok(());
    }
    let index = match files.index(&described) {
        Ok(index) => index,
        Err(error) => return findings.fault(format_args!("{path}: {error}")),
    };
    tables(path, &mut files, &meta, &index, findings)?;
    if let Ok(reader) = BlockReader::open(&meta, &index) {
        findings.report.profiles += described.stats.profiles;
        identities(path, &reader, held, findings)?;
    }
    Ok(())
}

/// Files that are missing, longer or shorter, or not the block's; `false` where one cannot be read.
fn lengths_are_right(
    path: &str,
    files: &BlockDirectory,
    meta: &Meta,
    findings: &mut Findings<'_>,
) -> Result<bool, OfflineError> {
    let mut are_there = true;
    for facts in &meta.files {
        let (name, expected) = (&facts.name, facts.bytes);
        match files.length(name) {
            // A shorter one is told by what reads it, with the place where it ends.
            Ok(found) if found <= expected => {}
            Ok(found) => findings
                .fault(format_args!("{path}/{name}: it has {found} bytes, expected {expected}"))?,
            Err(error) => {
                are_there = false;
                findings.fault(format_args!("{path}/{name}: {error}"))?;
            }
        }
    }
    for name in files.names()? {
        if name != META_FILE && meta.file(&name).is_none() {
            findings.note(format_args!("{path}/{name}: not a file of the block"))?;
        }
    }
    let is_known = |name: &str| {
        name == INDEX_FILE || Table::ALL.into_iter().any(|table| table.file_name() == name)
    };
    for facts in meta.files.iter().filter(|facts| !is_known(&facts.name)) {
        let name = &facts.name;
        findings
            .fault(format_args!("{path}/{META_FILE}: it tells of {name}, which no block has"))?;
    }
    Ok(are_there)
}

fn tables(
    path: &str,
    files: &mut BlockDirectory,
    meta: &[u8],
    index: &[u8],
    findings: &mut Findings<'_>,
) -> Result<(), OfflineError> {
    // Names of one block are compared with each other: nobody gains by making their hashes collide.
    let mut words = 0_u64..;
    let secret = HashSecret::from_words(|| words.next().unwrap_or_default());
    let mut check = BlockCheck::new(meta, index, &secret);
    loop {
        match check.step() {
            CheckStep::More => {}
            CheckStep::NeedsData(ranges) => {
                let mut bytes = Vec::with_capacity(ranges.len());
                for range in &ranges {
                    match files.range(range) {
                        Ok(read) => bytes.push(read),
                        Err(error) => return findings.fault(format_args!("{path}: {error}")),
                    }
                }
                check.provide(bytes);
            }
            CheckStep::Finished(faults) => {
                for fault in faults {
                    findings.fault(format_args!("{path}/{fault}"))?;
                }
                return Ok(());
            }
        }
    }
}

/// A profile that lies in two blocks is counted twice by every read.
fn identities(
    path: &str,
    reader: &BlockReader,
    held: &mut Held,
    findings: &mut Findings<'_>,
) -> Result<(), OfflineError> {
    for partition in &reader.index().partitions {
        let mut own = Identities::default();
        for origin in &partition.origins {
            for interval in &origin.intervals {
                own.insert_interval(origin.origin, interval.first, interval.last);
            }
        }
        let (service, split) = (&partition.service_name, partition.split);
        let others = held.entry((service.clone(), split)).or_default();
        for (other, identities) in others.iter() {
            if let Some((origin, seq)) = common(&own, identities) {
                let origin = Ulid(origin);
                findings.fault(format_args!(
                    "{path}/{INDEX_FILE}: profile {seq} of origin {origin} of service {service:?}, split {split}, is in {other}, too"
                ))?;
            }
        }
        others.push((path.to_owned(), own));
    }
    Ok(())
}

/// The first identity that both have.
fn common(a: &Identities, b: &Identities) -> Option<(u128, u64)> {
    for (origin, intervals) in a.iter() {
        for (_, others) in b.iter().filter(|(other, _)| *other == origin) {
            for (first, last) in intervals {
                let at = others.partition_point(|(_, end)| end < first);
                if let Some((begin, _)) = others.get(at).filter(|(begin, _)| begin <= last) {
                    return Some((origin, *first.max(begin)));
                }
            }
        }
    }
    None
}
