//! A token bucket: a rate with a burst, as Go's `rate.Limiter` counts.

/// Tokens that refill with time. Time comes in as an argument and may stand still, never run backwards (monotonic).
#[derive(Clone, Debug)]
pub struct TokenBucket {
    tokens: f64,
    updated_ns: u64,
}

/// Refill and size of a bucket; both in tokens (bytes, here).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Tokens a second.
    pub per_second: f64,
    /// Most tokens that gather.
    pub burst: f64,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(rate: Rate, now_ns: u64) -> Self {
        Self { tokens: rate.burst, updated_ns: now_ns }
    }

    /// Takes `tokens` if they are there. More than the burst is never there.
    pub fn take(&mut self, tokens: u64, rate: Rate, now_ns: u64) -> bool {
        let enough = self.level(rate, now_ns) >= tokens as f64;
        if enough {
            self.tokens -= tokens as f64;
        }
        enough
    }

    /// How long until `tokens` are there if nobody takes any, ns; `None`: never.
    pub fn wait_ns(&mut self, tokens: u64, rate: Rate, now_ns: u64) -> Option<u64> {
        self.refill(rate, now_ns);
        if tokens as f64 > rate.burst || rate.per_second <= 0.0 {
            return None;
        }
        Some(((tokens as f64 - self.tokens).max(0.0) * 1e9 / rate.per_second).ceil() as u64)
    }

    /// Takes `tokens` whether they are there or not: the debt delays what comes next. For sizes that are known only afterwards.
    pub fn settle(&mut self, tokens: u64, rate: Rate, now_ns: u64) {
        self.refill(rate, now_ns);
        self.tokens -= tokens as f64;
    }

    /// Puts tokens back that were taken and are not needed; what exceeds the burst is lost.
    pub fn put_back(&mut self, tokens: u64, rate: Rate, now_ns: u64) {
        self.refill(rate, now_ns);
        self.tokens = (self.tokens + tokens as f64).min(rate.burst);
    }

    /// Tokens that are there; negative in debt.
    pub fn level(&mut self, rate: Rate, now_ns: u64) -> f64 {
        self.refill(rate, now_ns);
        self.tokens
    }

    /// Whether nothing would be lost by forgetting this bucket.
    pub fn is_full(&mut self, rate: Rate, now_ns: u64) -> bool {
        self.level(rate, now_ns) >= rate.burst
    }

    fn refill(&mut self, rate: Rate, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.updated_ns);
        self.updated_ns = self.updated_ns.max(now_ns);
        self.tokens = (self.tokens + rate.per_second * elapsed_ns as f64 / 1e9).min(rate.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 100.0, burst: 50.0 };

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut bucket = TokenBucket::full(RATE, 0);
        assert!(bucket.take(50, RATE, 0));
        assert!(!bucket.take(1, RATE, 0));
        assert!(bucket.take(10, RATE, 100_000_000), "a tenth of a second brings ten tokens");
        assert!(!bucket.take(51, RATE, u64::MAX), "more than the burst is never there");
    }

    #[test]
    fn what_is_not_there_is_there_after_the_wait() {
        let mut bucket = TokenBucket::full(RATE, 0);
        assert_eq!(bucket.wait_ns(50, RATE, 0), Some(0));
        assert_eq!(bucket.wait_ns(51, RATE, 0), None);
        bucket.settle(80, RATE, 0);
        let wait_ns = bucket.wait_ns(20, RATE, 0).unwrap();
        assert_eq!(wait_ns, 500_000_000);
        assert!(!bucket.take(20, RATE, wait_ns - 1_000_000));
        assert!(bucket.take(20, RATE, wait_ns));
    }

    #[test]
    fn a_debt_delays_what_comes_next() {
        let mut bucket = TokenBucket::full(RATE, 0);
        bucket.settle(150, RATE, 0);
        assert!(!bucket.take(1, RATE, 1_000_000_000));
        assert!(bucket.take(1, RATE, 1_020_000_000));
    }

    #[test]
    fn what_is_put_back_never_exceeds_the_burst() {
        let mut bucket = TokenBucket::full(RATE, 0);
        assert!(bucket.take(30, RATE, 0));
        bucket.put_back(20, RATE, 0);
        assert!(!bucket.take(41, RATE, 0));
        bucket.put_back(20, RATE, 0);
        assert!(bucket.is_full(RATE, 0) && !bucket.take(51, RATE, 0));
    }
}
