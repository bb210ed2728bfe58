//! Reading a push: the one message whose size clients choose freely.
//!
//! A push of 256 MiB that is nothing but empty series would decode to 36 times its size. So the parts of the message are counted
//! first, which allocates nothing and gives others a turn, and only a push of at most [`ITEMS_MAX`] parts is decoded.
//! Decoding the binary form copies no profile. In JSON, profiles are base64 and have to be decoded in the same poll as the rest:
//! about 2 ms a MB, which stays (SDKs and collectors send the binary form; JSON comes from scripts and tests).

use bytes::Bytes;
use prost::encoding::{WireType, decode_key, decode_varint};
use proto::push::PushRequest;
use proto::rpc::Failure;

use super::connect::{Codec, invalid};
use crate::runtime::Spawn;

/// Series, samples, labels and annotations of one push. With 30 labels that is 8000 series; they take 20 MB at most.
const ITEMS_MAX: usize = 1 << 18;

/// Items or tokens counted between turns for others, well under 1 ms.
const STEP_ITEMS: usize = 1 << 12;

/// Bytes of JSON looked at between turns for others, well under 1 ms.
const STEP_JSON_BYTES: usize = 128 << 10;

/// Reads the message of a push.
pub(super) async fn decode(
    rt: &impl Spawn,
    codec: Codec,
    body: Bytes,
) -> Result<PushRequest, Failure> {
    let items_count = match codec {
        Codec::Proto => count_fields(rt, &body).await,
        Codec::Json => count_objects(rt, &body).await,
    };
    if items_count > ITEMS_MAX {
        return Err(invalid(format!("push has more than {ITEMS_MAX} series, samples and labels")));
    }
    codec.decode(body)
}

/// Counts the fields of the message and of its series; stops where the bytes are no message, which decoding then says.
async fn count_fields(rt: &impl Spawn, body: &[u8]) -> usize {
    let mut items_count = 0;
    let mut message = body;
    while let Some(series) = next_field(&mut message) {
        items_count += 1;
        let mut series = series;
        while next_field(&mut series).is_some() {
            items_count += 1;
            if items_count > ITEMS_MAX {
                return items_count;
            }
            if items_count.is_multiple_of(STEP_ITEMS) {
                rt.yield_if_needed().await;
            }
        }
        if items_count.is_multiple_of(STEP_ITEMS) {
            rt.yield_if_needed().await;
        }
        if items_count > ITEMS_MAX {
            return items_count;
        }
    }
    items_count
}

/// Takes one field off the front; its content if it is length-delimited, else nothing.
fn next_field<'a>(message: &mut &'a [u8]) -> Option<&'a [u8]> {
    if message.is_empty() {
        return None;
    }
    let (_, wire_type) = decode_key(message).ok()?;
    let len = match wire_type {
        WireType::Varint => {
            decode_varint(message).ok()?;
            0
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(message).ok()?).ok()?,
        // Groups were never part of these messages; the decoder refuses or skips them.
        WireType::StartGroup | WireType::EndGroup => 0,
    };
    let (content, rest) = message.split_at_checked(len)?;
    *message = rest;
    Some(if wire_type == WireType::LengthDelimited { content } else { &[] })
}

/// Counts the objects of a JSON text, outside strings.
async fn count_objects(rt: &impl Spawn, body: &[u8]) -> usize {
    let mut objects_count = 0;
    let mut in_string = false;
    let mut escaped = false;
    for piece in body.chunks(STEP_JSON_BYTES) {
        for byte in piece {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'{' if !in_string => objects_count += 1,
                _ => {}
            }
        }
        if objects_count > ITEMS_MAX {
            break;
        }
        rt.yield_if_needed().await;
    }
    objects_count
}
