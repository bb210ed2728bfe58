use std::io::Write;

use engine::gzip::STEP_INPUT_BYTES_MAX;
use engine::route::ShardId;
use flate2::write::GzEncoder;
use futures_executor::block_on;

use super::*;
use crate::budget::Budget;
use crate::http::turns::Turns;

fn rope(bytes_max: usize) -> Rope {
    Rope::new(Budget::new(1 << 40, 1).of_shard(ShardId(0)), bytes_max, 0)
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn pieces(bytes: &[u8], piece_bytes: usize) -> Vec<Bytes> {
    bytes.chunks(piece_bytes).map(Bytes::copy_from_slice).collect()
}

fn inflated(input: Vec<Bytes>, bytes_max: usize) -> Result<Vec<u8>, InflateError> {
    block_on(inflate(&Turns::default(), input, rope(bytes_max)))
        .map(|rope| rope.into_blocks().0.concat())
}

/// Text that compresses, longer than a few blocks.
fn text() -> Vec<u8> {
    (0..60_000u32).flat_map(|i| format!("frame {} ", i * i % 1009).into_bytes()).collect()
}

#[test]
fn what_was_compressed_comes_back_however_it_is_cut() {
    let text = text();
    for bytes in [&text[..], b"x", b""] {
        for piece_bytes in [1, 7, 1000, 1 << 20] {
            let got = inflated(pieces(&packed(bytes), piece_bytes), bytes.len());
            assert!(got.as_deref() == Ok(bytes), "{} bytes by {piece_bytes}", bytes.len());
        }
    }
}

#[test]
fn members_follow_each_other() {
    let body = [packed(b"one "), packed(b""), packed(b"two")].concat();
    assert_eq!(inflated(pieces(&body, 5), 100), Ok(b"one two".to_vec()));
}

#[test]
fn the_limit_holds_while_inflating() {
    let bomb = packed(&vec![0; 1 << 20]);
    let too_large = Err(InflateError::Rope(RopeError::TooLarge));
    assert_eq!(inflated(pieces(&bomb, 1 << 20), (1 << 20) - 1), too_large);
    assert_eq!(inflated(pieces(&bomb, 1 << 20), 1 << 20).unwrap().len(), 1 << 20);
    assert_eq!(inflated(pieces(&bomb, 1 << 20), 10), too_large);
}

#[test]
fn the_memory_budget_holds_while_inflating() {
    let budget = Budget::new(1 << 20, 1).of_shard(ShardId(0));
    let out = Rope::new(budget.clone(), usize::MAX, 0);
    let bomb = pieces(&packed(&vec![0; 2 << 20]), 1 << 20);
    let error = block_on(inflate(&Turns::default(), bomb, out)).unwrap_err();
    assert!(matches!(error, InflateError::Rope(RopeError::Memory(_))), "{error:?}");
    assert_eq!(budget.admit(1 << 20), Ok(()), "nothing is held any more");
}

#[test]
fn damage_is_an_error() {
    let whole = packed(b"some text, some text, some text");
    for end in 0..whole.len() {
        let got = inflated(pieces(&whole[..end], 1000), 1000);
        assert_eq!(got, Err(InflateError::Gzip(GzipError::Truncated)), "{end} bytes");
    }
    let corrupt = Err(InflateError::Gzip(GzipError::Corrupt));
    let trailing = [&whole[..], b"garbage"].concat();
    assert_eq!(inflated(pieces(&trailing, 1000), 1000), corrupt);
    for at in [0, 1, 2, whole.len() - 1, whole.len() - 8] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        assert!(inflated(pieces(&damaged, 1000), 1000).is_err(), "byte {at}");
    }
    assert_eq!(inflated(pieces(b"plain text", 1000), 1000), corrupt);
}

#[test]
fn others_get_turns_however_little_comes_out() {
    // Stored deflate blocks without content: 5 bytes that give nothing.
    let mut body = packed(b"")[..10].to_vec();
    for _ in 0..100_000 {
        body.extend([0, 0, 0, 0xff, 0xff]);
    }
    let turns = Turns::default();
    let error = block_on(inflate(&turns, vec![body.into()], rope(10))).unwrap_err();
    assert_eq!(error, InflateError::Gzip(GzipError::Truncated));
    assert!(turns.count() >= 500_000 / STEP_INPUT_BYTES_MAX, "{} turns", turns.count());
}

#[test]
fn replies_are_compressed_in_pieces() {
    let text = text();
    let turns = Turns::default();
    let input = pieces(&text, 100_000);
    let (blocks, _held) = block_on(deflate(&turns, &input, rope(usize::MAX))).unwrap();
    assert!(blocks.concat().len() < text.len() / 2);
    assert!(inflated(blocks, text.len()) == Ok(text.clone()), "the text differs");
    assert!(turns.count() >= text.len() / DEFLATED_INPUT_BYTES_MAX);

    let budget = Budget::new(10, 1).of_shard(ShardId(0));
    let no_room = Rope::new(budget, usize::MAX, 0);
    assert!(block_on(deflate(&turns, &input, no_room)).is_none());
}

/// Whatever comes as gzip ends in bytes within the limit or in an error, and real gzip always comes back.
#[test]
fn any_bytes_are_inflated_or_refused() {
    bolero::check!().with_type::<(u16, Vec<u8>)>().for_each(|(piece_bytes, bytes)| {
        let piece_bytes = usize::from(*piece_bytes).max(1);
        let _ = inflated(pieces(bytes, piece_bytes), 1 << 16);
        assert_eq!(inflated(pieces(&packed(bytes), piece_bytes), bytes.len()), Ok(bytes.clone()));
        let mut damaged = packed(bytes);
        let at = piece_bytes % damaged.len();
        damaged[at] ^= 1;
        if let Ok(got) = inflated(pieces(&damaged, piece_bytes), 1 << 16) {
            // Only the header's time, flags of no effect and system may differ unnoticed.
            assert_eq!((got, at < 10), (bytes.clone(), true));
        }
    });
}
