//! The runtime of one shard behind five small traits: clock, random source, tasks, disk, network.
//!
//! `!Send` and statically dispatched: a handle belongs to one shard, clones are cheap. Backends: `uring` (glommio, one pinned
//! executor a core) and `sim` (one thread, virtual time, seeded faults). Same drivers, same engine on both. What runtimes on a real
//! machine share is in [`host`], [`cpu_plan`], [`polls`].
//! Not here: messages between shards ([`crate::mesh`], the same on every backend), HTTP (`http`, generic over the stream).

pub mod cpu_plan;
mod directory;
pub mod host;
pub mod polls;
pub mod portable;
pub mod probe;
pub mod sim;
mod socket;
pub mod uring;
pub mod watchdog;

use std::future::Future;
use std::io;
use std::time::Duration;

/// Time of one shard.
pub trait Clock {
    /// Monotonic nanoseconds since an arbitrary origin.
    fn now_ns(&self) -> u64;
    /// Wall clock, Unix milliseconds; may jump.
    fn unix_ms(&self) -> i64;
    /// Completes after at least `duration` of monotonic time.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;
}

/// The only source of randomness.
pub trait Rand {
    /// The next word.
    fn next_u64(&self) -> u64;
}

/// Scheduling classes, in order of precedence: ingest goes before query, query before cuts and compaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// Messages between shards, connections, the log, timers: short polls only.
    Rpc,
    /// Decoding and storing pushes.
    Ingest,
    /// Reads.
    Query,
    /// Recovery, zeroing of WAL segments, cuts.
    Background,
}

impl Class {
    /// All classes, in order of precedence.
    pub const ALL: [Self; 4] = [Self::Rpc, Self::Ingest, Self::Query, Self::Background];

    /// Name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rpc => "rpc",
            Self::Ingest => "ingest",
            Self::Query => "query",
            Self::Background => "background",
        }
    }
}

/// Tasks of one shard.
pub trait Spawn {
    /// Enqueues a task; it is not polled inside the call. It ends with its future or with the shard.
    fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static);
    /// Gives other tasks a turn if this one has run long enough; a long pass calls it every so many samples.
    fn yield_if_needed(&self) -> impl Future<Output = ()>;
}

/// One open file. Dropping a future does not undo a write that was begun.
#[expect(clippy::len_without_is_empty, reason = "a WAL segment is never empty and nobody asks")]
pub trait File: 'static {
    /// Writes all of `bytes` at `offset`. Both are multiples of [`DISK_ALIGN`].
    fn write_at(&self, bytes: AlignedBytes, offset: u64) -> impl Future<Output = io::Result<()>>;
    /// Writes as [`Self::write_at`] does; the bytes are durable when it completes. No more than that is promised: what was written before
    /// may still wait for [`Self::datasync`]. An error is as final as one of that. The bytes come back, for their memory.
    fn write_durably_at(
        &self,
        bytes: AlignedBytes,
        offset: u64,
    ) -> impl Future<Output = io::Result<AlignedBytes>>;
    /// Reads up to `len` bytes at `offset`; shorter only at the end of the file.
    fn read_at(&self, offset: u64, len: usize) -> impl Future<Output = io::Result<Vec<u8>>>;
    /// Makes what was written durable. An error is final: what was written since the last success may be gone.
    fn datasync(&self) -> impl Future<Output = io::Result<()>>;
    /// Reserves space for the first `len` bytes and makes the file that long; the bytes read as zero.
    fn allocate(&self, len: u64) -> impl Future<Output = io::Result<()>>;
    /// Cuts the file to `len` bytes (durable after `datasync`).
    fn truncate(&self, len: u64) -> impl Future<Output = io::Result<()>>;
    /// Length in bytes.
    fn len(&self) -> impl Future<Output = io::Result<u64>>;
    /// Closes; without it the file is closed when dropped.
    fn close(self) -> impl Future<Output = io::Result<()>>;
}

