//! What was pushed and what became of it, written while a run goes on and read by `verify`.
//!
//! ```text
//! {"version":1,"workload":{…},"digest":"…","tenant":null,"protocol":"connect"}
//! 0 ␉ 1795369158047863564 ␉ accepted          number, time the profile carries in Unix nanoseconds, outcome
//! 1 ␉ 1795369158051863564 ␉ refused:429
//! ```
//! Everything else about a push (its series, its values, stack by stack) follows from its number and the workload.
//! Lines stand in the order of their answers.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::workload::{Spec, Workload};

/// Version of the first line and of what follows it.
const VERSION: u32 = 1;

/// Pushes that a journal may have: what they became is held in memory when it is verified.
const PUSHES_MAX: usize = 50_000_000;

/// The first line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Header {
    version: u32,
    /// What was pushed.
    pub workload: Spec,
    /// Of the workload's templates, see [`Workload::digest`].
    digest: String,
    /// Value of `X-Scope-OrgID`.
    pub tenant: Option<String>,
}

impl Header {
    /// Of a run.
    pub fn new(workload: &Workload, tenant: Option<&str>) -> Self {
        Self {
            version: VERSION,
            workload: workload.spec().clone(),
            digest: format!("{:016x}", workload.digest()),
            tenant: tenant.map(str::to_owned),
        }
    }

    /// Makes the workload again and looks whether it is the same.
    pub fn workload(&self) -> Result<Workload, String> {
        let workload = Workload::new(self.workload.clone())?;
        if format!("{:016x}", workload.digest()) != self.digest {
            return Err("the profiles of the workload are not those that were pushed".to_owned());
        }
        Ok(workload)
    }
}

/// One push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its number.
    pub number: u64,
    /// Time the profile carries, Unix nanoseconds.
    pub time_ns: i64,
    /// What became of it.
    pub outcome: Outcome,
}

/// Writes a journal.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<File>,
}

impl Writer {
    /// Begins a file; one that is there is overwritten.
    pub fn create(path: &Path, header: &Header) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        serde_json::to_writer(&mut file, header)?;
        writeln!(file)?;
        Ok(Self { file })
    }

    /// Notes a push.
    pub fn note(&mut self, record: Record) -> io::Result<()> {
        let Record { number, time_ns, outcome } = record;
        writeln!(self.file, "{number}\t{time_ns}\t{outcome}")
    }

    /// Ends the file.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads a journal.
pub fn read(path: &Path) -> Result<(Header, Vec<Record>), String> {
    let at = |what: String| format!("{}: {what}", path.display());
    let file = File::open(path).map_err(|error| at(error.to_string()))?;
    parse(BufReader::new(file)).map_err(at)
}

fn parse(file: impl BufRead) -> Result<(Header, Vec<Record>), String> {
    let mut lines = file.lines();
    let first = lines.next().ok_or("the file is empty")?.map_err(|error| error.to_string())?;
    let header: Header =
        serde_json::from_str(&first).map_err(|error| format!("line 1: {error}"))?;
    if header.version != VERSION {
        return Err(format!("version {} is not {VERSION}", header.version));
    }
    let mut records = Vec::new();
    for (row, line) in lines.enumerate() {
        let line = line.map_err(|error| error.to_string())?;
        let record = record(&line).ok_or_else(|| format!("line {}: no push: {line}", row + 2))?;
        if records.len() == PUSHES_MAX {
            return Err(format!("more than {PUSHES_MAX} pushes"));
        }
        records.push(record);
    }
    Ok((header, records))
}

fn record(line: &str) -> Option<Record> {
    let mut fields = line.split('\t');
    let number = fields.next()?.parse().ok()?;
    let time_ns = fields.next()?.parse().ok()?;
    let outcome = fields.next()?.parse().ok()?;
    fields.next().is_none().then_some(Record { number, time_ns, outcome })
}
