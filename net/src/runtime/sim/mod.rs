//! A whole cluster in one thread: virtual time, seeded schedules, seeded faults. Same seed, same trace, bit for bit.
//!
//! A [`World`] holds nodes; a [`Sim`] is the runtime of one shard of one node and implements the traits of
//! [`crate::runtime`], so that what is simulated is what ships. A crash drops every task of a node and applies the crash to
//! its disk; a restart is new tasks over the same disk.
//!
//! Where it stops: HTTP, TLS and threads are not simulated; a shard's classes have no precedence (every order that can happen
//! may happen); a directory is durable when made; damage of synced bytes comes only by [`World::damage`].

mod core;
mod disk;
mod network;
mod random;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use self::core::{Completion, Core};
use super::{
    AlignedBytes, Class, Clock, DISK_ALIGN, Disk, File, Net, Open, Rand, ReadFile, Space, Spawn,
};

pub use self::core::NodeId;
pub use self::disk::DiskFaults;
pub use self::network::{SimConn, SimListener};
pub use self::random::Random;

/// Steps that one call of [`World::complete`] may take before it gives up: a task that never ends is a bug to be seen.
const STEPS_MAX: u64 = 20_000_000;

/// Everything that is simulated under one seed.
#[derive(Clone)]
pub struct World {
    core: Rc<Core>,
    seed: u64,
    _end: Rc<End>,
}

/// Breaks the circle of tasks that hold the core that holds the tasks, with the last handle of the world.
struct End(Rc<Core>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.drop_all();
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World(seed {}, {} ns)", self.seed, self.core.now_ns())
    }
}

impl World {
    /// An empty world; the seed decides everything that happens in it.
    pub fn new(seed: u64) -> Self {
        let core = Rc::new(Core::new(seed));
        Self { _end: Rc::new(End(Rc::clone(&core))), core, seed }
    }

    /// The runtime of one shard. Making the same one again gives the same shard.
    pub fn shard(&self, node: NodeId, shard: u16) -> Sim {
        self.core.disks.borrow_mut().entry(node).or_default();
        Sim { core: Rc::clone(&self.core), node, shard }
    }

    /// Runs one task or fires one event; false when nothing will ever happen again.
    pub fn step(&self) -> bool {
        self.core.step()
    }

    /// Runs for a span of virtual time.
    pub fn run_for(&self, duration: Duration) {
        let end = self.core.now_ns() + duration.as_nanos() as u64;
        while self.core.now_ns() < end {
            match self.core.idle_until() {
                Some(next) if next > end => self.core.advance_to(end),
                _ => {
                    if !self.core.step() {
                        self.core.advance_to(end);
                    }
                }
            }
        }
    }

    /// Runs a future as a task of `shard` until it ends. `None` if it never does: the world stood still, or the step limit
    /// was reached.
    pub fn complete<T: 'static>(
        &self,
        shard: &Sim,
        future: impl Future<Output = T> + 'static,
    ) -> Option<T> {
        let result = Rc::new(std::cell::RefCell::new(None));
        let slot = Rc::clone(&result);
        shard.spawn(Class::Rpc, async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        });
        for _ in 0..STEPS_MAX {
            if let Some(value) = result.take() {
                return Some(value);
            }
            if !self.step() {
                break;
            }
        }
        result.take()
    }

    /// The power of a node fails: its tasks are gone, its disk keeps what was synced and, by the seed, parts of the rest.
    pub fn crash(&self, node: NodeId) {
        self.core.note(u64::MAX - u64::from(node.0));
        self.core.drop_node(node);
        if let Some(disk) = self.core.disks.borrow_mut().get_mut(&node) {
            disk.crash(&self.core.random);
        }
    }

    /// Kills a node's process (`kill -9`): its tasks are gone, what it wrote is not.
    pub fn kill(&self, node: NodeId) {
        self.core.note(u64::MAX / 2 - u64::from(node.0));
        self.core.drop_node(node);
        if let Some(disk) = self.core.disks.borrow_mut().get_mut(&node) {
            disk.kill(&self.core.random);
        }
    }

    /// Changes what may go wrong with a node's disk.
    pub fn set_disk_faults(&self, node: NodeId, faults: DiskFaults) {
        self.core.disks.borrow_mut().entry(node).or_default().faults = faults;
    }

    /// Bytes that a node's files have together.
    pub fn disk_used_bytes(&self, node: NodeId) -> u64 {
        self.core.disks.borrow().get(&node).map_or(0, disk::DiskImage::used_bytes)
    }

    /// Moves a node's wall clock.
    pub fn jump_clock(&self, node: NodeId, by_ms: i64) {
        self.core.note(by_ms.cast_unsigned());
        self.core.jump_clock(node, by_ms);
    }

    /// Cuts two nodes from each other: their connections are reset, new ones time out.
    pub fn cut(&self, a: NodeId, b: NodeId) {
        network::cut(&self.core, a, b);
    }

    /// Undoes [`World::cut`] for new connections.
    pub fn heal(&self, a: NodeId, b: NodeId) {
        network::heal(&self.core, a, b);
    }

    /// Changes a file's bytes behind everyone's back. False if there is no such file.
    pub fn damage(&self, node: NodeId, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.core.disks.borrow_mut().entry(node).or_default().damage(path, change)
    }

    /// Draws from the world's own random stream, for a driver that decides what happens next.
    pub fn random(&self) -> &Random {
        &self.core.random
    }

    /// Virtual nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        self.core.now_ns()
    }

    /// Hash over everything that has happened.
    pub fn trace_hash(&self) -> u64 {
        self.core.trace_hash()
    }
}

