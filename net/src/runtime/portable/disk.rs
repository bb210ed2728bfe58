//! Files by one thread per shard, which does one operation after another: what the shard asks for waits in a bounded queue.
//!
//! Files are opened for direct I/O where the file system takes it, as under io_uring, and buffered elsewhere. Direct I/O wants
//! aligned memory: bytes pass through a buffer of the thread, which also keeps that copy off the shard.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use engine::route::ShardId;
use futures_channel::oneshot;

use super::Portable;
use crate::runtime::host::{PROBE_FILE, TRANSFER_BYTES_MAX, check_written};
use crate::runtime::{
    AlignedBytes, DISK_ALIGN, Disk, File as RuntimeFile, Open, ReadFile, Space, directory,
};

/// Operations that wait for the thread at most: a shard's log, its recovery and its readers ask for a few at a time.
const QUEUE_OPERATIONS_MAX: usize = 64;

/// How long an operation that finds the queue full waits before it tries again: the device needs about so long for a few of them.
const QUEUE_FULL_RETRY: Duration = Duration::from_millis(1);

type Operation = Box<dyn FnOnce(&mut Buffer) + Send>;

enum Asked {
    Operation(Operation),
    /// The shard has ended.
    End,
}

/// The shard's end of the queue.
pub(super) struct DiskThread {
    queue: SyncSender<Asked>,
    operations: Arc<AtomicUsize>,
    /// Whether files are opened for direct I/O.
    is_direct: bool,
    thread: Option<JoinHandle<()>>,
}

/// Ends the thread.
pub(super) struct EndOfDisk(SyncSender<Asked>, Option<JoinHandle<()>>);

impl DiskThread {
    /// Starts the thread, where the caller may run.
    pub(super) fn start(id: ShardId, data_path: &Path) -> io::Result<Self> {
        let (queue, asked) = sync_channel(QUEUE_OPERATIONS_MAX);
        let is_direct = takes_direct_io(&data_path.join(PROBE_FILE));
        if !is_direct && id.0 == 0 {
            tracing::info!(
                "the data directory's file system takes no direct I/O: files are buffered"
            );
        }
        let thread = std::thread::Builder::new()
            .name(format!("disk-{}", id.0))
            .spawn(move || serve(&asked))?;
        Ok(Self { queue, operations: Arc::default(), is_direct, thread: Some(thread) })
    }

    /// What ends the thread when the shard has ended: files that somebody still holds keep it no longer.
    pub(super) fn end(&mut self) -> EndOfDisk {
        EndOfDisk(self.queue.clone(), self.thread.take())
    }

    /// Operations that wait or run.
    pub(super) fn operations(&self) -> usize {
        self.operations.load(Ordering::Relaxed)
    }

    /// Runs an operation on the thread. It is done even if the caller stops waiting.
    async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Buffer) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = oneshot::channel();
        let counted = Counted::new(&self.operations);
        let mut asked = Asked::Operation(Box::new(move |buffer| {
            let result = operation(buffer);
            drop(counted);
            let _ = done.send(result); // who stopped waiting does not want it
        }));
        loop {
            asked = match self.queue.try_send(asked) {
                Ok(()) => break,
                Err(TrySendError::Full(asked)) => asked,
                Err(TrySendError::Disconnected(_)) => return Err(ended()),
            };
            tokio::time::sleep(QUEUE_FULL_RETRY).await;
        }
        result.await.map_err(|_| ended())?
    }
}

fn ended() -> io::Error {
    io::Error::other("the shard's disk thread has ended")
}

impl EndOfDisk {
    /// Lets the thread do what was asked of it, and waits for its end.
    pub(super) fn wait(self) {
        let Self(queue, thread) = self;
        let _ = queue.send(Asked::End); // a thread that panicked has ended
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// One operation that waits or runs.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(operations: &Arc<AtomicUsize>) -> Self {
        operations.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(operations))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn serve(asked: &Receiver<Asked>) {
    let mut buffer = Buffer::new();
    while let Ok(Asked::Operation(operation)) = asked.recv() {
        operation(&mut buffer);
    }
}

/// Memory of the thread that direct I/O may read and write.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new() -> Self {
        let bytes = vec![0; TRANSFER_BYTES_MAX + DISK_ALIGN];
        let start = bytes.as_ptr().align_offset(DISK_ALIGN);
        Self { bytes, start }
    }

    fn first(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + len]
    }
}