/// One file that is open to be read, through the page cache. Whoever has it open goes on reading what it held, also when it is removed.
#[expect(clippy::len_without_is_empty, reason = "a block's files are never empty and nobody asks")]
pub trait ReadFile: 'static {
    /// Reads up to `len` bytes at `offset`; shorter only at the end of the file.
    fn read_at(&self, offset: u64, len: usize) -> impl Future<Output = io::Result<Vec<u8>>>;
    /// Length in bytes.
    fn len(&self) -> impl Future<Output = io::Result<u64>>;
    /// Closes; without it the file is closed when dropped.
    fn close(self) -> impl Future<Output = io::Result<()>>;
}

/// Offsets, lengths and addresses of writes are multiples of this (direct I/O).
pub const DISK_ALIGN: usize = 4096;

/// Bytes whose length is a multiple of [`DISK_ALIGN`]. A backend that needs aligned memory copies them into its own buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlignedBytes(Vec<u8>);

impl AlignedBytes {
    /// Pads with zeros up to the next multiple.
    pub fn padded(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(DISK_ALIGN), 0);
        Self(bytes)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Gives the buffer back for reuse.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Open {
    /// Existing, read and write.
    Existing,
    /// New; it is an error if it exists.
    New,
}

/// The files below the data directory; paths are relative to it, `/`-separated.
pub trait Disk {
    /// An open file.
    type File: File;
    /// A file that is open to be read.
    type ReadFile: ReadFile;
    /// Opens an existing file to be read through the page cache: what is read again and again and does not change.
    fn open_to_read(&self, path: &str) -> impl Future<Output = io::Result<Self::ReadFile>>;
    /// Opens a file for direct I/O.
    fn open(&self, path: &str, how: Open) -> impl Future<Output = io::Result<Self::File>>;
    /// Makes a directory and its parents, durable.
    fn create_dir_all(&self, path: &str) -> impl Future<Output = io::Result<()>>;
    /// Names in a directory, sorted; an absent directory has none.
    fn list(&self, path: &str) -> impl Future<Output = io::Result<Vec<String>>>;
    /// Makes the directory's entries durable.
    fn sync_dir(&self, path: &str) -> impl Future<Output = io::Result<()>>;
    /// Removes a file.
    fn remove_file(&self, path: &str) -> impl Future<Output = io::Result<()>>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &str) -> impl Future<Output = io::Result<()>>;
    /// Renames; durable after `sync_dir` of both parents.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = io::Result<()>>;
    /// Room of the file system that the data directory lies on.
    fn space(&self) -> impl Future<Output = io::Result<Space>>;
}

/// Room of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write; what is kept back for root is not among them.
    pub free_bytes: u64,
    /// Bytes of all of it.
    pub total_bytes: u64,
}

/// One connection.
pub trait Conn: 'static {
    /// Reads at least one byte; 0 at the end.
    fn read(&mut self, into: &mut [u8]) -> impl Future<Output = io::Result<usize>>;
    /// Writes all.
    fn write_all(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>>;
}

/// A listening socket.
pub trait Listener: 'static {
    /// A connection.
    type Conn: Conn;
    /// The next connection. Kept by one long-lived task: a dropped `accept` may lose a connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Conn>>;
    /// The bound address.
    fn local_addr(&self) -> io::Result<std::net::SocketAddr>;
}

/// The network.
pub trait Net {
    /// A connection.
    type Conn: Conn;
    /// A listening socket.
    type Listener: Listener<Conn = Self::Conn>;
    /// Connects.
    fn connect(&self, to: std::net::SocketAddr) -> impl Future<Output = io::Result<Self::Conn>>;
    /// Listens; several shards of a process may listen on one address (`SO_REUSEPORT`).
    fn listen(&self, on: std::net::SocketAddr) -> io::Result<Self::Listener>;
}

/// Everything a driver may use.
pub trait Runtime: Clock + Rand + Spawn + Disk + Net + Clone + 'static {}
impl<R: Clock + Rand + Spawn + Disk + Net + Clone + 'static> Runtime for R {}
