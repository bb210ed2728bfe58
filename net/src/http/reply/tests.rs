use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::route::ShardId;
use futures_executor::block_on;
use http_body_util::BodyExt;

use super::*;
use crate::budget::Budget;
use crate::http::connect;
use crate::http::turns::Turns;

fn accepting(value: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
    headers
}

#[test]
fn gzip_is_accepted_by_name_or_star_and_not_with_quality_zero() {
    for yes in ["gzip", "GZIP", "deflate, gzip", "br;q=1.0, gzip;q=0.2", "*", "gzip; q=1"] {
        assert!(accepts_gzip(&accepting(yes)), "{yes}");
    }
    for no in ["", "identity", "br", "gzip;q=0", "gzip; q=0.0", "x-gzip"] {
        assert!(!accepts_gzip(&accepting(no)), "{no}");
    }
    assert!(!accepts_gzip(&HeaderMap::new()));
}

#[test]
fn a_body_of_blocks_has_an_exact_length_and_comes_in_order() {
    let blocks = vec![Bytes::from_static(b"one "), Bytes::new(), Bytes::from_static(b"two")];
    let body = ReplyBody::of_blocks(blocks, Vec::new());
    assert_eq!(body.size_hint().exact(), Some(7));
    assert_eq!(block_on(body.collect()).unwrap().to_bytes(), "one two");
    assert!(ReplyBody::default().is_end_stream());
}

#[test]
fn an_uncompressed_reply_goes_out_when_there_is_no_room_to_compress() {
    let budget = Budget::new(0, 1).of_shard(ShardId(0));
    let reply = full(StatusCode::OK, "text/plain", vec![b'x'; 5000].into());
    let reply = block_on(compressed(&Turns::default(), &budget, &accepting("gzip"), reply));
    assert!(!reply.headers().contains_key(CONTENT_ENCODING));
    assert_eq!(reply.body().size_hint().exact(), Some(5000));
}

#[test]
fn retrying_is_suggested_where_it_helps() {
    for (code, retried) in [
        (Code::ResourceExhausted, true),
        (Code::Unavailable, true),
        (Code::InvalidArgument, false),
        (Code::Internal, false),
    ] {
        let failure = Failure::new(code, "", "no");
        for reply in [connect::failure(&failure), plain_failure(&failure.clone().into())] {
            assert_eq!(reply.headers().contains_key(RETRY_AFTER), retried, "{code:?}");
        }
    }
}

#[test]
fn the_time_to_retry_is_told_in_whole_seconds_and_never_too_early() {
    for (wait_ms, seconds) in [(0, "1"), (1000, "1"), (1001, "2"), (59_999, "60"), (1 << 40, "600")]
    {
        let retry = Retry::After(Duration::from_millis(wait_ms));
        let failure = Failure::new(Code::ResourceExhausted, "", "no").with_retry(retry);
        for reply in [connect::failure(&failure), plain_failure(&failure.clone().into())] {
            assert_eq!(reply.headers()[RETRY_AFTER], seconds, "{wait_ms} ms");
        }
    }
}

#[test]
fn what_can_never_pass_is_not_to_be_retried() {
    let message = "request body too large".to_owned();
    let reason = BODY_TOO_LARGE_REASON;
    let failure = Failure::new(Code::ResourceExhausted, reason, message).with_retry(Retry::Never);
    assert!(!connect::failure(&failure).headers().contains_key(RETRY_AFTER));
}

/// Large answers were once out of the accounts while slow clients read them, for two minutes each.
#[test]
fn a_reply_is_accounted_until_its_last_block_is_sent() {
    let budget = Budget::new(1 << 20, 1).of_shard(ShardId(0));
    let in_use = || budget.budget().accounted_bytes();
    for accepted in ["identity", "gzip"] {
        let reply = full(StatusCode::OK, "text/plain", vec![b'x'; 5000].into());
        let reply = block_on(compressed(&Turns::default(), &budget, &accepting(accepted), reply));
        let mut body = reply.into_body();
        let block = block_on(body.frame()).unwrap().unwrap().into_data().unwrap();
        assert!(body.is_end_stream());
        drop(body);
        assert!(in_use() > 0, "hyper has the last block in its queue, {accepted}");
        drop(block);
        assert_eq!(in_use(), 0, "{accepted}");
    }
}

#[test]
fn text_of_a_body_is_that_of_its_bytes_however_they_lie_in_blocks() {
    let bytes: Vec<u8> = (0..3 * TEXT_BLOCK_BYTES + 5).map(|i| (i / 7) as u8).collect();
    for block_bytes in [1000, 1001, 1002, TEXT_BLOCK_BYTES, bytes.len()] {
        let blocks = bytes.chunks(block_bytes).map(Bytes::copy_from_slice).collect();
        let mut body = ReplyBody::of_blocks(blocks, Vec::new());
        body.write_as_text();
        assert!(!body.is_end_stream() && body.size_hint().exact().is_none());
        let text = block_on(body.collect()).unwrap().to_bytes();
        assert!(text == STANDARD.encode(&bytes), "blocks of {block_bytes} bytes");
    }
}

#[test]
fn trailers_come_after_the_last_block() {
    let mut body = ReplyBody::from("x");
    body.set_trailers(accepting("gzip"));
    assert!(!body.is_end_stream() && body.size_hint().exact().is_none());
    let collected = block_on(body.collect()).unwrap();
    assert_eq!(collected.trailers(), Some(&accepting("gzip")));
    assert_eq!(collected.to_bytes(), "x");
}
