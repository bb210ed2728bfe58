//! Reading a push: the one message whose size clients choose freely.
//!
//! A push of 256 MiB that is nothing but empty series would decode to 36 times its size. So the parts of a message are counted
//! first, which allocates nothing and gives others a turn, and only a push of at most [`ITEMS_MAX`] parts is decoded: piece by
//! piece, with turns in between. Decoding the binary form copies no profile.
//!
//! What stays in one poll: one series, however many samples it has. In binary that is 13 ms for 2^18 empty samples, which
//! nobody sends; in JSON it is 3 ms a MB, because profiles are base64 there. (SDKs and collectors send the binary form.)

mod json_series;

use std::ops::Range;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use proto::push::PushRequest;
use proto::rpc::Failure;

use self::json_series::SeriesScan;
use super::codec::{Codec, invalid};
use crate::runtime::Spawn;

/// Series, samples, labels and annotations of one push. With 30 labels that is 8000 series; they take 20 MB at most.
const ITEMS_MAX: usize = 1 << 18;

/// Parts counted or decoded between turns for others: 0.2 ms.
const STEP_ITEMS: usize = 1 << 12;

/// Bytes of JSON looked at between turns for others: 0.15 ms.
const STEP_JSON_BYTES: usize = 128 << 10;

/// JSON bodies up to this size are decoded as they are: less than 1 ms.
const JSON_WHOLE_BYTES_MAX: usize = 256 << 10;

/// Reads the message of a push.
pub(super) async fn decode(
    rt: &impl Spawn,
    codec: Codec,
    body: Bytes,
) -> Result<PushRequest, Failure> {
    match codec {
        Codec::Proto => decode_proto(rt, body).await,
        Codec::Json => decode_json(rt, body).await,
    }
}

async fn decode_proto(rt: &impl Spawn, body: Bytes) -> Result<PushRequest, Failure> {
    let mut request = PushRequest::default();
    let pieces = pieces(rt, &body).await?;
    for piece in pieces {
        // Messages of one type, one after another, are the message that has the series of all.
        let merged = request.merge(body.slice(piece));
        merged.map_err(|error| invalid(format!("unmarshal message: {error}")))?;
        rt.yield_if_needed().await;
    }
    Ok(request)
}

/// Cuts the message between its fields, at about [`STEP_ITEMS`] parts each. Where the bytes stop being a message the last piece
/// begins, and decoding it says what is wrong.
async fn pieces(rt: &impl Spawn, body: &[u8]) -> Result<Vec<Range<usize>>, Failure> {
    let mut pieces = Vec::new();
    let mut items_count = 0;
    let mut piece_start = 0;
    let mut piece_items = 0;
    let mut rest = body;
    while let Some(mut series) = next_field(&mut rest) {
        piece_items += 1;
        let mut items_at_turn = piece_items + STEP_ITEMS;
        while next_field(&mut series).is_some() {
            piece_items += 1;
            if piece_items == items_at_turn {
                items_at_turn += STEP_ITEMS;
                rt.yield_if_needed().await;
                check_count(items_count + piece_items)?;
            }
        }
        if piece_items >= STEP_ITEMS {
            items_count += piece_items;
            check_count(items_count)?;
            let end = body.len() - rest.len();
            pieces.push(piece_start..end);
            (piece_start, piece_items) = (end, 0);
            rt.yield_if_needed().await;
        }
    }
    check_count(items_count + piece_items)?;
    pieces.push(piece_start..body.len());
    Ok(pieces)
}

fn check_count(items_count: usize) -> Result<(), Failure> {
    if items_count <= ITEMS_MAX {
        return Ok(());
    }
    Err(invalid(format!("push has more than {ITEMS_MAX} series, samples and labels")))
}

/// Takes one field off the front; its content if it is length-delimited, else nothing.
fn next_field<'a>(message: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut rest = *message;
    let (_, wire_type) = decode_key(&mut rest).ok()?;
    let len = match wire_type {
        WireType::Varint => decode_varint(&mut rest).ok().map(|_| 0)?,
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
        // Groups were never part of these messages, and cutting inside one would change it: the decoder takes it from here.
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    *message = rest;
    Some(if wire_type == WireType::LengthDelimited { content } else { &[] })
}

async fn decode_json(rt: &impl Spawn, body: Bytes) -> Result<PushRequest, Failure> {
    let mut scan = SeriesScan::default();
    for piece in body.chunks(STEP_JSON_BYTES) {
        scan.step(piece);
        check_count(scan.objects_count())?;
        rt.yield_if_needed().await;
    }
    let whole = || Codec::Json.decode(body.clone());
    if body.len() <= JSON_WHOLE_BYTES_MAX {
        return whole();
    }
    let Some(found) = scan.finish() else { return whole() };
    let (before, after) = (&body[..found.array.start], &body[found.array.end..]);
    let without_series = [before, b"[]", after].concat();
    let mut request: PushRequest = Codec::Json.decode(without_series.into())?;
    for series in found.elements {
        request.series.push(proto::json::from_json(&body[series]).map_err(invalid)?);
        rt.yield_if_needed().await;
    }
    Ok(request)
}

#[cfg(test)]
mod tests;
