//! How messages are written in bodies: protobuf's binary encoding or its JSON, whatever the protocol around them.

use bytes::Bytes;
use prost::Message;
use proto::rpc::{Code, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pieces::{self, Pieced};
use crate::runtime::Spawn;

/// How messages are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Codec {
    /// Protobuf's binary encoding.
    Proto,
    /// Protobuf JSON.
    Json,
}

impl Codec {
    /// Reads a message. In binary, `Bytes` fields are views of the body.
    pub(super) fn decode<M: Message + Default + DeserializeOwned>(
        self,
        body: Bytes,
    ) -> Result<M, Failure> {
        match self {
            Self::Proto => M::decode(body).map_err(|error| format!("unmarshal message: {error}")),
            Self::Json => proto::json::from_json(&body),
        }
        .map_err(invalid)
    }

    /// Writes a message that is small whatever is stored; one block.
    pub(super) fn encode<M: Message + Serialize>(self, message: &M) -> Vec<Bytes> {
        vec![match self {
            Self::Proto => message.encode_to_vec().into(),
            Self::Json => proto::json::to_json(message).into(),
        }]
    }

    /// Writes a message that may be large, piece by piece; its blocks in order.
    pub(super) async fn encode_in_pieces(
        self,
        rt: &impl Spawn,
        message: impl Pieced,
    ) -> Vec<Bytes> {
        pieces::write(rt, self, message).await
    }
}

/// The request is wrong.
pub(super) fn invalid(message: String) -> Failure {
    Failure::new(Code::InvalidArgument, "", message)
}

#[cfg(test)]
mod tests {
    use proto::querier::ProfileTypesRequest;

    use super::*;

    #[test]
    fn an_empty_body_is_a_message_in_binary_but_not_in_json() {
        let default = Codec::Proto.decode::<ProfileTypesRequest>(Bytes::new());
        assert_eq!(default, Ok(ProfileTypesRequest::default()));
        let failure = Codec::Json.decode::<ProfileTypesRequest>(Bytes::new()).unwrap_err();
        assert_eq!(
            failure.message,
            "unmarshal message: zero-length payload is not a valid JSON object"
        );
        let failure =
            Codec::Proto.decode::<ProfileTypesRequest>(Bytes::from_static(b"\xff")).unwrap_err();
        assert!(failure.message.starts_with("unmarshal message: "), "{}", failure.message);
    }
}
