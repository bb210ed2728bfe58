//! Made-up profiles that are pushed and then do not change any more: what a run of its own pushes and verifies.

use std::path::Path;

use crate::client::Address;
use crate::journal::{self, Header, Record, Writer};
use crate::push::{Protocol, Push};
use crate::schedule::Schedule;
use crate::verify::{Findings, Verify};
use crate::workload::{Shape, Source, Spec, Times, Workload};

/// Profiles small enough that a batch is asked for several times a second.
const SHAPE: Shape = Shape { samples: 50, depth: 20, new_share: 0.2 };

/// What was pushed, and what became of it.
#[derive(Debug)]
pub struct Batch {
    tenant: Option<String>,
    workload: Workload,
    records: Vec<Record>,
}

/// Who pushes how much to where.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The server.
    pub address: &'a Address,
    /// Value of `X-Scope-OrgID`.
    pub tenant: Option<&'a str>,
    /// Number of the first service.
    pub first_service: u64,
    /// Services.
    pub services: u64,
    /// Pods of each.
    pub pods: u64,
    /// Seed of what is made up.
    pub seed: u64,
    /// Connections.
    pub connections_count: usize,
    /// When each push starts.
    pub schedule: Schedule,
}

impl Batch {
    /// Pushes; `path` is where the journal is written.
    pub fn push(order: Order<'_>, path: &Path) -> Result<Self, String> {
        let Order { address, tenant, first_service, services, pods, seed, .. } = order;
        let (source, times) = (Source::Generated(SHAPE), Times::Sending);
        let workload = Workload::new(Spec { source, services, first_service, pods, seed, times })?;
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let writer = Writer::create(path, &Header::new(&workload, tenant)).map_err(failed)?;
        let tenant = tenant.map(str::to_owned);
        let push = Push {
            address: address.clone(),
            tenant: tenant.clone(),
            protocol: Protocol::Connect,
            connections_count: order.connections_count,
            workload: &workload,
            first_number: 0,
            schedule: order.schedule,
            progress: false,
        };
        push.run(Some(writer)).map_err(failed)?;
        let (_, records) = journal::read(path)?;
        Ok(Self { tenant, workload, records })
    }

    /// Asks a server what it holds of it.
    pub fn verify(&self, address: &Address, threads_count: usize) -> Result<Findings, String> {
        let verify = Verify {
            address: address.clone(),
            tenant: self.tenant.clone(),
            workload: &self.workload,
            records: self.records.clone(),
            threads_count,
        };
        verify.run()
    }
}
