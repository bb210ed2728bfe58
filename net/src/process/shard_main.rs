//! One shard's life in production: log and heads, HTTP, recovery beside them, and an orderly end.

use std::error::Error;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use engine::hash::HashSecret;
use engine::head::HeadOptions;
use engine::route::ShardId;
use engine::spread::SpreadOptions;
use futures_channel::oneshot;
use futures_util::future::{Either, FusedFuture as _, join_all, select};
use futures_util::{FutureExt as _, StreamExt as _};
use proto::rpc::{Failure, Reply, Request};
use ulid::Ulid;

use super::{Event, ShardSeed};
use crate::budget::Budget;
use crate::component::distributor::Distributor;
use crate::component::querier::Querier;
use crate::config::{Config, Pages};
use crate::http::{self, Api, Server, Tenancy, serve_connection};
use crate::mesh::Mesh;
use crate::overrides::{TenantLimits, Update};
use crate::readiness::Readiness;
use crate::runtime::host::HostRuntime;
use crate::runtime::{Class, Listener as _};
use crate::shard::{Shard, ShardSettings};
use crate::telemetry::metrics;
use crate::wal::Log;
use crate::wal::recovery::Share;

/// After a failed `accept` (no file descriptors left, mostly) the next try waits so long.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Stands for "no limit" where a timeout of zero was given.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);

/// Runs a shard from its start to its end; `Err` says why it could not go on.
pub(super) async fn shard_main<R: HostRuntime>(rt: R, seed: ShardSeed) -> Result<(), String> {
    let ShardSeed { id, config, peers, inbox, run, listen, budget, readiness, .. } = seed;
    let mesh = Mesh::new(id, peers);
    let shards_count = mesh.shards_count();
    let budget = budget.of_shard(id);
    let log = Log::create(rt.clone(), run.0, id.0, config.wal)
        .await
        .map_err(|error| format!("creating the log: {error}"))?;
    let limits = TenantLimits::new(seed.overrides);
    if !config.runtime_config.files.is_empty() {
        limits.update(Update { overrides: limits.snapshot(), is_successful: true });
    }
    let (updated, mut updates) = (limits.clone(), seed.updates);
    rt.spawn(Class::Rpc, async move {
        while let Some(update) = updates.next().await {
            updated.update(update);
        }
    });
    let (limits_in_force, limits_shown) = (limits.clone(), limits.clone());
    let settings = ShardSettings {
        limits: limits.clone(),
        budget: budget.clone(),
        heads: HeadOptions::default(),
        spread: SpreadOptions::default(),
        origin: origin_of(run, id),
        cuts: config.cuts,
        retention: config.retention,
        pressure: seed.pressure.clone(),
        readiness: readiness.clone(),
    };
    let shard = Shard::start(rt.clone(), mesh.clone(), inbox, settings, log);
    let querier = Rc::new(Querier::new(
        rt.clone(),
        mesh,
        limits,
        HashSecret::from_words(|| rt.next_u64()),
        budget.clone(),
    ));
    if id.0 == 0 {
        let reloaded = limits_in_force;
        shard.add_metrics(Box::new(move || reloaded.samples()));
    }
    let counted = Rc::clone(&querier);
    shard.add_metrics(Box::new(move || counted.samples()));
    let api = ShardApi {
        querier,
        rt: rt.clone(),
        shard: Rc::clone(&shard),
        limits: limits_shown,
        readiness: readiness.clone(),
        memory: budget.budget().clone(),
        started_unix_ms: run.timestamp_ms(),
    };
    let server = Server::new(rt.clone(), api, http_config(&config, shards_count), budget);
    add_metrics(&shard, &server, &rt, &seed.pulse);

    let listener = rt.listen(listen).map_err(|error| format!("listening on {listen}: {error}"))?;
    let (stop_accepting, stopped) = oneshot::channel();
    rt.spawn(Class::Rpc, accept(rt.clone(), listener, Rc::clone(&server), stopped));
    if id.0 == 0 {
        tracing::info!(address = %listen, "listening");
    }
    let (recovered_in, recovered) = oneshot::channel();
    let recovering = Rc::clone(&shard);
    let repair = config.wal_repair;
    rt.spawn(Class::Background, async move {
        let share = Share::new(id, shards_count, run.0).repairing(repair);
        let _ = recovered_in.send(recovering.recover(share).await); // nobody waits once the shard drains
    });
    let mut drain = seed.drain;
    if let Either::Left((Ok(Err(error)), _)) = select(recovered, &mut drain).await {
        return Err(chain(&error));
    }
    if !drain.is_terminated() {
        let _ = drain.await; // a main thread that is gone is a reason to stop, too
    }
    readiness.set_draining();
    drop(stop_accepting);
    server.drain();
    let (mut cut, mut close) = (seed.cut, seed.close);
    let asked = match select(pin!(server.drained()), select(&mut cut, &mut close)).await {
        Either::Left(((), asked)) => {
            let _ = seed.events.send(Event::Drained(id));
            asked.await
        }
        Either::Right((asked, _)) => asked,
    };
    if let Either::Left((Ok(()), close)) = asked {
        select(pin!(shard.cut_last()), close).await;
        let _ = seed.events.send(Event::HasCut(id));
    }
    if !close.is_terminated() {
        let _ = close.await;
    }
    shard.close().await.map_err(|failure| failure.message)
}