/// Whether the file can be read by direct I/O: some file systems refuse to open it so, some to read it.
fn takes_direct_io(path: &Path) -> bool {
    let read = open_direct(path, Open::Existing)
        .and_then(|file| file.read_at(Buffer::new().first(DISK_ALIGN), 0));
    read.is_ok_and(|read| read == DISK_ALIGN)
}

fn options(how: Open) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(how == Open::New);
    options
}

fn open_direct(path: &Path, how: Open) -> io::Result<File> {
    options(how).custom_flags(libc::O_DIRECT).open(path)
}

/// An open file of the data directory.
#[derive(Debug)]
pub struct PortableFile {
    file: Arc<File>,
    runtime: Portable,
}

impl PortableFile {
    async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&File, &mut Buffer) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = Arc::clone(&self.file);
        self.runtime.0.disk.run(move |buffer| operation(&file, buffer)).await
    }
}

impl RuntimeFile for PortableFile {
    async fn write_at(&self, bytes: AlignedBytes, offset: u64) -> io::Result<()> {
        assert!(offset.is_multiple_of(DISK_ALIGN as u64), "direct I/O writes whole blocks");
        self.run(move |file, buffer| write_at(file, buffer, bytes.as_slice(), offset)).await
    }

    async fn write_durably_at(&self, bytes: AlignedBytes, offset: u64) -> io::Result<AlignedBytes> {
        assert!(offset.is_multiple_of(DISK_ALIGN as u64), "direct I/O writes whole blocks");
        self.run(move |file, buffer| {
            write_at(file, buffer, bytes.as_slice(), offset)?;
            file.sync_data()?;
            Ok(bytes)
        })
        .await
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.run(move |file, buffer| read_at(file, buffer, offset, len)).await
    }

    async fn datasync(&self) -> io::Result<()> {
        self.run(|file, _| file.sync_data()).await
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        self.run(move |file, _| allocate(file, len)).await
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        self.run(move |file, _| file.set_len(len)).await
    }

    async fn len(&self) -> io::Result<u64> {
        self.run(|file, _| Ok(file.metadata()?.len())).await
    }

    async fn close(self) -> io::Result<()> {
        let Self { file, runtime } = self;
        runtime
            .0
            .disk
            .run(move |_| {
                drop(file);
                Ok(())
            })
            .await
    }
}

fn write_at(file: &File, buffer: &mut Buffer, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let piece = &bytes[done..bytes.len().min(done + TRANSFER_BYTES_MAX)];
        let aligned = buffer.first(piece.len());
        aligned.copy_from_slice(piece);
        let written = match file.write_at(aligned, offset + done as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            written => written?,
        };
        check_written(written, piece.len())?;
        done += written;
    }
    Ok(())
}

fn read_at(file: &File, buffer: &mut Buffer, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut skip = (offset % DISK_ALIGN as u64) as usize;
    let mut position = offset - skip as u64;
    // Not `with_capacity(len)`: a caller may ask for more than the file has.
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let rest = len - bytes.len();
        let want = rest.saturating_add(skip).min(TRANSFER_BYTES_MAX).next_multiple_of(DISK_ALIGN);
        let aligned = buffer.first(want);
        let read = match file.read_at(aligned, position) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let end = read.min(skip.saturating_add(rest));
        if skip < end {
            bytes.extend_from_slice(&aligned[skip..end]);
        }
        // What ends inside a block ends with the file.
        if read == 0 || !read.is_multiple_of(DISK_ALIGN) {
            break;
        }
        position += read as u64;
        skip = skip.saturating_sub(read);
    }
    Ok(bytes)
}

fn allocate(file: &File, len: u64) -> io::Result<()> {
    let end = libc::off_t::try_from(len)
        .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "no file is that long"))?;
    loop {
        // SAFETY: the descriptor is open as long as `file` is borrowed; the call touches no memory.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, end) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // No such call on this file system: the length is set, and a full disk is found out by the write.
            Some(libc::EOPNOTSUPP) if file.metadata()?.len() < len => return file.set_len(len),
            Some(libc::EOPNOTSUPP) => return Ok(()),
            _ => return Err(error),
        }
    }
}

/// A file of the data directory that is open to be read, buffered.
#[derive(Debug)]
pub struct PortableReadFile(PortableFile);

