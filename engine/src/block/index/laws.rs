//! The laws of an index: every reference is to what is there, and orders are as they should be. Held in stretches.

use super::super::schema::Table;
use super::{Index, Interval, OriginIndex, PartitionIndex, Rows, TableIndex};
use crate::pace::Pace;

/// Comparisons of neighbours in the time of a unit.
const NEIGHBOURS_PER_UNIT: usize = 8;

/// Neighbours that are compared in one go.
const STRETCH: usize = 8192;

impl Index {
    /// Whether all references are to what is there, and orders are as they should be; else what is wrong.
    pub(in super::super) async fn validate(
        &self,
        version: u16,
        pace: &Pace,
    ) -> Result<(), &'static str> {
        hold(self.tables.len() == Table::ALL.len(), "not as many tables as a block has")?;
        for (table, kind) in self.tables.iter().zip(Table::ALL) {
            table.validate(kind.columns_of(version).len(), kind, pace).await?;
        }
        self.validate_labels(pace).await?;
        self.validate_series(pace).await?;
        self.validate_partitions(pace).await
    }

    async fn validate_labels(&self, pace: &Pace) -> Result<(), &'static str> {
        let ordered = all(&self.labels, pace, |a, b| a.name < b.name).await;
        hold(ordered, "label names are out of order")?;
        let series_count = self.series.len() as u64;
        let mut postings = 0;
        for label in &self.labels {
            let ordered = all(&label.values, pace, |a, b| a.value < b.value).await;
            hold(ordered, "label values are out of order")?;
            for value in &label.values {
                let ordered = all(&value.series, pace, |a, b| a < b).await;
                hold(ordered, "postings are out of order")?;
                let last = value.series.last();
                hold(
                    last.is_none_or(|last| u64::from(*last) < series_count),
                    "a posting of no series",
                )?;
                postings += value.series.len();
                pace.spend(1).await;
            }
        }
        let mut labels = 0;
        for series in &self.series {
            labels += series.labels.len();
            pace.spend(1).await;
        }
        hold(labels == postings, "postings and labels of series differ in number")
    }

    async fn validate_series(&self, pace: &Pace) -> Result<(), &'static str> {
        let mut profiles = 0;
        for (at, series) in self.series.iter().enumerate() {
            hold(series.profiles.start == profiles, "series leave profiles out")?;
            hold(series.profiles.end > profiles, "a series without profiles")?;
            profiles = series.profiles.end;
            hold(series.time_ns_min <= series.time_ns_max, "times of a series are out of order")?;
            let ordered = series.labels.windows(2).all(|pair| pair[0].name < pair[1].name);
            hold(ordered, "labels of a series are out of order")?;
            for label in &series.labels {
                let name = self.labels.get(label.name as usize).ok_or("a label without name")?;
                let value = name.values.get(label.value as usize).ok_or("a label without value")?;
                let posted = value.series.binary_search(&(at as u32)).is_ok();
                hold(posted, "a label of a series is not among the postings")?;
                pace.spend(2).await;
            }
            pace.spend(1).await;
        }
        hold(profiles == self.table(Table::Profiles).rows, "series leave profiles out")
    }

    async fn validate_partitions(&self, pace: &Pace) -> Result<(), &'static str> {
        let ordered = |a: &PartitionIndex, b: &PartitionIndex| {
            (&a.service_name, a.split) < (&b.service_name, b.split)
        };
        hold(all(&self.partitions, pace, ordered).await, "partitions are out of order")?;
        let (mut series, mut locations) = (0, 0);
        let mut tables = [0; Table::ALL.len()];
        for partition in &self.partitions {
            follow(&mut series, partition.series, "partitions leave series out")?;
            follow(&mut locations, partition.locations, "partitions leave locations out")?;
            hold(partition.tables.len() == tables.len(), "a partition of other tables")?;
            for (end, rows) in tables.iter_mut().zip(&partition.tables) {
                follow(end, *rows, "partitions leave rows out")?;
            }
            let of = |table: Table| partition.tables[table as usize];
            let profiles =
                self.series.get(partition.series.start as usize..partition.series.end as usize);
            let profiles = profiles.ok_or("a partition of series that are not there")?;
            let (first, last) = (profiles.first(), profiles.last());
            let (Some(first), Some(last)) = (first, last) else {
                return Err("a partition without series");
            };
            let of_series = Rows { start: first.profiles.start, end: last.profiles.end };
            hold(of(Table::Profiles) == of_series, "profiles of a partition are not its series'")?;
            hold(!of(Table::Stacktraces).is_empty(), "a partition without a root")?;
            hold(
                partition.locations.len() <= of(Table::Locations).len(),
                "fewer lines than locations",
            )?;
            validate_origins(&partition.origins, pace).await?;
            pace.spend(8).await;
        }
        hold(series == self.series.len() as u64, "partitions leave series out")?;
        let whole = tables.iter().zip(&self.tables).all(|(end, table)| *end == table.rows);
        hold(whole, "partitions leave rows out")
    }
}

