use std::io::{Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const LIMIT: usize = 16 << 20;

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Output and number of steps of `budget` each.
fn inflate(body: &[u8], limit: usize, budget: i64) -> Result<(Vec<u8>, usize), DeflateError> {
    let mut inflate = Inflate::new();
    inflate.begin();
    let (mut output, mut steps) = (Vec::new(), 1);
    while inflate.step(body, &mut output, limit, &mut { budget })? == Step::More {
        steps += 1;
    }
    Ok((output, steps))
}

fn by_zlib(body: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(body).take(LIMIT as u64);
    decoder.read_to_end(&mut output).ok().map(|_| output)
}

fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// Bytes of few or many values, with repetitions near and far.
fn text(seed: &mut u64, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    let values = 1 + random(seed) % 256;
    while bytes.len() < len {
        let run = random(seed) as usize % 300;
        if random(seed).is_multiple_of(3) && !bytes.is_empty() {
            let back = 1 + random(seed) as usize % bytes.len().min([3, 40, 40_000][run % 3]);
            for _ in 0..run {
                bytes.push(bytes[bytes.len() - back]);
            }
        } else {
            // The lesser of two: some values are frequent, and the rare ones get long codewords.
            let mut value = || (random(seed) % values).min(random(seed) % values) as u8;
            bytes.extend((0..run).map(|_| value()));
        }
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn whatever_zlib_writes_comes_back_at_any_budget() {
    let mut seed = 1;
    for len in [0, 1, 2, 30, 31, 40, 300, 1000, 33_000, 70_000, 300_000] {
        for level in 0..=9 {
            let content = text(&mut seed, len);
            let body = gzip(&content, level);
            for budget in [1, 100_000, i64::MAX] {
                let inflated = inflate(&body, LIMIT, budget).map(|(output, _)| output);
                assert!(inflated == Ok(content.clone()), "{len} bytes, level {level}, {budget}");
            }
        }
    }
}

/// Streams that no encoder of ours writes: a dynamic block whose codewords are up to 15 bits long, in both alphabets.
#[test]
fn codewords_of_every_length_are_decoded() {
    // Fibonacci frequencies make the deepest tree; the distances double, so that every offset symbol occurs.
    let mut content = Vec::new();
    let (mut a, mut b) = (1_usize, 1);
    for value in 0..22_u8 {
        content.extend(std::iter::repeat_n(value, a));
        (a, b) = (b, a + b);
    }
    let mut seed = 7;
    for at in (1..content.len()).rev() {
        content.swap(at, random(&mut seed) as usize % (at + 1));
    }
    for back in (0..15).map(|bit| 1 << bit) {
        let start = content.len() - back;
        content.extend_from_within(start..start + back.min(200));
    }
    let body = gzip(&content, 9);
    assert!(inflate(&body, LIMIT, i64::MAX).unwrap().0 == content);
}

#[test]
fn damaged_bodies_end_as_zlib_ends_them() {
    let mut seed = 3;
    let mut both_refuse = 0;
    for round in 0..3000 {
        let len = random(&mut seed) as usize % 2000;
        let mut body = gzip(&text(&mut seed, len), round % 10);
        match round % 3 {
            0 => body.truncate(random(&mut seed) as usize % body.len()),
            _ => {
                for _ in 0..=round % 4 {
                    let at = random(&mut seed) as usize % body.len();
                    body[at] ^= 1 << (random(&mut seed) % 8);
                }
            }
        }
        let ours = inflate(&body, LIMIT, 50_000).ok().map(|(output, _)| output);
        let zlibs = by_zlib(&body);
        both_refuse += usize::from(ours.is_none());
        // A header's text and time may differ and mean nothing; zlib takes garbage behind the last member for its end.
        assert!(ours == zlibs || ours.is_none(), "round {round}: {} bytes", body.len());
    }
    assert!((2000..3000).contains(&both_refuse), "{both_refuse} of 3000");
}

#[test]
fn any_bytes_end_in_an_answer_within_the_limit() {
    bolero::check!().with_type::<(bool, Vec<u8>)>().for_each(|(is_dynamic, tail)| {
        let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
        let block = [if *is_dynamic { 0b101 } else { 0b011 }];
        let body = [&header[..], &block, tail].concat();
        if let Ok((output, _)) = inflate(&body, 50_000, 10_000) {
            assert!(output.len() <= 50_000);
        }
    });
}

/// A dynamic block without content is a table for 12 to 28 bytes; each is charged for.
#[test]
fn blocks_without_content_are_bounded_by_the_budget() {
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
    // Empty fixed blocks: 3 bits of header and 7 of the end, twelve of them in 15 bytes.
    let mut bits = Vec::new();
    for _ in 0..80_000 {
        bits.extend([false, true, false, false, false, false, false, false, false, false]);
    }
    let blocks: Vec<u8> = bits
        .chunks(8)
        .map(|byte| byte.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit)))
        .collect();
    let body = [&header[..], &blocks].concat();
    let mut inflate = Inflate::new();
    inflate.begin();
    let (mut output, mut steps) = (Vec::new(), 0);
    let ended = loop {
        steps += 1;
        match inflate.step(&body, &mut output, LIMIT, &mut 1_000_000) {
            Ok(Step::More) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended, Err(DeflateError::Damaged), "it has no last block");
    assert!(steps > 80_000 / 300, "{steps} steps of a millisecond for 80,000 tables");
}

#[test]
fn headers_with_every_field_are_read_over() {
    let body = gzip(b"content", 6);
    let fields = b"\x03\0abcname\0comment\0\x12\x34";
    let mut with_fields = body[..10].to_vec();
    with_fields[3] = 2 | 4 | 8 | 16;
    with_fields.extend_from_slice(fields);
    with_fields.extend_from_slice(&body[10..]);
    assert_eq!(inflate(&with_fields, LIMIT, i64::MAX).unwrap().0, b"content");
    for cut in 0..10 + fields.len() {
        assert_eq!(
            inflate(&with_fields[..cut], LIMIT, i64::MAX),
            Err(DeflateError::Damaged),
            "{cut}"
        );
    }
}

#[test]
fn a_match_never_reaches_into_the_member_before() {
    // A fixed block whose first symbol is a match of three bytes at offset 1.
    let deflate = [0b0000_0011, 0b0000_0010, 0, 0];
    let second = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0][..], &deflate, &[0; 64]].concat();
    let body = [gzip(b"before", 6), second].concat();
    assert_eq!(inflate(&body, LIMIT, i64::MAX), Err(DeflateError::Damaged));
}