impl ReadFile for PortableReadFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.0.run(move |file, _| read_buffered(file, offset, len)).await
    }

    async fn len(&self) -> io::Result<u64> {
        self.0.len().await
    }

    async fn close(self) -> io::Result<()> {
        self.0.close().await
    }
}

fn read_buffered(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    // Not `vec![0; len]`: a caller may ask for more than the file has.
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let done = bytes.len();
        bytes.resize(done + (len - done).min(TRANSFER_BYTES_MAX), 0);
        let read = match file.read_at(&mut bytes[done..], offset + done as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Ok(0) => {
                bytes.truncate(done);
                break;
            }
            read => read?,
        };
        bytes.truncate(done + read);
    }
    Ok(bytes)
}

impl Portable {
    fn resolve(&self, path: &str) -> PathBuf {
        directory::resolve(&self.0.data_path, path)
    }

    /// Runs an operation that needs no file.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.0.disk.run(move |_| operation()).await
    }
}

impl Disk for Portable {
    type File = PortableFile;
    type ReadFile = PortableReadFile;

    async fn open_to_read(&self, path: &str) -> io::Result<PortableReadFile> {
        let path = self.resolve(path);
        let file = Arc::new(self.blocking(move || File::open(path)).await?);
        Ok(PortableReadFile(PortableFile { file, runtime: self.clone() }))
    }

    async fn open(&self, path: &str, how: Open) -> io::Result<PortableFile> {
        let path = self.resolve(path);
        let is_direct = self.0.disk.is_direct;
        let open =
            move || if is_direct { open_direct(&path, how) } else { options(how).open(path) };
        let file = Arc::new(self.blocking(open).await?);
        Ok(PortableFile { file, runtime: self.clone() })
    }

    async fn create_dir_all(&self, path: &str) -> io::Result<()> {
        let root = self.0.data_path.clone();
        let full = self.resolve(path);
        self.blocking(move || directory::create_durably(&root, &full)).await
    }

    async fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let full = self.resolve(path);
        self.blocking(move || directory::names(&full)).await
    }

    async fn sync_dir(&self, path: &str) -> io::Result<()> {
        let full = self.resolve(path);
        self.blocking(move || File::open(full)?.sync_all()).await
    }

    async fn remove_file(&self, path: &str) -> io::Result<()> {
        let full = self.resolve(path);
        self.blocking(move || std::fs::remove_file(full)).await
    }

    async fn remove_dir(&self, path: &str) -> io::Result<()> {
        let full = self.resolve(path);
        self.blocking(move || std::fs::remove_dir(full)).await
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.resolve(from), self.resolve(to));
        self.blocking(move || std::fs::rename(from, to)).await
    }

    async fn space(&self) -> io::Result<Space> {
        let path = self.0.data_path.clone();
        self.blocking(move || directory::space(&path)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_direct_io_files_read_back_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert!(!takes_direct_io(&path), "what is not there takes nothing");
        let file = options(Open::New).open(&path).unwrap();
        let twice = options(Open::New).open(&path).unwrap_err();
        assert_eq!(twice.kind(), io::ErrorKind::AlreadyExists);
        let mut buffer = Buffer::new();
        allocate(&file, 4 * DISK_ALIGN as u64).unwrap();
        allocate(&file, DISK_ALIGN as u64).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4 * DISK_ALIGN as u64, "it never shrinks");
        let bytes: Vec<u8> =
            (0..2 * TRANSFER_BYTES_MAX + DISK_ALIGN).map(|i| (i >> 9) as u8).collect();
        write_at(&file, &mut buffer, &bytes, DISK_ALIGN as u64).unwrap();
        let front = read_at(&file, &mut buffer, 0, DISK_ALIGN).unwrap();
        assert!(front == vec![0; DISK_ALIGN]);
        for (offset, len) in
            [(0, usize::MAX), (5, 7), (4095, 4098), (TRANSFER_BYTES_MAX - 1, TRANSFER_BYTES_MAX)]
        {
            let read = read_at(&file, &mut buffer, (DISK_ALIGN + offset) as u64, len).unwrap();
            let end = offset.saturating_add(len).min(bytes.len());
            assert!(read == bytes[offset..end], "{len} bytes from {offset}");
        }
    }

    #[test]
    fn memory_for_direct_io_is_aligned() {
        let mut buffer = Buffer::new();
        let all = buffer.first(TRANSFER_BYTES_MAX);
        assert_eq!(all.as_ptr().align_offset(DISK_ALIGN), 0);
    }
}
