//! The limits in force on a shard, and where they come from.
//!
//! A shard holds one immutable snapshot ([`engine::limits::Overrides`]) and asks it per request; a push under way keeps the one
//! it began with. A changed file makes a new snapshot, which every shard is given by message: no lock stands on the data path.

mod file;
mod page;
mod reload;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use engine::limits::{Limits, Overrides};
use engine::tenant::TenantId;
use proto::rpc::MetricSample;

pub use file::{Files, LoadError, Loaded};
pub use page::page;
pub use reload::Reloader;

/// What a shard is told of a reload.
#[derive(Clone, Debug)]
pub struct Update {
    /// What is in force.
    pub overrides: Arc<Overrides>,
    /// Whether the files could be used; if not, the overrides are those from before.
    pub is_successful: bool,
}

impl Update {
    /// Whether it says nothing new. Snapshots are compared by identity.
    fn is_same(&self, other: &Self) -> bool {
        self.is_successful == other.is_successful && Arc::ptr_eq(&self.overrides, &other.overrides)
    }
}

/// The limits in force on one shard; clones share them.
#[derive(Clone, Debug)]
pub struct TenantLimits(Rc<State>);

#[derive(Debug)]
struct State {
    overrides: RefCell<Arc<Overrides>>,
    last_reload_successful: Cell<Option<bool>>,
}

impl TenantLimits {
    /// Begins with these.
    pub fn new(overrides: Arc<Overrides>) -> Self {
        let overrides = RefCell::new(overrides);
        Self(Rc::new(State { overrides, last_reload_successful: Cell::new(None) }))
    }

    /// The limits of a tenant now.
    pub fn of(&self, tenant: &str) -> Arc<Limits> {
        Arc::clone(self.0.overrides.borrow().of(tenant))
    }

    /// The limits of a read of some tenants now.
    pub fn of_read(&self, tenants: &[TenantId]) -> Arc<Limits> {
        self.0.overrides.borrow().of_read(tenants)
    }

    /// The whole snapshot in force now.
    pub fn snapshot(&self) -> Arc<Overrides> {
        Arc::clone(&self.0.overrides.borrow())
    }

    /// Whether they come from files.
    pub fn has_files(&self) -> bool {
        self.0.last_reload_successful.get().is_some()
    }

    /// Takes note of a reload.
    pub fn update(&self, update: Update) {
        *self.0.overrides.borrow_mut() = update.overrides;
        self.0.last_reload_successful.set(Some(update.is_successful));
    }

    /// What `/metrics` tells of reloads; nothing where no file was given.
    pub fn samples(&self) -> Vec<MetricSample> {
        let is_successful = self.0.last_reload_successful.get();
        let sample = |is_successful| MetricSample {
            name: "pyroscope_runtime_config_last_reload_successful",
            labels: Vec::new(),
            value: f64::from(u8::from(is_successful)),
        };
        is_successful.map(sample).into_iter().collect()
    }
}

impl Default for TenantLimits {
    /// The default limits for every tenant.
    fn default() -> Self {
        Limits::default().into()
    }
}

impl From<Limits> for TenantLimits {
    /// The same limits for every tenant.
    fn from(limits: Limits) -> Self {
        Self::new(Arc::new(Overrides::none(limits)))
    }
}
