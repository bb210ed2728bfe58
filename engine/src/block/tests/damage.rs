//! A hundred blocks with ten flipped bits each: a check names what is damaged, a read answers right or not at all.

use super::{told as said, *};

/// Rounds of ten flipped bits.
const ROUNDS: u64 = 100;

const FLIPS: usize = 10;

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        ((u128::from(self.0 >> 11) * end as u128) >> 53) as usize
    }
}

/// A copy with ten different bits flipped, and where: in every second round in tables alone, for without index and description
/// nothing is known of them.
fn damaged(files: &Files, round: u64) -> (Files, Vec<(String, u64)>) {
    let (mut copy, mut numbers) = (files.clone(), Numbers(round));
    let is_hit = |name: &str| round.is_multiple_of(2) || name.ends_with(".parquet");
    let hit = files.iter().filter(|(name, _)| is_hit(name));
    let total: usize = hit.map(|(_, bytes)| bytes.len()).sum();
    let (mut places, mut bits) = (Vec::new(), BTreeSet::new());
    while places.len() < FLIPS {
        let bit = numbers.below(total * 8);
        if !bits.insert(bit) {
            continue;
        }
        let mut at = bit / 8;
        for (name, bytes) in copy.iter_mut().filter(|(name, _)| is_hit(name)) {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
                places.push((name.clone(), at as u64));
                break;
            }
            at -= bytes.len();
        }
    }
    (copy, places)
}

/// Whether a fault says that a byte is damaged.
fn tells_of(fault: &BlockError, place: &(String, u64), files: &Files) -> bool {
    let (file, at) = (place.0.as_str(), place.1);
    match fault {
        BlockError::Checksum { file: f, offset, bytes, .. } => {
            file == *f && (*offset..offset + bytes).contains(&at)
        }
        BlockError::BesidePages { file: f, offset, .. } => file == *f && (at < 4 || at >= *offset),
        // Without its description or index nothing is known of a block's tables.
        BlockError::Malformed { file: f, .. } | BlockError::Version { file: f, .. } => {
            file == *f && files.contains_key(*f)
        }
        _ => false,
    }
}

#[test]
fn a_check_names_file_and_place_of_ten_flipped_bits_a_hundred_times() {
    let files = sample_block();
    let reader = open(&files).unwrap();
    let of_page = |(file, at): &(String, u64)| {
        let table = Table::ALL.into_iter().find(|table| table.file_name() == file);
        table.is_some_and(|table| {
            let mut pages = reader.index().table(table).pages();
            pages.any(|p| (p.offset..p.offset + u64::from(p.bytes)).contains(at))
        })
    };
    let mut told = 0;
    for round in 0..ROUNDS {
        let (copy, places) = damaged(&files, round);
        let found = faults(&copy);
        let is_told = |place: &(String, u64)| found.iter().any(|f| tells_of(f, place, &files));
        assert!(places.iter().any(is_told), "round {round}: {places:?}: {found:?}");
        for fault in &found {
            let is_true = places.iter().any(|(file, _)| fault.to_string().starts_with(file));
            assert!(is_true, "round {round}: {fault} of a sound file");
        }
        // What describes the tables is sound: each of their damaged pages is told, and each damaged file.
        if places.iter().all(|(file, _)| file.ends_with(".parquet")) {
            for place in &places {
                let by_name = found.iter().any(|fault| fault.to_string().starts_with(&place.0));
                let is_named = if of_page(place) { is_told(place) } else { by_name };
                assert!(is_named, "round {round}: {place:?}: {found:?}");
            }
            told += 1;
        }
    }
    assert!(told >= ROUNDS / 2, "{told} rounds leave index and description alone");
}

#[test]
fn ten_flipped_bits_never_change_an_answer() {
    let pushes = sample_pushes();
    let mut heads = heads_of(&pushes);
    let questions = questions();
    let right: Vec<_> = questions.iter().map(|q| said(ask(&heads, None, q.clone()).0)).collect();
    let files = block_of(&mut heads).unwrap();
    let (mut refused, mut answered) = (0, 0);
    for round in 0..ROUNDS {
        let (copy, _) = damaged(&files, 1000 + round);
        let Ok(reader) = open(&copy) else {
            refused += questions.len();
            continue;
        };
        for (question, right) in questions.iter().zip(&right) {
            match ask(&heads, Some((&reader, &copy)), question.clone()).0 {
                SelectReply::Failed(_) => refused += 1,
                reply => {
                    assert_eq!(said(reply), *right, "round {round}: {question:?}");
                    answered += 1;
                }
            }
        }
    }
    assert!(refused > 0 && answered > 0, "{refused} refused, {answered} answered");
}
