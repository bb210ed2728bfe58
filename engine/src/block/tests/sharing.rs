//! Two types of one profile share the rows of their stacks.

use super::*;
use crate::machine::{Event, Machine};

/// Rows of one table of a block: some columns of all rows.
fn rows_of(files: &Files, table: Table, columns: &[usize]) -> Vec<Vec<i64>> {
    let reader = open(files).unwrap();
    let all = Rows { start: 0, end: reader.index().table(table).rows };
    let columns = columns.to_vec();
    let mut machine = Machine::new(move |port: ReadPort| async move {
        let mut stream = TableStream::new(&reader, table, &columns, &[all]);
        stream.ensure(all, &port, &Pace::new()).await.unwrap();
        let kinds = columns.iter().map(|column| table.columns()[*column].kind);
        let column = |(at, kind)| match kind {
            schema::Kind::U32 => stream.ids(at, all).iter().map(|id| i64::from(*id)).collect(),
            _ => stream.numbers(at, all).to_vec(),
        };
        kinds.enumerate().map(column).collect::<Vec<Vec<i64>>>()
    });
    loop {
        match machine.step() {
            Event::More => {}
            Event::Asked(ranges) => {
                let bytes = ranges.iter().map(|range: &ByteRange| {
                    let (start, end) =
                        (range.offset as usize, (range.offset + range.bytes) as usize);
                    Bytes::copy_from_slice(&files[range.file][start..end])
                });
                let bytes = bytes.collect();
                machine.answer(bytes);
            }
            Event::Done(columns) => return columns,
        }
    }
}

#[test]
fn types_of_one_profile_with_the_same_stacks_share_rows() {
    let stacks = [("a;b", 3), ("a;c", 6), ("a", 9)];
    let pushes = [Pushed { kinds: KINDS, ..pushed("s", 1, &stacks) }];
    let files = block_of(&mut heads_of(&pushes)).unwrap();
    // By type: cpu and samples have all stacks, rare has two of them alone; no value leaves a rest of three, so idle has no profile.
    let [start, count, of] =
        <[_; 3]>::try_from(rows_of(&files, Table::Profiles, &[7, 8, 9])).unwrap();
    assert_eq!((start, count, of), (vec![0, 3, 0], vec![3, 2, 3], vec![0, 1, 0]));
    let [profile, first, second] =
        <[_; 3]>::try_from(rows_of(&files, Table::Samples, &[0, 2, 3])).unwrap();
    assert_eq!(profile, [0, 0, 0, 1, 1]);
    let pairs: BTreeSet<_> = first.into_iter().zip(second).collect();
    assert_eq!(pairs, BTreeSet::from([(3, 10), (6, 19), (9, 28), (3, 0)]));
}