/// A ULID for each shard of a run: the run's own, and its successors.
fn origin_of(run: Ulid, shard: ShardId) -> u128 {
    run.0.wrapping_add(u128::from(shard.0))
}

/// Takes connections until told to stop, and then those that the kernel has queued already.
async fn accept<R: HostRuntime>(
    rt: R,
    listener: R::Listener,
    server: Rc<Server<R, ShardApi<R>>>,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        let accepted = match select(pin!(listener.accept()), &mut stopped).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(_) => break,
        };
        match accepted {
            Ok(stream) => rt.spawn(Class::Rpc, serve_connection(stream, Rc::clone(&server))),
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken; trying again");
                rt.sleep(ACCEPT_RETRY).await;
            }
        }
        // While the kernel has connections queued, `accept` never waits.
        rt.yield_if_needed().await;
    }
    while let Some(Ok(stream)) = listener.accept().now_or_never() {
        rt.spawn(Class::Rpc, serve_connection(stream, Rc::clone(&server)));
        rt.yield_if_needed().await;
    }
}

fn add_metrics<R: HostRuntime>(
    shard: &Rc<Shard<R>>,
    server: &Rc<Server<R, ShardApi<R>>>,
    rt: &R,
    pulse: &crate::runtime::watchdog::Pulse,
) {
    let id = shard.mesh().own().0;
    // Weak: the server holds the shard.
    let server = Rc::downgrade(server);
    let (rt, pulse) = (rt.clone(), pulse.clone());
    shard.add_metrics(Box::new(move || {
        let mut samples = metrics::runtime_samples(&rt, &pulse, id);
        if let Some(server) = server.upgrade() {
            samples.extend(server.counters().samples(server.connections_count()));
        }
        samples
    }));
}

fn http_config(config: &Config, shards_count: u16) -> http::HttpConfig {
    let unless_zero = |timeout: Duration| if timeout.is_zero() { FOR_EVER } else { timeout };
    let defaults = http::HttpConfig::default();
    http::HttpConfig {
        tenancy: if config.multitenancy_enabled { Tenancy::Multi } else { Tenancy::Single },
        read_timeout: unless_zero(config.http.read_timeout),
        idle_timeout: unless_zero(config.http.idle_timeout),
        write_timeout: unless_zero(config.http.write_timeout),
        path_prefix: config.http.path_prefix.trim_end_matches('/').to_owned(),
        connections_max: match config.http.connections_max {
            0 => defaults.connections_max,
            connections => connections.div_ceil(shards_count.into()),
        },
        config_pages: Pages::of(config),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Some texts quote their cause already.
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// What HTTP calls on a shard.
struct ShardApi<R: HostRuntime> {
    rt: R,
    shard: Rc<Shard<R>>,
    querier: Rc<Querier<R>>,
    limits: TenantLimits,
    readiness: Readiness,
    memory: Budget,
    /// When the process started.
    started_unix_ms: u64,
}

impl<R: HostRuntime> Api for ShardApi<R> {
    type Writes = Distributor<R>;
    type Reads = Querier<R>;

    fn writes(&self) -> &Self::Writes {
        self.shard.distributor()
    }

    fn reads(&self) -> &Self::Reads {
        &self.querier
    }

    fn limits(&self) -> &TenantLimits {
        &self.limits
    }

    fn readiness(&self) -> Result<(), String> {
        self.readiness.check()
    }

    async fn flush(&self) -> Result<(), Failure> {
        let mesh = self.shard.mesh();
        let flushed = join_all(mesh.shards().map(|shard| mesh.call(shard, Request::Flush))).await;
        flushed.into_iter().try_for_each(|reply| match reply? {
            Reply::Flush(flushed) => flushed,
            other => unreachable!("a flush is answered as one, not by {other:?}"),
        })
    }

    async fn metrics(&self) -> String {
        let own = metrics::process_samples(&self.memory, R::NAME, self.started_unix_ms);
        metrics::text(&self.rt, self.shard.mesh(), own).await
    }
}
