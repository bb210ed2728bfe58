use std::convert::Infallible;

use engine::route::ShardId;
use futures_executor::block_on;
use futures_util::stream;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;

use super::*;
use crate::budget::Budget;
use crate::http::rope::BLOCK_BYTES;
use crate::http::turns::Turns;

fn limits(bytes_max: usize, memory_bytes: u64) -> BodyLimits {
    let budget = Budget::new(memory_bytes, 1).of_shard(ShardId(0));
    BodyLimits { bytes_max, timeout: Duration::from_secs(30), budget }
}

fn framed(frames: Vec<Vec<u8>>) -> impl Body<Data = Bytes, Error = Infallible> {
    StreamBody::new(stream::iter(frames.into_iter().map(|bytes| Ok(Frame::data(bytes.into())))))
}

fn read_all<B>(body: B, limits: &BodyLimits) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes, Error: std::fmt::Display>,
{
    let turns = Turns::default();
    block_on(async {
        let rope = read(&turns, body, limits).await?;
        rope.join(&turns).await.map(|joined| joined.bytes).map_err(BodyError::Memory)
    })
}

#[test]
fn a_body_is_its_frames_in_order() {
    let bytes: Vec<u8> = (0..4 * BLOCK_BYTES).map(|i| (i / 3) as u8).collect();
    for frame_bytes in [1000, BLOCK_BYTES, BLOCK_BYTES + 1, bytes.len()] {
        let frames = bytes.chunks(frame_bytes).map(<[u8]>::to_vec).collect();
        let got = read_all(framed(frames), &limits(bytes.len(), 1 << 30)).unwrap();
        assert!(got == bytes, "frames of {frame_bytes} bytes");
    }
    assert_eq!(read_all(framed(Vec::new()), &limits(0, 0)), Ok(Bytes::new()));
}

#[test]
fn the_limit_holds_for_claims_and_for_what_comes() {
    let full = |count| Full::new(Bytes::from(vec![0; count]));
    assert_eq!(read_all(full(11), &limits(10, 1 << 30)), Err(BodyError::TooLarge));
    assert!(read_all(full(10), &limits(10, 1 << 30)).is_ok());
    let frames = vec![vec![0; 6], vec![0; 5]];
    assert_eq!(read_all(framed(frames), &limits(10, 1 << 30)), Err(BodyError::TooLarge));
}

#[test]
fn many_small_frames_take_no_more_than_their_bytes_and_a_block() {
    let frames: Vec<_> = (0..100_000).map(|_| vec![7]).collect();
    let body = framed(frames);
    let memory = 2 * (100_000 + BLOCK_BYTES as u64);
    assert_eq!(read_all(body, &limits(1 << 20, memory)).unwrap().len(), 100_000);
}

#[test]
fn a_claimed_length_allocates_a_block_at_most() {
    struct Claim;
    impl Body for Claim {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::Poll::Ready(None)
        }
        fn size_hint(&self) -> hyper::body::SizeHint {
            hyper::body::SizeHint::with_exact(1 << 40)
        }
    }
    assert_eq!(read_all(Claim, &limits(usize::MAX, 0)), Ok(Bytes::new()));
}

#[test]
fn a_body_the_budget_has_no_room_for_is_refused_and_leaves_nothing() {
    let limits = limits(1 << 20, BLOCK_BYTES as u64);
    let frames = vec![vec![0; BLOCK_BYTES]; 2];
    assert!(matches!(read_all(framed(frames), &limits), Err(BodyError::Memory(_))));
    assert_eq!(limits.budget.admit(BLOCK_BYTES as u64), Ok(()));
}

#[test]
fn errors_of_the_client_and_lateness_are_told_apart() {
    let torn = StreamBody::new(stream::iter([
        Ok(Frame::data(Bytes::from_static(b"abc"))),
        Err("connection reset"),
    ]));
    let error = read_all(torn, &limits(10, 1 << 30)).unwrap_err();
    assert_eq!(error, BodyError::Read("connection reset".to_owned()));
    let never = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
    assert_eq!(read_all(never, &limits(10, 1 << 30)), Err(BodyError::Timeout));
}