/// The runtime of one simulated shard.
#[derive(Clone)]
pub struct Sim {
    core: Rc<Core>,
    node: NodeId,
    shard: u16,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sim(node {}, shard {})", self.node.0, self.shard)
    }
}

/// Duration of one disk operation on an ordinary disk, nanoseconds, least and greatest.
#[derive(Clone, Copy)]
enum Latency {
    Metadata,
    Read,
    Write,
    Sync,
}

impl Latency {
    fn range_ns(self) -> (u64, u64) {
        match self {
            Self::Metadata => (5_000, 50_000),
            Self::Read => (20_000, 120_000),
            Self::Write => (20_000, 300_000),
            Self::Sync => (50_000, 1_000_000),
        }
    }
}

impl Sim {
    /// The shard's node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    fn with_disk<T>(&self, act: impl FnOnce(&mut disk::DiskImage) -> T) -> T {
        let mut disks = self.core.disks.borrow_mut();
        act(disks.get_mut(&self.node).expect("a shard's node has a disk"))
    }

    /// Completes with what `act` returns after a latency. `act` happens even if the future is dropped meanwhile: a request
    /// that was submitted is not undone.
    fn after_latency<T: 'static>(
        &self,
        latency: Latency,
        act: impl FnOnce(&Self) -> T + 'static,
    ) -> Completion<T> {
        let (least, greatest) = latency.range_ns();
        let slowness = self.with_disk(|disk| disk.faults.slowness).max(1);
        let delay = self.core.random.between(least, greatest) * slowness;
        let completion = Completion::new();
        let (slot, shard) = (completion.clone(), self.clone());
        self.core.after(self.node, delay, move |_| slot.complete(act(&shard)));
        completion
    }

    async fn on_disk<T: 'static>(
        &self,
        latency: Latency,
        act: impl FnOnce(&mut disk::DiskImage) -> T + 'static,
    ) -> T {
        self.after_latency(latency, |shard| shard.with_disk(act)).await
    }

    /// As [`Self::on_disk`], for what changes names.
    async fn on_names<T: 'static>(
        &self,
        latency: Latency,
        act: impl FnOnce(&mut disk::DiskImage) -> io::Result<T> + 'static,
    ) -> io::Result<T> {
        let act = |shard: &Self| shard.with_disk(|disk| disk.act_on_names(&shard.core.random, act));
        self.after_latency(latency, act).await
    }
}

impl Clock for Sim {
    fn now_ns(&self) -> u64 {
        self.core.now_ns()
    }

    fn unix_ms(&self) -> i64 {
        self.core.unix_ms(self.node)
    }

    async fn sleep(&self, duration: Duration) {
        let completion = Completion::new();
        let slot = completion.clone();
        self.core.after(self.node, duration.as_nanos() as u64, move |_| slot.complete(()));
        completion.await;
    }
}

impl Rand for Sim {
    fn next_u64(&self) -> u64 {
        self.core.random.word()
    }
}

impl Spawn for Sim {
    fn spawn(&self, _class: Class, task: impl Future<Output = ()> + 'static) {
        self.core.note(self.shard.into());
        self.core.spawn(self.node, task);
    }

