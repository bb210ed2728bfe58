//! Why `/ingest` refused a request, in the status codes and texts of Pyroscope.

use proto::rpc::{Code, Failure};

use super::app_name::NameError;
use crate::byte_size;

/// A refusal: the status of the answer and what its JSON body says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", failure.message)]
pub struct IngestError {
    /// HTTP status.
    pub status: u16,
    /// Code, reason for metrics, and text.
    pub failure: Failure,
}

/// Which of Pyroscope's two paths a profile took: they answer refusals differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A pprof: whatever is wrong with it is 422.
    Pprof,
    /// A text format: what the push refuses keeps its own status.
    Text,
}

impl IngestError {
    pub(super) fn bad_name(error: &NameError) -> Self {
        Self::new(400, Code::InvalidArgument, "", format!("name: {error}"))
    }

    /// The body is larger than a tenant may send.
    pub fn body_too_large() -> Self {
        Self::new(
            413,
            Code::InvalidArgument,
            "body_size_limit_exceeded",
            "request body too large: http: request body too large".to_owned(),
        )
    }

    /// The bytes are not what their format says.
    pub(super) fn unreadable(format: &str, what: impl std::fmt::Display) -> Self {
        Self::new(422, Code::Unknown, "", format!("parsing IngestInput-{format} failed {what}"))
    }

    pub(super) fn not_built_yet(format: &str) -> Self {
        Self::unreadable("pprof", format_args!("format {format:?} is not supported yet"))
    }

    /// A line of text that is no stack with a count.
    pub(super) fn bad_text(message: String) -> Self {
        Self::new(422, Code::Unknown, "", message)
    }

    /// A text format's metadata or symbols make no profile.
    pub(super) fn bad_text_push(message: String) -> Self {
        Self::new(400, Code::InvalidArgument, "", message)
    }

    /// What would be pushed is larger than a profile may be.
    pub(super) fn profile_too_large(origin: Origin, limit: usize) -> Self {
        let message = format!(
            "uncompressed profile payload size exceeds limit of {}",
            byte_size::si(limit as u64)
        );
        Self::of_push(origin, Failure::new(Code::InvalidArgument, "profile_size_limit", message))
    }

    /// How `/ingest` answers when the push of what it parsed failed.
    pub fn of_push(origin: Origin, failure: Failure) -> Self {
        let unfit = matches!(failure.code.connect_http_status(), 400 | 404 | 409)
            || failure.code == Code::Unknown;
        let status = match origin {
            Origin::Pprof if unfit => 422,
            _ => failure.code.connect_http_status(),
        };
        if origin == Origin::Text {
            return Self { status, failure };
        }
        // Pyroscope decodes before it pushes, so that unreadable bytes fail in another place than refused ones.
        let stage = match failure.reason {
            "malformed_profile" | "profile_size_limit" | "" => "parsing",
            _ => "pushing",
        };
        let too_large = match failure.reason {
            "profile_size_limit" => "decompressed size exceeds maximum allowed size: ", // Pyroscope's words, with Push's number
            _ => "",
        };
        let message = format!(
            "{stage} IngestInput-pprof failed {}: {too_large}{}",
            failure.code.as_str(),
            failure.message
        );
        let code = if status == 422 { Code::Unknown } else { failure.code };
        let retry = failure.retry;
        Self { status, failure: Failure::new(code, failure.reason, message).with_retry(retry) }
    }

    fn new(status: u16, code: Code, reason: &'static str, message: String) -> Self {
        Self { status, failure: Failure::new(code, reason, message) }
    }
}

#[cfg(test)]
mod tests {
    use proto::rpc::Retry;

    use super::*;

    fn failure(code: Code, reason: &'static str) -> Failure {
        Failure::new(code, reason, "x")
    }

    #[test]
    fn a_refused_pprof_is_422_and_a_refused_text_keeps_its_code() {
        let invalid = failure(Code::InvalidArgument, "samples_limit");
        let pprof = IngestError::of_push(Origin::Pprof, invalid.clone());
        assert_eq!((pprof.status, pprof.failure.code), (422, Code::Unknown));
        assert_eq!(pprof.to_string(), "pushing IngestInput-pprof failed invalid_argument: x");
        let text = IngestError::of_push(Origin::Text, invalid);
        assert_eq!((text.status, text.failure.code), (400, Code::InvalidArgument));
        assert_eq!(text.to_string(), "x");
    }

    #[test]
    fn what_the_client_may_repeat_keeps_its_status_on_both_paths() {
        for origin in [Origin::Pprof, Origin::Text] {
            for (code, status) in [(Code::ResourceExhausted, 429), (Code::Unavailable, 503)] {
                let error = IngestError::of_push(origin, failure(code, "rate_limited"));
                assert_eq!((error.status, error.failure.code), (status, code));
                let never = failure(code, "rate_limited").with_retry(Retry::Never);
                let error = IngestError::of_push(origin, never);
                assert_eq!(error.failure.retry, Retry::Never, "and when it may");
            }
        }
    }

    #[test]
    fn a_pprof_over_its_size_is_refused_in_the_words_clients_know() {
        let error = IngestError::profile_too_large(Origin::Pprof, 1_000_000);
        assert_eq!(error.status, 422);
        assert_eq!(
            error.to_string(),
            "parsing IngestInput-pprof failed invalid_argument: decompressed size exceeds maximum allowed size: \
             uncompressed profile payload size exceeds limit of 1.0 MB"
        );
    }

    #[test]
    fn bytes_that_are_no_pprof_failed_at_parsing() {
        let error = IngestError::of_push(
            Origin::Pprof,
            failure(Code::InvalidArgument, "malformed_profile"),
        );
        assert_eq!(error.to_string(), "parsing IngestInput-pprof failed invalid_argument: x");
    }
}
