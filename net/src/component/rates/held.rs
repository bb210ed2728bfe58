//! Slices that this shard holds of the rates of tenants whose home is another shard.

use std::collections::BTreeMap;
use std::ops::Bound;

use engine::lease::TokenLease;
use proto::rpc::limits::TokenReport;

/// Tenants of whose rate a shard holds a slice, about 150 bytes each; pushes of the others ask each time.
const LEASES_MAX: usize = 10_000;

/// Slices that a sweep looks at before it gives way: some µs.
const SWEPT_AT_ONCE: usize = 64;

/// The slices by tenant.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<String, Slice>);

#[derive(Debug, Default)]
struct Slice {
    lease: TokenLease,
    /// Asks whose answer may bring tokens.
    asks: usize,
    /// Since the last sweep.
    is_used: bool,
}

impl Held {
    /// Takes tokens if so many are held.
    pub(super) fn take(&mut self, tenant: &str, bytes: u64) -> bool {
        let Some(slice) = self.0.get_mut(tenant) else { return false };
        slice.is_used = true;
        slice.lease.take(bytes)
    }

    /// An ask is sent: what it tells of the tokens held so far, which are given back, and whether there is room for a slice.
    pub(super) fn begin_ask(&mut self, tenant: &str) -> (TokenReport, bool) {
        if self.0.len() >= LEASES_MAX && !self.0.contains_key(tenant) {
            return (TokenReport::default(), false);
        }
        let slice = self.0.entry(tenant.to_owned()).or_default();
        slice.asks += 1;
        slice.is_used = true;
        (slice.lease.report(), true)
    }

    /// The ask was not sent.
    pub(super) fn undo_ask(&mut self, tenant: &str, report: TokenReport, takes_lease: bool) {
        if takes_lease {
            self.end_ask(tenant, 0);
            self.undo_recall(tenant, report);
        }
    }

    /// The ask was answered.
    pub(super) fn end_ask(&mut self, tenant: &str, tokens: u64) {
        let slice = self.0.get_mut(tenant).expect("a slice stays while its answer is awaited");
        slice.asks = slice.asks.checked_sub(1).expect("an ask has one answer");
        slice.lease.grant(tokens);
    }

    /// Gives back all tokens of a tenant: what the home shard is to be told.
    pub(super) fn recall(&mut self, tenant: &str) -> TokenReport {
        self.0.get_mut(tenant).map_or_else(TokenReport::default, |slice| slice.lease.report())
    }

    /// The home shard was not told.
    pub(super) fn undo_recall(&mut self, tenant: &str, report: TokenReport) {
        let slice = self.0.get_mut(tenant).expect("it was there a moment ago");
        slice.lease.undone(report);
    }

    /// Forgets a tenant of whom nothing is held or awaited.
    pub(super) fn forget(&mut self, tenant: &str) {
        if let Some(slice) = self.0.remove(tenant) {
            assert!(slice.lease.is_empty() && slice.asks == 0, "tokens are told of, never lost");
        }
    }

    /// Looks at the next slices behind a tenant: those that were not used since the last look, and where to go on.
    pub(super) fn idle_behind(&mut self, tenant: Option<&str>) -> (Vec<String>, Option<String>) {
        let from = tenant.map_or(Bound::Unbounded, Bound::Excluded);
        let mut idle = Vec::new();
        let mut last = None;
        let next = self.0.range_mut::<str, _>((from, Bound::Unbounded)).take(SWEPT_AT_ONCE);
        for (count, (tenant, slice)) in (1..).zip(next) {
            if slice.asks == 0 && !std::mem::take(&mut slice.is_used) {
                idle.push(tenant.clone());
            }
            if count == SWEPT_AT_ONCE {
                last = Some(tenant.clone());
            }
        }
        (idle, last)
    }

    /// Tenants of whom there is a slice, or may come one.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_so_many_tenants_nothing_more_is_lent() {
        let mut held = Held::default();
        for tenant in 0..LEASES_MAX {
            assert_eq!(held.begin_ask(&format!("{tenant:05}")), (TokenReport::default(), true));
        }
        assert_eq!(held.begin_ask("new"), (TokenReport::default(), false));
        held.end_ask("00007", 0);
        held.forget("00007");
        assert!(held.begin_ask("new").1);
    }

    #[test]
    fn a_sweep_looks_at_every_slice_and_finds_those_that_rest() {
        let mut held = Held::default();
        let tenants: Vec<String> = (0..1000).map(|tenant| format!("{tenant:03}")).collect();
        for tenant in &tenants {
            held.begin_ask(tenant);
            held.end_ask(tenant, 10);
        }
        held.begin_ask("500");
        let sweep = |held: &mut Held| {
            let (mut idle, mut last) = held.idle_behind(None);
            while last.is_some() {
                let (more, next) = held.idle_behind(last.as_deref());
                idle.extend(more);
                last = next;
            }
            idle
        };
        assert!(sweep(&mut held).is_empty(), "all are new");
        assert!(held.take("007", 1));
        let rest: Vec<String> =
            tenants.into_iter().filter(|tenant| tenant != "007" && tenant != "500").collect();
        assert_eq!(sweep(&mut held), rest);
    }
}