    async fn yield_if_needed(&self) {
        if self.core.random.chance(250) {
            let mut yielded = false;
            std::future::poll_fn(|context| {
                if yielded {
                    return Poll::Ready(());
                }
                yielded = true;
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }
}

/// A simulated open file.
#[derive(Debug)]
pub struct SimFile {
    shard: Sim,
    file: u64,
}

fn unaligned(what: &str) -> io::Error {
    let text = format!("{what} is not a multiple of {DISK_ALIGN} bytes");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

impl File for SimFile {
    async fn write_at(&self, bytes: AlignedBytes, offset: u64) -> io::Result<()> {
        let bytes = bytes.into_vec();
        if !offset.is_multiple_of(DISK_ALIGN as u64) || !bytes.len().is_multiple_of(DISK_ALIGN) {
            return Err(unaligned("offset or length of a write"));
        }
        self.shard.core.note(offset);
        self.shard.core.note(bytes.len() as u64);
        let file = self.file;
        let write = self.shard.with_disk(|disk| disk.begin_write(file, offset as usize, bytes));
        let complete = move |shard: &Sim| {
            shard.with_disk(|disk| disk.complete_write(file, write, &shard.core.random))
        };
        self.shard.after_latency(Latency::Write, complete).await
    }

    /// In two steps, and a crash or an error may come between them.
    async fn write_durably_at(&self, bytes: AlignedBytes, offset: u64) -> io::Result<AlignedBytes> {
        self.write_at(bytes.clone(), offset).await?;
        self.datasync().await?;
        Ok(bytes)
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = self.file;
        let read = move |disk: &mut disk::DiskImage| disk.read(file, offset, len);
        Ok(self.shard.on_disk(Latency::Read, read).await)
    }

    async fn datasync(&self) -> io::Result<()> {
        let file = self.file;
        let covered = self.shard.with_disk(|disk| disk.begin_sync(file));
        let complete = move |shard: &Sim| {
            shard.with_disk(|disk| disk.complete_sync(file, covered, &shard.core.random))
        };
        self.shard.after_latency(Latency::Sync, complete).await
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        let file = self.file;
        let grow = move |disk: &mut disk::DiskImage| {
            let len = len.max(disk.file_len(file));
            disk.set_len(file, len as usize)
        };
        self.shard.on_disk(Latency::Metadata, grow).await
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        let file = self.file;
        self.shard.on_disk(Latency::Metadata, move |disk| disk.set_len(file, len as usize)).await
    }

    async fn len(&self) -> io::Result<u64> {
        let file = self.file;
        Ok(self.shard.on_disk(Latency::Metadata, move |disk| disk.file_len(file)).await)
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

/// A simulated file that is open to be read.
#[derive(Debug)]
pub struct SimReadFile(SimFile);

impl ReadFile for SimReadFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.0.read_at(offset, len).await
    }

    async fn len(&self) -> io::Result<u64> {
        self.0.len().await
    }

    async fn close(self) -> io::Result<()> {
        self.0.close().await
    }
}

impl Disk for Sim {
    type File = SimFile;
    type ReadFile = SimReadFile;

    async fn open_to_read(&self, path: &str) -> io::Result<SimReadFile> {
        Ok(SimReadFile(self.open(path, Open::Existing).await?))
    }

    async fn open(&self, path: &str, how: Open) -> io::Result<SimFile> {
        let path = path.to_owned();
        let open = move |disk: &mut disk::DiskImage| disk.open(&path, how == Open::New);
        let file = match how {
            Open::New => self.on_names(Latency::Metadata, open).await?,
            Open::Existing => self.on_disk(Latency::Metadata, open).await?,
        };
        Ok(SimFile { shard: self.clone(), file })
    }

    async fn create_dir_all(&self, path: &str) -> io::Result<()> {
        let path = path.to_owned();
        self.on_disk(Latency::Metadata, move |disk| disk.create_dir_all(&path)).await
    }

    async fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let path = path.to_owned();
        Ok(self.on_disk(Latency::Metadata, move |disk| disk.list(&path)).await)
    }

    async fn sync_dir(&self, path: &str) -> io::Result<()> {
        let path = path.to_owned();
        self.on_names(Latency::Sync, move |disk| disk.sync_dir(&path)).await
    }

    async fn remove_file(&self, path: &str) -> io::Result<()> {
        let path = path.to_owned();
        self.on_names(Latency::Metadata, move |disk| disk.remove_file(&path)).await
    }

    async fn remove_dir(&self, path: &str) -> io::Result<()> {
        let path = path.to_owned();
        self.on_names(Latency::Metadata, move |disk| disk.remove_dir(&path)).await
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.on_names(Latency::Metadata, move |disk| disk.rename(&from, &to)).await
    }

    async fn space(&self) -> io::Result<Space> {
        Ok(self.on_disk(Latency::Metadata, |disk| disk.space()).await)
    }
}

impl Net for Sim {
    type Conn = SimConn;
    type Listener = SimListener;

    async fn connect(&self, to: SocketAddr) -> io::Result<SimConn> {
        self.sleep(Duration::from_micros(self.core.random.between(20, 1_000))).await;
        if let Some(connected) = network::connect(&self.core, self.node, to) {
            return connected;
        }
        self.sleep(Duration::from_nanos(network::CONNECT_TIMEOUT_NS)).await;
        Err(io::Error::from(io::ErrorKind::TimedOut))
    }

    fn listen(&self, on: SocketAddr) -> io::Result<SimListener> {
        Ok(network::listen(&self.core, self.node, on))
    }
}