impl TableIndex {
    async fn validate(
        &self,
        columns: usize,
        table: Table,
        pace: &Pace,
    ) -> Result<(), &'static str> {
        // Ids are 32 bits wide, but those of samples, which nothing refers to.
        hold(
            table == Table::Samples || u32::try_from(self.rows).is_ok(),
            "a table has more rows than ids",
        )?;
        let (mut rows, mut end) = (0_u64, 0_u64);
        for group in &self.row_groups {
            hold(group.rows > 0, "an empty row group")?;
            rows += u64::from(group.rows);
            hold(group.chunks.len() == columns, "a row group of other columns")?;
            for chunk in &group.chunks {
                for page in chunk.dictionary.iter().chain(&chunk.pages) {
                    hold(page.offset >= end, "pages overlap")?;
                    hold(page.header_bytes <= page.bytes, "a page shorter than its header")?;
                    end = page.offset.checked_add(page.bytes.into()).ok_or("a page without end")?;
                }
                let of_pages: u64 = chunk.pages.iter().map(|page| u64::from(page.rows)).sum();
                hold(of_pages == u64::from(group.rows), "pages leave rows out")?;
                let empty = chunk.pages.iter().any(|page| page.rows == 0);
                hold(!empty, "an empty page")?;
                pace.spend(2 + chunk.pages.len()).await;
            }
        }
        hold(rows == self.rows, "row groups leave rows out")
    }
}

async fn validate_origins(origins: &[OriginIndex], pace: &Pace) -> Result<(), &'static str> {
    let ordered = all(origins, pace, |a, b| a.origin < b.origin).await;
    hold(ordered, "origins are out of order")?;
    for origin in origins {
        hold(!origin.intervals.is_empty(), "an origin without intervals")?;
        let whole = origin.intervals.iter().all(|interval| interval.first <= interval.last);
        hold(whole, "an interval ends before it begins")?;
        let apart = |a: &Interval, b: &Interval| a.last < u64::MAX && a.last + 1 < b.first;
        hold(all(&origin.intervals, pace, apart).await, "intervals are out of order")?;
        pace.spend(1 + origin.intervals.len() / NEIGHBOURS_PER_UNIT).await;
    }
    Ok(())
}

fn follow(end: &mut u64, rows: Rows, what: &'static str) -> Result<(), &'static str> {
    hold(rows.start == *end && rows.end >= rows.start, what)?;
    *end = rows.end;
    Ok(())
}

fn hold(law: bool, what: &'static str) -> Result<(), &'static str> {
    if law { Ok(()) } else { Err(what) }
}

/// Whether each entry and the next stand as they should.
async fn all<T>(entries: &[T], pace: &Pace, are_ordered: impl Fn(&T, &T) -> bool) -> bool {
    let mut start = 0;
    while start + 1 < entries.len() {
        let end = entries.len().min(start + STRETCH + 1);
        if !entries[start..end].windows(2).all(|pair| are_ordered(&pair[0], &pair[1])) {
            return false;
        }
        pace.spend((end - start) / NEIGHBOURS_PER_UNIT).await;
        start = end - 1;
    }
    true
}
