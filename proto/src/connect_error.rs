//! Error codes on the wire: Connect's names, HTTP statuses and JSON body, gRPC's numbers.
//!
//! Two tables of statuses exist, because Pyroscope's plain routes map codes with a helper of their own that differs from the
//! Connect library's table for two codes. Which text an error has is decided where it arises, not here.

use serde::Serialize;

use crate::rpc::{Code, Failure};

impl Code {
    /// Every code.
    pub const ALL: [Self; 16] = [
        Self::Canceled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The name in error bodies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Unknown => "unknown",
            Self::InvalidArgument => "invalid_argument",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::PermissionDenied => "permission_denied",
            Self::ResourceExhausted => "resource_exhausted",
            Self::FailedPrecondition => "failed_precondition",
            Self::Aborted => "aborted",
            Self::OutOfRange => "out_of_range",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::DataLoss => "data_loss",
            Self::Unauthenticated => "unauthenticated",
        }
    }

    /// `grpc-status`; 0, which no failure has, is success.
    pub const fn grpc_status(self) -> u16 {
        match self {
            Self::Canceled => 1,
            Self::Unknown => 2,
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::Aborted => 10,
            Self::OutOfRange => 11,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::DataLoss => 15,
            Self::Unauthenticated => 16,
        }
    }

    /// HTTP status of a Connect unary reply.
    pub const fn connect_http_status(self) -> u16 {
        match self {
            Self::Canceled => 499,
            Self::Unknown | Self::Internal | Self::DataLoss => 500,
            Self::InvalidArgument | Self::FailedPrecondition | Self::OutOfRange => 400,
            Self::DeadlineExceeded => 504,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::PermissionDenied => 403,
            Self::ResourceExhausted => 429,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::Unauthenticated => 401,
        }
    }

    /// HTTP status of a plain route (`/ingest`, `/pyroscope/render`, …) that fails with this code.
    pub const fn plain_http_status(self) -> u16 {
        match self {
            Self::FailedPrecondition => 412,
            Self::Unimplemented => 404,
            other => other.connect_http_status(),
        }
    }

    /// The code a plain route's body names when the route itself decided the status.
    pub const fn from_plain_http_status(status: u16) -> Self {
        match status {
            400 | 413 => Self::InvalidArgument,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            412 => Self::FailedPrecondition,
            429 | 431 => Self::ResourceExhausted,
            499 => Self::Canceled,
            502 | 503 => Self::Unavailable,
            504 => Self::DeadlineExceeded,
            _ => Self::Unknown,
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

/// `{"code":"…","message":"…"}`, the body of a failed Connect unary call and of a failed plain route.
pub fn to_json(code: Code, message: &str) -> Vec<u8> {
    serde_json::to_vec(&Body { code: code.as_str(), message })
        .expect("two strings are always written")
}

impl Failure {
    /// The body of a reply that tells this failure.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self.code, &self.message)
    }

    /// The same with a message of at most [`FAILURE_MESSAGE_BYTES_MAX`] bytes or so. A message may quote what a client sent, and
    /// that may be as long as a body.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        let bytes = self.message.len();
        if bytes > FAILURE_MESSAGE_BYTES_MAX {
            let end = self.message.floor_char_boundary(FAILURE_MESSAGE_BYTES_MAX);
            self.message = format!("{}… ({bytes} bytes in all)", &self.message[..end]);
        }
        self
    }
}

/// Bytes of a failure's message that are kept: a label's name and value of the greatest default length (1 and 2 kB), quoted
/// twice, and some other labels.
pub const FAILURE_MESSAGE_BYTES_MAX: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_message_that_quotes_a_whole_body_is_cut_between_characters() {
        let failure = |message| Failure::new(Code::Internal, "", message);
        let short = failure("é".repeat(FAILURE_MESSAGE_BYTES_MAX / 2));
        assert_eq!(short.clone().shortened(), short);
        let long = failure(format!("a{}", "é".repeat(1 << 20))).shortened().message;
        assert!(long.starts_with("aéé") && long.ends_with("é… (2097153 bytes in all)"));
        assert!(long.len() < FAILURE_MESSAGE_BYTES_MAX + 40);
    }

    #[test]
    fn names_and_codes_are_one_to_one() {
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(names.contains("canceled"), "Connect spells it with one l");
    }

    #[test]
    fn grpc_numbers_the_codes_in_their_order() {
        let numbers: Vec<u16> = Code::ALL.iter().map(|code| code.grpc_status()).collect();
        assert_eq!(numbers, (1..=16).collect::<Vec<u16>>());
    }

    #[test]
    fn plain_routes_differ_from_connect_in_two_codes() {
        let differing: Vec<_> = Code::ALL
            .into_iter()
            .filter(|code| code.connect_http_status() != code.plain_http_status())
            .collect();
        assert_eq!(differing, [Code::FailedPrecondition, Code::Unimplemented]);
    }

    #[test]
    fn a_status_a_plain_route_answers_leads_back_to_a_code_of_that_status() {
        for status in [400, 401, 403, 404, 412, 429, 499, 503, 504] {
            assert_eq!(Code::from_plain_http_status(status).plain_http_status(), status);
        }
        for status in [408, 409, 422, 500] {
            assert_eq!(Code::from_plain_http_status(status), Code::Unknown);
        }
        assert_eq!(Code::from_plain_http_status(413), Code::InvalidArgument);
    }

    #[test]
    fn the_body_is_connects() {
        assert_eq!(
            to_json(Code::Unauthenticated, "no \"org\" id"),
            br#"{"code":"unauthenticated","message":"no \"org\" id"}"#
        );
        assert_eq!(to_json(Code::Unknown, ""), br#"{"code":"unknown"}"#);
    }
}
