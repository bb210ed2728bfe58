//! The limits in force on a shard, and where they come from.
//!
//! A shard holds one immutable snapshot ([`engine::limits::Overrides`]) and asks it per request; a push under way keeps the one
//! it began with. A changed file makes a new snapshot, which every shard is given by message: no lock stands on the data path.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use engine::limits::{Limits, Overrides};
use engine::tenant::TenantId;

/// The limits in force on one shard; clones share them.
#[derive(Clone, Debug)]
pub struct TenantLimits(Rc<RefCell<Arc<Overrides>>>);

impl TenantLimits {
    /// Begins with these.
    pub fn new(overrides: Arc<Overrides>) -> Self {
        Self(Rc::new(RefCell::new(overrides)))
    }

    /// The limits of a tenant now.
    pub fn of(&self, tenant: &str) -> Arc<Limits> {
        Arc::clone(self.0.borrow().of(tenant))
    }

    /// The limits of a read of some tenants now.
    pub fn of_read(&self, tenants: &[TenantId]) -> Arc<Limits> {
        self.0.borrow().of_read(tenants)
    }

    /// The whole snapshot in force now.
    pub fn snapshot(&self) -> Arc<Overrides> {
        Arc::clone(&self.0.borrow())
    }

    /// Puts another snapshot in force.
    pub fn replace(&self, overrides: Arc<Overrides>) {
        *self.0.borrow_mut() = overrides;
    }
}

impl From<Limits> for TenantLimits {
    /// The same limits for every tenant.
    fn from(limits: Limits) -> Self {
        Self::new(Arc::new(Overrides::none(limits)))
    }
}
