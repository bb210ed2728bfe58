//! What a scan sees.

use super::*;

#[test]
fn a_cursor_sees_what_was_visible_when_it_was_taken() {
    let mut heads = heads();
    let profile = profile(&[(vec![1, 2], 0, [1, 2, 3]), (vec![3], 1, [4, 5, 6])], 0);
    for time_ns in 0..3 {
        append(&mut heads, &key("shop"), &profile, &admission(&profile, time_ns, 0));
    }
    let mut cursor = heads.get(&key("shop")).unwrap().cursor();
    let mut times = Vec::new();
    for round in 0..100 {
        let step = heads.get(&key("shop")).unwrap().scan(
            |_| true,
            0,
            i64::MAX,
            &mut cursor,
            1,
            |row| {
                times.push(row.time_ns);
                0
            },
        );
        if step == Step::Done {
            break;
        }
        // Rows come and the chunk is sealed under the reader's feet.
        append(&mut heads, &key("shop"), &profile, &admission(&profile, 100 + round, 0));
        if round == 2 {
            assert_eq!(heads.seal_aged(0), Step::Done);
            assert_eq!(heads.seal_aged(60_000), Step::Done);
            assert_eq!(heads.get(&key("shop")).unwrap().sealed().len(), 1);
        }
    }
    assert_eq!(times, [[0; 6], [1; 6], [2; 6]].concat());
}

#[test]
fn a_scan_reads_the_profiles_of_its_time_range() {
    let mut heads = heads();
    let profile = profile(&[(vec![1], 0, [9, 0, 0])], 0);
    for time_ns in [5, 1, 9, 3, 7] {
        append(&mut heads, &key("shop"), &profile, &admission(&profile, time_ns, 0));
    }
    let head = heads.get(&key("shop")).unwrap();
    let (mut cursor, mut times) = (head.cursor(), Vec::new());
    let mut dense = vec![0; head.symbols().nodes_count()];
    while head.scan(
        |_| true,
        3,
        7,
        &mut cursor,
        2,
        |row| {
            times.push(row.time_ns);
            row.add_samples(&mut dense)
        },
    ) == Step::More
    {}
    assert_eq!(times, [5, 3, 7], "in the order of arrival, both ends included");
    assert_eq!(dense, [0, 3 * 9 * 1_000_000_007]);
    let series = &head.series()[0];
    assert_eq!((series.time_ns_min, series.time_ns_max, series.rows_count), (1, 9, 5));
}

/// Rows share nodes and values with rows before them, which may be of series that nobody wants.
#[test]
fn a_scan_for_some_series_gives_their_rows_and_reads_no_others() {
    let mut heads = heads();
    for turn in 0..5_u8 {
        let samples: Vec<Sample> = (0..30)
            .map(|at| (vec![at % LOCATIONS, turn], at % GROUPS, [at % 7, at % 7, (at + turn) % 3]))
            .collect();
        let profile = profile(&samples, usize::from(turn));
        append(&mut heads, &key("shop"), &profile, &admission(&profile, i64::from(turn), 0));
    }
    let head = heads.get(&key("shop")).unwrap();
    let scan = |is_wanted: &dyn Fn(SeriesId) -> bool, values_max| {
        let (mut cursor, mut rows, mut steps) = (head.cursor(), Vec::new(), 0);
        loop {
            steps += 1;
            let step = head.scan(is_wanted, 1, 3, &mut cursor, values_max, |row| {
                let mut samples = Vec::new();
                let read = row.for_each_sample(|node, value| samples.push((node.0, value)));
                rows.push((row.series, row.time_ns, row.total, samples));
                read
            });
            if step == Step::Done {
                return (rows, steps);
            }
        }
    };
    let (all, _) = scan(&|_| true, usize::MAX);
    let series = head.series().len() as u32;
    assert_eq!((series, all.len()), (9, 24), "a column of a group is nothing but zeroes in each");
    for wanted in 0..series {
        let is_wanted = |id: SeriesId| id.0 == wanted || id.0 == (wanted + 4) % series;
        let mut expected = all.clone();
        expected.retain(|(series, ..)| is_wanted(*series));
        for values_max in [1, 5, 40, usize::MAX] {
            assert_eq!(scan(&is_wanted, values_max).0, expected);
        }
    }
    assert_eq!(scan(&|_| false, 1), (Vec::new(), 6), "a batch is passed over in one step");
}
