//! What a push says of its profiles that failed: a bounded text, whatever the push was made of.

use std::collections::BTreeMap;
use std::ops::Range;

use proto::rpc::{Code, Failure, Retry};

/// Failures told in full, those of the first profiles; a person reads no more, and a push has up to 100,000.
const TOLD_MAX: usize = 10;

/// The failures of one push, by the place of the profile in it.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: usize,
    told: BTreeMap<usize, String>,
    worst: Option<(Code, &'static str, Retry)>,
}

impl Failures {
    /// One profile failed.
    pub(super) fn add(&mut self, profile: usize, failure: Failure) {
        self.add_all(profile..profile + 1, failure);
    }

    /// Profiles failed alike.
    pub(super) fn add_all(&mut self, profiles: Range<usize>, failure: Failure) {
        let Failure { code, reason, message, retry } = failure.shortened();
        self.count += profiles.len();
        match &mut self.worst {
            Some((worst, ..)) if urgency(*worst) > urgency(code) => {}
            // What could pass only later sets the time for all.
            Some((worst, _, longest)) if *worst == code => *longest = retry.max(*longest),
            Some((worst, ..)) if urgency(*worst) == urgency(code) => {}
            worst => *worst = Some((code, reason, retry)),
        }
        for profile in profiles.take(TOLD_MAX) {
            self.told.insert(profile, message.clone());
        }
        while self.told.len() > TOLD_MAX {
            self.told.pop_last();
        }
    }

    /// One failure as it is; several as `N errors: a; b`, with the code of the one whose retry makes most sense.
    pub(super) fn outcome(self) -> Result<(), Failure> {
        let Some((code, reason, retry)) = self.worst else { return Ok(()) };
        let more = self.count - self.told.len();
        let mut texts: Vec<String> = self.told.into_values().collect();
        if more > 0 {
            texts.push(format!("and {more} more"));
        }
        let mut message = texts.join("; ");
        if self.count > 1 {
            message = format!("{} errors: {message}", self.count);
        }
        Err(Failure::new(code, reason, message).with_retry(retry))
    }
}

/// A client drops what is invalid and retries what is unavailable: with both at hand it should retry.
fn urgency(code: Code) -> u8 {
    match code {
        Code::Unavailable => 3,
        Code::ResourceExhausted => 2,
        Code::InvalidArgument => 0,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn failure(code: Code, message: &str) -> Failure {
        Failure::new(code, "some", message.to_owned())
    }

    #[test]
    fn several_failures_are_told_in_order_and_the_retryable_one_gives_the_code() {
        assert_eq!(Failures::default().outcome(), Ok(()));
        let invalid = failure(Code::InvalidArgument, "empty profile");
        let mut failures = Failures::default();
        failures.add(7, invalid.clone());
        assert_eq!(failures.outcome(), Err(invalid.clone()));
        let mut failures = Failures::default();
        failures.add(1, failure(Code::ResourceExhausted, "slow down"));
        failures.add(0, invalid);
        let both = failures.outcome().unwrap_err();
        assert_eq!(
            (both.code, both.message.as_str()),
            (Code::ResourceExhausted, "2 errors: empty profile; slow down")
        );
    }

    #[test]
    fn several_that_wait_are_retried_when_the_last_of_them_can_pass() {
        let after = |seconds| Retry::After(Duration::from_secs(seconds));
        let mut failures = Failures::default();
        for (profile, retry) in
            [after(2), Retry::Never, after(7), Retry::Soon].into_iter().enumerate()
        {
            failures.add(profile, failure(Code::ResourceExhausted, "slow").with_retry(retry));
        }
        failures.add(4, failure(Code::InvalidArgument, "bad").with_retry(after(9)));
        assert_eq!(failures.outcome().unwrap_err().retry, after(7));
    }

    /// 100,000 failures of 650 kB each were once kept to be joined.
    #[test]
    fn the_text_is_bounded_however_many_fail_and_however_much_each_says() {
        let mut failures = Failures::default();
        for profile in (0..1000).rev() {
            failures.add(profile, failure(Code::InvalidArgument, &format!("{profile} is bad")));
        }
        failures.add_all(1000..100_000, failure(Code::InvalidArgument, &"long ".repeat(100_000)));
        let text = failures.outcome().unwrap_err().message;
        assert_eq!(
            text,
            "100000 errors: 0 is bad; 1 is bad; 2 is bad; 3 is bad; 4 is bad; 5 is bad; 6 is bad; 7 is bad; \
             8 is bad; 9 is bad; and 99990 more"
        );
        let mut failures = Failures::default();
        failures.add_all(0..100_000, failure(Code::InvalidArgument, &"long ".repeat(100_000)));
        assert!(failures.outcome().unwrap_err().message.len() < 100_000);
    }
}
