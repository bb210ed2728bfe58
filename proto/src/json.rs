//! Protobuf JSON as Connect speaks it, and only here.
//!
//! Reading takes lowerCamel and original field names, 64-bit integers as numbers or strings, enums by name or number, bytes in
//! standard or URL base64 with or without padding; unknown fields are skipped, `null` is the same as absent. Writing gives
//! lowerCamel names, 64-bit integers as strings, and leaves default values out.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bodies up to this size are read a second time without their `null`s when the first reading fails. Clients write
/// `"field": null` in hand-made queries, never in pushes; a tree of values costs several times the body.
const NULLS_BODY_BYTES_MAX: usize = 1 << 20;

/// Reads a message; the error is the text a client sees.
pub fn from_json<M: DeserializeOwned>(body: &[u8]) -> Result<M, String> {
    if body.is_empty() {
        return Err("unmarshal message: zero-length payload is not a valid JSON object".to_owned());
    }
    serde_json::from_slice(body)
        .or_else(|error| without_nulls(body).ok_or(error))
        .map_err(|error| format!("unmarshal message: {error}"))
}

/// Writes a message.
pub fn to_json<M: Serialize>(message: &M) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages have string keys and no failing parts")
}

/// Reads a message as if its `null` fields were absent. Generated code takes `null` for optional fields only, protobuf JSON
/// for all.
fn without_nulls<M: DeserializeOwned>(body: &[u8]) -> Option<M> {
    if body.len() > NULLS_BODY_BYTES_MAX || !body.windows(4).any(|w| w == b"null") {
        return None;
    }
    let mut value = serde_json::from_slice(body).ok()?;
    let serde_json::Value::Object(_) = value else { return None };
    drop_nulls(&mut value);
    serde_json::from_value(value).ok()
}

/// Recursion is bounded by the depth limit of the parser.
fn drop_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
