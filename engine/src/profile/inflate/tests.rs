use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Output and number of steps.
fn inflate(body: Vec<u8>, limit: usize) -> Result<(Vec<u8>, usize), InflateError> {
    let mut inflater = Inflater::new();
    inflater.begin(body.into(), limit);
    let (mut output, mut steps) = (Vec::new(), 0);
    loop {
        steps += 1;
        let step = inflater.step(&mut output, &mut 500_000)?;
        let room = if limit == 0 { PROFILE_BYTES_MAX } else { limit.max(1 << 20) };
        assert!(output.capacity() <= 2 * (room + (64 << 10)), "the output is bounded by the limit");
        if step == Step::Done {
            return Ok((output, steps));
        }
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 60) as u8
    })
    .take(len)
    .collect()
}

#[test]
fn plain_bytes_and_gzip_give_the_same_message() {
    for len in [0, 1, 1000, COPY_BYTES_MAX, COPY_BYTES_MAX + 1, 3 << 20] {
        let message = noise(len);
        assert_eq!(inflate(message.clone(), 0).unwrap().0, message, "plain, {len} bytes");
        assert_eq!(inflate(gzip(&message), 0).unwrap().0, message, "gzip, {len} bytes");
        assert_eq!(inflate(gzip(&message), len.max(1)).unwrap().0, message, "at the limit");
    }
}

#[test]
fn a_body_of_several_members_is_one_message() {
    for len in [100, 300_000, 900_000] {
        let message = noise(len);
        let (first, second) = message.split_at(len / 3);
        let body = [gzip(first), gzip(&[]), gzip(second)].concat();
        assert_eq!(inflate(body, 0).unwrap().0, message, "{len} bytes");
    }
}

#[test]
fn large_bodies_take_several_steps() {
    let (output, steps) = inflate(gzip(&noise(4 << 20)), 0).unwrap();
    assert_eq!(output.len(), 4 << 20);
    assert!(steps >= 8, "{steps} steps");
}

#[test]
fn one_byte_over_the_limit_is_refused() {
    for limit in [10, 100_000, COPY_BYTES_MAX, 2 << 20] {
        let over = Err(InflateError::OverLimit(limit));
        assert_eq!(inflate(noise(limit + 1), limit).map(|_| ()), over);
        assert_eq!(inflate(gzip(&noise(limit + 1)), limit).map(|_| ()), over);
        let members = [gzip(&noise(limit)), gzip(&noise(1))].concat();
        assert_eq!(inflate(members, limit).map(|_| ()), over);
    }
}

/// 64 MiB of zeroes in 64 kB, and the same with a trailer that claims ten bytes.
#[test]
fn a_bomb_stops_at_the_limit() {
    let mut bomb = gzip(&vec![0; 64 << 20]);
    assert_eq!(inflate(bomb.clone(), 4 << 20), Err(InflateError::OverLimit(4 << 20)));
    let at = bomb.len() - 4;
    bomb[at..].copy_from_slice(&10_u32.to_le_bytes());
    assert_eq!(inflate(bomb, 4 << 20), Err(InflateError::OverLimit(4 << 20)));
}

/// The trailer's size is checked when the end is reached, and reserves nothing before.
#[test]
fn a_trailer_that_lies_is_an_error() {
    let mut body = gzip(&noise(1000));
    let at = body.len() - 4;
    body[at..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(inflate(body, 0), Err(InflateError::Damaged));
}

#[test]
fn damage_and_trailing_garbage_are_errors() {
    for len in [1000, 2 << 20] {
        let body = gzip(&noise(len));
        for cut in [3, 12, body.len() / 2, body.len() - 1] {
            assert_eq!(
                inflate(body[..cut].to_vec(), 0),
                Err(InflateError::Damaged),
                "cut at {cut}"
            );
        }
        let garbage = [body.as_slice(), b"garbage"].concat();
        assert!(inflate(garbage, 0).is_err());
        let mut flipped = body;
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x40;
        assert!(inflate(flipped, 0).is_err());
    }
}

/// Members without content claim 0 bytes: a megabyte of them went into one call that nothing could interrupt.
#[test]
fn many_members_without_content_are_inflated_in_pieces() {
    let body = gzip(&[]).repeat(50_000);
    let (output, steps) = inflate(body.clone(), 4 << 20).unwrap();
    assert!(output.is_empty());
    assert!(steps >= body.len() / (80 << 10), "{} bytes in {steps} steps", body.len());
    assert_eq!(inflate(body, 1 << 10), Err(InflateError::OverLimit(1 << 10)), "refused unread");
}

#[test]
fn any_bytes_behind_the_magic_end_in_an_answer_within_the_limit() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|tail| {
        let body = [&[0x1f, 0x8b, 8], tail.as_slice()].concat();
        if let Ok((output, _)) = inflate(body, 100_000) {
            assert!(output.len() <= 100_000);
        }
    });
}
