//! Indexes of any size are written, read and let go of in turns.

use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::pace::{STRETCH_UNITS_MAX, run};

const SERIES: u32 = 20_000;

/// Of a partition with that many series of one profile each.
fn large() -> Index {
    let rows = |count: u32| Rows { start: 0, end: count.into() };
    let value = |at: u32| ValueIndex { value: format!("{at:08}"), series: vec![at] };
    let series = |at: u32| SeriesIndex {
        labels: vec![LabelRef { name: 0, value: at }],
        profiles: Rows { start: at.into(), end: u64::from(at) + 1 },
        time_ns_min: 1,
        time_ns_max: 1,
    };
    let page = |rows, offset| PageIndex {
        offset,
        bytes: 1,
        header_bytes: 1,
        values_bytes: 0,
        rows,
        encoding: 0,
        checksum: 0,
    };
    let counts = [SERIES, 0, 1, 0, 0];
    let table = |(table, count): (Table, u32)| {
        let chunk = |at| ChunkIndex { dictionary: None, pages: vec![page(count, at)] };
        let chunks = (0..table.columns().len() as u64).map(chunk).collect();
        let groups = if count == 0 { vec![] } else { vec![RowGroupIndex { rows: count, chunks }] };
        TableIndex { rows: count.into(), row_groups: groups }
    };
    let interval = |at| Interval { first: at * 2, last: at * 2 };
    let intervals = (0..u64::from(SERIES)).map(interval).collect();
    Index {
        labels: vec![LabelIndex { name: "pod".into(), values: (0..SERIES).map(value).collect() }],
        series: (0..SERIES).map(series).collect(),
        partitions: vec![PartitionIndex {
            service_name: "s".into(),
            split: 0,
            series: rows(SERIES),
            tables: counts.map(rows).into(),
            locations: rows(0),
            origins: vec![OriginIndex { origin: 7, intervals }],
        }],
        tables: Table::ALL.into_iter().zip(counts).map(table).collect(),
    }
}

/// The result of a pass that gives a turn at least once for so many entries, and does no more than it may between two.
fn in_turns<T>(pace: &Pace, entries_per_turn: usize, pass: impl Future<Output = T>) -> T {
    let (mut pass, mut turns) = (pin!(pass), 1);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match pass.as_mut().poll(&mut context) {
            std::task::Poll::Pending => turns += 1,
            std::task::Poll::Ready(result) => {
                assert!(turns * entries_per_turn >= SERIES as usize, "{turns} turns");
                assert!(pace.longest_stretch() <= STRETCH_UNITS_MAX, "stretches are bounded");
                return result;
            }
        }
    }
}

#[test]
fn an_index_of_many_series_is_written_read_and_let_go_of_in_turns() {
    let index = large();
    let pace = Pace::short();
    let mut zstd = Compressor::new();
    let bytes = in_turns(&pace, 1000, index.to_bytes(&mut zstd, &pace));
    let pace = Pace::new();
    let read = in_turns(&pace, 1000, Index::from_bytes(&bytes, &pace));
    assert!(read.as_ref() == Ok(&index), "it is what was written");
    let pace = Pace::new();
    in_turns(&pace, 4000, read.unwrap().free(&pace));
}

#[test]
fn a_law_broken_anywhere_is_seen() {
    let broken = |change: fn(&mut Index)| {
        let mut index = large();
        change(&mut index);
        run(index.validate(BLOCK_VERSION, &Pace::new()))
    };
    assert_eq!(broken(|_| {}), Ok(()));
    let out_of_order = Err("label values are out of order");
    // Where a stretch of comparisons ends and the next begins, too.
    for at in [0, 8190, 8191, 8192, 8193, SERIES as usize - 2] {
        let mut index = large();
        index.labels[0].values.swap(at, at + 1);
        assert_eq!(run(index.validate(BLOCK_VERSION, &Pace::new())), out_of_order, "at {at}");
    }
    let seq = |index: &mut Index| index.partitions[0].origins[0].intervals[8192].first -= 1;
    assert_eq!(broken(seq), Err("intervals are out of order"));
}
