//! `pyrite blocks`: what lies in a data directory, and what a block holds.

use std::io::Write;
use std::path::Path;

use engine::block::{BlockReader, Meta, PartitionIndex, Table};
use engine::profile::format_time_ms;
use engine::tenant::TenantId;
use serde_json::{Value, json};

use super::block_file::BlockDirectory;
use super::{Form, OfflineError, names};
use crate::blocks::{self, Entry, entry_of};
use crate::process::{EXIT_FAILED, EXIT_OK};

/// One line or object a block, by tenant and age; 1 where one cannot be read.
pub(super) fn list(directory: &Path, form: Form, out: &mut dyn Write) -> Result<u8, OfflineError> {
    std::fs::read_dir(directory).map_err(OfflineError::of(directory))?;
    let mut status = EXIT_OK;
    let root = directory.join(blocks::ROOT);
    for tenant in names(&root)?.iter().filter(|name| TenantId::parse(name).is_ok()) {
        for name in names(&root.join(tenant))? {
            if !matches!(entry_of(&name), Some(Entry::Block(_))) {
                continue;
            }
            let path = root.join(tenant).join(&name);
            let files = BlockDirectory::new(&path);
            let meta =
                files.meta().and_then(|m| Meta::from_bytes(&m).map_err(|error| files.error(error)));
            match meta {
                Ok(meta) => line(&meta, form, out)?,
                Err(error) => {
                    status = EXIT_FAILED;
                    match form {
                        Form::Text => writeln!(out, "{name}  {tenant}  unreadable: {error}")?,
                        Form::Json => {
                            let error = error.to_string();
                            let value = json!({"ulid": name, "tenant": tenant, "error": error});
                            writeln!(out, "{value}")?;
                        }
                    }
                }
            }
        }
    }
    out.flush()?;
    Ok(status)
}

/// What one block holds.
pub(super) fn inspect(path: &Path, form: Form, out: &mut dyn Write) -> Result<u8, OfflineError> {
    let files = BlockDirectory::new(path);
    let meta = files.meta()?;
    let described = Meta::from_bytes(&meta).map_err(|error| files.error(error))?;
    let index = files.index(&described)?;
    let block = BlockReader::open(&meta, &index).map_err(|error| files.error(error))?;
    match form {
        Form::Text => text(&block, out)?,
        Form::Json => {
            let value = serde_json::to_string_pretty(&object(&block));
            writeln!(out, "{}", value.expect("an object has string keys"))?;
        }
    }
    out.flush()?;
    Ok(EXIT_OK)
}

fn line(meta: &Meta, form: Form, out: &mut dyn Write) -> Result<(), OfflineError> {
    let Meta { ulid, tenant, level, stats, .. } = meta;
    let bytes = bytes_of(meta);
    match form {
        Form::Text => writeln!(
            out,
            "{ulid}  {tenant}  level {level}  {} to {}  {} profiles, {} series, {} partitions  {bytes} bytes",
            time(meta.min_time_ns),
            time(meta.max_time_ns),
            stats.profiles,
            stats.series,
            stats.partitions,
        )?,
        Form::Json => writeln!(out, "{}", of_meta(meta))?,
    }
    Ok(())
}

fn text(block: &BlockReader, out: &mut dyn Write) -> Result<(), OfflineError> {
    let (meta, index) = (block.meta(), block.index());
    line(meta, Form::Text, out)?;
    writeln!(out, "\nfiles")?;
    for facts in &meta.files {
        writeln!(out, "  {:<22} {:>12} bytes  {:016x}", facts.name, facts.bytes, facts.checksum)?;
    }
    writeln!(out, "\ntables")?;
    for table in Table::ALL {
        let of_table = index.table(table);
        let groups = of_table.row_groups.len();
        writeln!(
            out,
            "  {:<22} {:>12} rows in {groups} row groups",
            table.file_name(),
            of_table.rows
        )?;
    }
    writeln!(out, "\nlabels")?;
    for label in &index.labels {
        writeln!(out, "  {}: {} values", label.name, label.values.len())?;
    }
    writeln!(out, "\npartitions")?;
    for partition in &index.partitions {
        let PartitionIndex { service_name, split, series, origins, .. } = partition;
        let rows = |table: Table| partition.tables[table as usize].len();
        writeln!(
            out,
            "  {service_name:?} split {split}: {} series, {} profile rows, {} samples, {} stacks, {} profiles of {} origins",
            series.len(),
            rows(Table::Profiles),
            rows(Table::Samples),
            rows(Table::Stacktraces),
            profiles_count(partition),
            origins.len(),
        )?;
    }
    Ok(())
}

fn of_meta(meta: &Meta) -> Value {
    let mut value = serde_json::to_value(meta).expect("a meta has string keys");
    value["bytes"] = bytes_of(meta).into();
    value
}

fn object(block: &BlockReader) -> Value {
    let index = block.index();
    let mut value = of_meta(block.meta());
    let tables = Table::ALL.map(|table| {
        let of_table = index.table(table);
        json!({"file": table.file_name(), "rows": of_table.rows, "row_groups": of_table.row_groups.len()})
    });
    value["tables"] = tables.to_vec().into();
    let labels = index.labels.iter();
    let labels = labels.map(|label| json!({"name": label.name, "values": label.values.len()}));
    value["labels"] = labels.collect();
    let partitions = index.partitions.iter().map(|partition| {
        let rows = |table: Table| partition.tables[table as usize].len();
        let origins = partition.origins.iter().map(|origin| {
            let intervals = origin.intervals.iter().map(|i| json!([i.first, i.last]));
            let ulid = ulid::Ulid(origin.origin).to_string();
            json!({"origin": ulid, "intervals": intervals.collect::<Value>()})
        });
        json!({
            "service_name": partition.service_name,
            "split": partition.split,
            "series": partition.series.len(),
            "profiles": profiles_count(partition),
            "profile_rows": rows(Table::Profiles),
            "samples": rows(Table::Samples),
            "stacktraces": rows(Table::Stacktraces),
            "origins": origins.collect::<Value>(),
        })
    });
    value["partitions"] = partitions.collect();
    value
}

/// Profiles that it holds, by their numbers.
fn profiles_count(partition: &PartitionIndex) -> u64 {
    let intervals = partition.origins.iter().flat_map(|origin| &origin.intervals);
    intervals.fold(0, |sum: u64, i| sum.saturating_add((i.last - i.first).saturating_add(1)))
}

fn bytes_of(meta: &Meta) -> u64 {
    meta.files.iter().fold(0, |sum: u64, facts| sum.saturating_add(facts.bytes))
}

fn time(ns: i64) -> String {
    format_time_ms(ns.div_euclid(1_000_000))
}
