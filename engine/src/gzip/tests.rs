use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const BUDGET: i64 = 1_000_000;

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Output and number of steps; no step may read or write more than its budget.
fn gunzip(body: Vec<u8>, limit: usize) -> Result<(Vec<u8>, usize), GunzipError> {
    let mut gunzip = Gunzip::new(body.into(), limit);
    let (mut output, mut steps) = (Vec::new(), 0);
    loop {
        steps += 1;
        let (at, len) = (gunzip.at, output.len());
        let step = gunzip.step(&mut output, &mut { BUDGET })?;
        assert!(gunzip.at - at <= 2 * STEP_INPUT_BYTES_MAX, "{} bytes read", gunzip.at - at);
        assert!(output.len() - len <= 2 << 20, "{} bytes written", output.len() - len);
        assert!(output.capacity() <= 2 * (limit + STEP_OUTPUT_BYTES_MAX), "bounded by the limit");
        if step == Step::Done {
            return Ok((output, steps));
        }
    }
}

/// Writes bits as deflate does, the least significant first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    word: u64,
    bits: u32,
}

impl Bits {
    fn put(&mut self, value: u64, bits: u32) {
        self.word |= value << self.bits;
        self.bits += bits;
        while self.bits >= 8 {
            self.bytes.push(self.word as u8);
            self.word >>= 8;
            self.bits -= 8;
        }
    }

    /// A dynamic block without content in 92 bits: 257 literal codes of which one is used, one distance code, and the end.
    fn empty_dynamic_block(&mut self) {
        self.put(0b100, 3);
        self.put(0, 5);
        self.put(0, 5);
        self.put(18 - 4, 4);
        for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1] {
            self.put(if symbol == 18 { 1 } else { 2 * u64::from(symbol < 2) }, 3);
        }
        for zeroes in [138, 118] {
            self.put(0, 1);
            self.put(zeroes - 11, 7);
        }
        self.put(0b11, 2); // one code of length 1
        self.put(0b01, 2); // and one of length 0
        self.put(0, 1);
    }
}

/// Ways to take input without giving output.
fn hollow(bytes: usize) -> [Vec<u8>; 3] {
    let header = packed(b"")[..10].to_vec();
    let end = [0; 8]; // checksum and length of nothing
    let stored = [0, 0, 0, 0xff, 0xff].repeat(bytes / 5);
    let last = [1, 0, 0, 0xff, 0xff];
    let mut dynamic = Bits::default();
    while dynamic.bytes.len() < bytes {
        dynamic.empty_dynamic_block();
    }
    dynamic.put(0b011, 3); // the last block, with fixed codes, holds the end alone
    dynamic.put(0, 7);
    dynamic.put(0, 7);
    [
        [header.as_slice(), &stored, &last, &end].concat(),
        packed(b"").repeat(bytes / packed(b"").len()),
        [header.as_slice(), &dynamic.bytes, &end].concat(),
    ]
}

#[test]
fn all_members_come_back_up_to_the_limit() {
    let two = [packed(b"abc"), packed(b""), packed(b"def")].concat();
    assert_eq!(gunzip(two.clone(), 6).unwrap().0, b"abcdef");
    assert_eq!(gunzip(two, 5), Err(GunzipError::OverLimit));
    assert_eq!(gunzip(packed(b""), 0).unwrap().0, b"");
    for len in [STEP_OUTPUT_BYTES_MAX, 3 << 20] {
        let bomb = packed(&vec![7; len]);
        assert_eq!(gunzip(bomb.clone(), len).unwrap().0, vec![7; len]);
        assert_eq!(gunzip(bomb, len - 1), Err(GunzipError::OverLimit));
    }
}

/// Only output was counted: megabytes of blocks and members without content were one step of seconds.
#[test]
fn input_that_gives_nothing_takes_many_steps() {
    for (i, body) in hollow(1 << 20).into_iter().enumerate() {
        let len = body.len();
        let (output, steps) = gunzip(body, len).unwrap();
        assert!(output.is_empty(), "way {i}");
        assert!(steps >= len / (2 * STEP_INPUT_BYTES_MAX), "way {i}: {len} bytes in {steps} steps");
    }
}

/// What is much larger than its content may be is not read at all: it would be paid for by nobody's limit.
#[test]
fn input_far_beyond_the_limit_is_refused_unread() {
    for body in hollow(compressed_bytes_max(100) + 100) {
        let mut gunzip = Gunzip::new(body.into(), 100);
        let mut output = Vec::new();
        assert_eq!(gunzip.step(&mut output, &mut { BUDGET }), Err(GunzipError::OverLimit));
        assert_eq!((gunzip.at, output.capacity()), (0, 0));
    }
}

#[test]
fn what_was_cut_short_or_damaged_is_an_error() {
    let whole = packed(b"some text, some text, some text");
    for end in 0..whole.len() {
        let cut = gunzip(whole[..end].to_vec(), 100);
        assert_eq!(cut, Err(GunzipError::Gzip(GzipError::Truncated)), "{end} bytes");
    }
    let corrupt = Err(GunzipError::Gzip(GzipError::Corrupt));
    assert_eq!(gunzip([&whole[..], b"garbage"].concat(), 100), corrupt);
    for at in [0, 1, 2, whole.len() - 1, whole.len() - 8] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        assert!(gunzip(damaged, 100).is_err(), "byte {at}");
    }
}

#[test]
fn any_bytes_come_back_and_any_body_ends_within_the_limit() {
    let hollow = hollow(1000);
    bolero::check!().with_type().for_each(|(bytes, at): &(Vec<u8>, u16)| {
        let content = packed(bytes);
        assert_eq!(gunzip(content.clone(), bytes.len()).unwrap().0, *bytes);
        let at = usize::from(*at);
        for body in hollow.iter().chain([&content]) {
            let mut body = body.clone();
            let at = at % body.len();
            let end = (at + bytes.len()).min(body.len());
            body.splice(at..end, bytes.iter().copied());
            if let Ok((output, _)) = gunzip(body, 1 << 10) {
                assert!(output.len() <= 1 << 10);
            }
        }
    });
}
