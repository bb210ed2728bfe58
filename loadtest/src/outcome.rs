//! What became of a push, and what that says about whether it was stored.

use std::fmt;
use std::str::FromStr;

/// What a text of a server in answer 503 holds when a record was taken and its sync failed: it may be stored or not.
const SEALED: &str = "sealed";

/// What became of a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Answered 200: it is stored.
    Accepted,
    /// Answered with a status that says it was not stored.
    Refused(u16),
    /// Answered with a status that leaves it open.
    Failed(u16),
    /// Sent, at least in part, and not answered.
    Unanswered,
    /// Nothing was sent: there was no connection.
    Unsent,
}

/// How often a push may be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// Exactly once.
    Once,
    /// Once or not at all.
    AtMostOnce,
    /// Not at all.
    Never,
}

impl Outcome {
    /// Reads an answer.
    pub fn of_answer(status: u16, text: &str) -> Self {
        match status {
            200 => Self::Accepted,
            // The client or the server ran out of patience, not of room.
            408 | 499 => Self::Failed(status),
            400..=498 => Self::Refused(status),
            503 if !text.contains(SEALED) => Self::Refused(status),
            _ => Self::Failed(status),
        }
    }

    /// What it promises.
    pub fn promise(self) -> Promise {
        match self {
            Self::Accepted => Promise::Once,
            Self::Failed(_) | Self::Unanswered => Promise::AtMostOnce,
            Self::Refused(_) | Self::Unsent => Promise::Never,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Refused(status) => write!(f, "refused:{status}"),
            Self::Failed(status) => write!(f, "failed:{status}"),
            Self::Unanswered => f.write_str("unanswered"),
            Self::Unsent => f.write_str("unsent"),
        }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, status) = text.split_once(':').unwrap_or((text, ""));
        let status = || status.parse().map_err(|_| format!("{text}: no status"));
        Ok(match word {
            "accepted" => Self::Accepted,
            "refused" => Self::Refused(status()?),
            "failed" => Self::Failed(status()?),
            "unanswered" => Self::Unanswered,
            "unsent" => Self::Unsent,
            _ => return Err(format!("{text}: no outcome")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_the_push_may_be_stored() {
        for (status, text, promise) in [
            (200, "", Promise::Once),
            (400, "", Promise::Never),
            (408, "", Promise::AtMostOnce),
            (429, "", Promise::Never),
            (499, "", Promise::AtMostOnce),
            (500, "", Promise::AtMostOnce),
            (503, "the log of shard 0 has no room", Promise::Never),
            (503, "the log of shard 0 is sealed after a failure", Promise::AtMostOnce),
            (504, "", Promise::AtMostOnce),
        ] {
            assert_eq!(Outcome::of_answer(status, text).promise(), promise, "{status} {text}");
        }
    }

    #[test]
    fn an_outcome_is_read_as_it_was_written() {
        let outcomes = [
            Outcome::Accepted,
            Outcome::Refused(429),
            Outcome::Failed(500),
            Outcome::Unanswered,
            Outcome::Unsent,
        ];
        for outcome in outcomes {
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
        }
        assert!("refused:x".parse::<Outcome>().is_err() && "lost".parse::<Outcome>().is_err());
    }
}
