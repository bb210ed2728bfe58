//! Tenants whose rate was just used up, so that what cannot pass is refused on its head.
//!
//! A profile that was refused will find its tokens after a wait that the bucket knows. Until then another as long finds none
//! either: a push that is at least as long as the shortest refused profile is not worth reading. That is a guess on bytes as
//! received (a push of the same length may be smaller when inflated), so it ends with the wait; and a push that does not tell its
//! length is read. Not here: the buckets (`component::rates`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use engine::limits::Limits;
use engine::tenant::TenantId;

/// Tenants kept; those above it have their pushes read before they are refused. An entry is about 100 bytes.
const TENANTS_MAX: usize = 1024;

/// What one shard was told of spent rates.
#[derive(Debug, Default)]
pub(super) struct SpentRates {
    of_tenant: RefCell<BTreeMap<TenantId, Spent>>,
}

/// The shortest profile that was refused.
#[derive(Clone, Copy, Debug)]
struct Spent {
    received_bytes: u64,
    until_ns: u64,
    /// The limit that refused it, MB a second and MB; a changed one knows nothing of it.
    rate_and_burst_mb: (f64, f64),
}

impl Spent {
    fn holds(&self, limits: &Limits, now_ns: u64) -> bool {
        now_ns < self.until_ns && self.rate_and_burst_mb == rate_and_burst_mb(limits)
    }
}

fn rate_and_burst_mb(limits: &Limits) -> (f64, f64) {
    (limits.ingestion_rate_mb, limits.ingestion_burst_size_mb)
}

impl SpentRates {
    /// A profile of so many bytes as received was refused; its tokens will be there after `wait`.
    pub(super) fn note(
        &self,
        tenant: &TenantId,
        limits: &Limits,
        received_bytes: u64,
        wait: Duration,
        now_ns: u64,
    ) {
        let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let spent = Spent {
            received_bytes,
            until_ns: now_ns.saturating_add(wait_ns),
            rate_and_burst_mb: rate_and_burst_mb(limits),
        };
        let mut of_tenant = self.of_tenant.borrow_mut();
        if let Some(known) = of_tenant.get_mut(tenant) {
            if !known.holds(limits, now_ns) || received_bytes <= known.received_bytes {
                *known = spent;
            }
            return;
        }
        if of_tenant.len() >= TENANTS_MAX {
            of_tenant.retain(|_, known| now_ns < known.until_ns);
        }
        if of_tenant.len() < TENANTS_MAX {
            of_tenant.insert(tenant.clone(), spent);
        }
    }

    /// How long a push of so many bytes would find no tokens; `None`: it may find some.
    pub(super) fn wait(
        &self,
        tenant: &TenantId,
        limits: &Limits,
        claimed_bytes: u64,
        now_ns: u64,
    ) -> Option<Duration> {
        let of_tenant = self.of_tenant.borrow();
        let known = of_tenant.get(tenant)?;
        let refused = known.holds(limits, now_ns) && claimed_bytes >= known.received_bytes;
        refused.then(|| Duration::from_nanos(known.until_ns - now_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    #[test]
    fn what_is_as_long_as_the_shortest_refused_waits_as_long_as_that() {
        let (spent, limits, shop) = (SpentRates::default(), Limits::default(), tenant("shop"));
        let wait = |bytes, now_ns| spent.wait(&shop, &limits, bytes, now_ns);
        assert_eq!(wait(1 << 30, 0), None);
        spent.note(&shop, &limits, 1000, Duration::from_nanos(500), 0);
        spent.note(&shop, &limits, 5000, Duration::from_nanos(900), 0);
        assert_eq!(wait(999, 0), None);
        assert_eq!(wait(1000, 100), Some(Duration::from_nanos(400)));
        assert_eq!(wait(5000, 500), None, "shorter ones have tokens, and it may be made of them");
        assert_eq!(spent.wait(&tenant("other"), &limits, 5000, 0), None);
        spent.note(&shop, &limits, 5000, Duration::from_nanos(900), 600);
        assert_eq!(wait(5000, 600), Some(Duration::from_nanos(900)), "what is over is forgotten");
        let raised = Limits { ingestion_rate_mb: 99.0, ..limits.clone() };
        assert_eq!(spent.wait(&shop, &raised, 5000, 600), None, "the new rate is not spent");
    }

    #[test]
    fn the_table_is_bounded_and_what_is_over_makes_room() {
        let (spent, limits) = (SpentRates::default(), Limits::default());
        let note = |name: String, now_ns| {
            spent.note(&tenant(&name), &limits, 1, Duration::from_nanos(10), now_ns);
        };
        for number in 0..2 * TENANTS_MAX {
            note(format!("tenant-{number}"), 0);
        }
        assert_eq!(spent.of_tenant.borrow().len(), TENANTS_MAX);
        note("late".to_owned(), 10);
        assert_eq!(spent.of_tenant.borrow().len(), 1);
        assert!(spent.wait(&tenant("late"), &limits, 1, 10).is_some());
    }
}
