//! Files by direct I/O, and buffered those that are only read. What changes directories goes to the executor's blocking thread: io_uring has no such operations here.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use glommio::executor;
use glommio::io::{BufferedFile, DmaFile, OpenOptions};

use super::Uring;
use crate::runtime::directory;
use crate::runtime::host::{PROBE_FILE, TRANSFER_BYTES_MAX, check_written};
use crate::runtime::{AlignedBytes, DISK_ALIGN, Disk, File, Open, ReadFile, Space};

/// Makes glommio find out about polled I/O on a file that has something to read. The answer is kept per thread and device.
pub(super) async fn settle_polled_io(data_path: &Path) -> io::Result<()> {
    let path = data_path.join(PROBE_FILE);
    let file = DmaFile::open(&path).await?;
    let read = file.read_at_aligned(0, DISK_ALIGN).await?;
    if read.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is empty: it must hold a block to read", path.display()),
        ));
    }
    drop(read);
    file.close().await?;
    Ok(())
}

/// An open file of the data directory.
#[derive(Debug)]
pub struct UringFile {
    file: DmaFile,
    /// The same file, whose writes are durable when they complete; `None` where it could not be opened so. Made by the first durable
    /// write: what is written before, a segment's zeros, would wait for the device each time.
    durable: OnceCell<Option<DmaFile>>,
}

impl UringFile {
    fn new(file: DmaFile) -> Self {
        Self { file, durable: OnceCell::new() }
    }

    async fn durable(&self) -> Option<&DmaFile> {
        if self.durable.get().is_none() {
            // By its descriptor, since it may have been renamed. glommio has no flags of single writes.
            let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(libc::O_DSYNC);
            let opened = options.dma_open(path).await.ok();
            let _ = self.durable.set(opened); // two first writes at once: one of theirs will do
        }
        self.durable.get().and_then(Option::as_ref)
    }
}

/// Writes all of `bytes`, in pieces of [`TRANSFER_BYTES_MAX`].
async fn write_all(file: &DmaFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    assert!(offset.is_multiple_of(DISK_ALIGN as u64), "direct I/O writes whole blocks");
    let mut done = 0;
    while done < bytes.len() {
        let piece = &bytes[done..bytes.len().min(done + TRANSFER_BYTES_MAX)];
        let mut buffer = file.alloc_dma_buffer(piece.len());
        buffer.as_bytes_mut().copy_from_slice(piece);
        let written = file.write_at(buffer, offset + done as u64).await?;
        check_written(written, piece.len())?;
        done += written;
    }
    Ok(())
}

impl File for UringFile {
    async fn write_at(&self, bytes: AlignedBytes, offset: u64) -> io::Result<()> {
        write_all(&self.file, bytes.as_slice(), offset).await
    }

    /// What fits one transfer is one submission; of more, each piece would wait for the device, so it is synced once at the end.
    async fn write_durably_at(&self, bytes: AlignedBytes, offset: u64) -> io::Result<AlignedBytes> {
        if bytes.as_slice().len() <= TRANSFER_BYTES_MAX
            && let Some(durable) = self.durable().await
        {
            write_all(durable, bytes.as_slice(), offset).await?;
        } else {
            write_all(&self.file, bytes.as_slice(), offset).await?;
            self.datasync().await?;
        }
        Ok(bytes)
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        // Aligned reads only: glommio's unaligned one counts the bytes before `offset` in, and at a file's end returns as
        // many bytes too many, of whatever its buffer held.
        let mut position = self.file.align_down(offset);
        let mut skip = (offset - position) as usize;
        // Not `with_capacity(len)`: a caller may ask for more than the file has.
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let want = (len - bytes.len() + skip).next_multiple_of(DISK_ALIGN);
            let want = want.min(TRANSFER_BYTES_MAX);
            let read = self.file.read_at_aligned(position, want).await?;
            let end = read.len().min(skip + len - bytes.len());
            if skip < end {
                bytes.extend_from_slice(&read[skip..end]);
            }
            // What ends inside a block ends with the file.
            if read.is_empty() || !read.len().is_multiple_of(DISK_ALIGN) {
                break;
            }
            position += read.len() as u64;
            skip = skip.saturating_sub(read.len());
        }
        Ok(bytes)
    }

    async fn datasync(&self) -> io::Result<()> {
        Ok(self.file.fdatasync().await?)
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        Ok(self.file.pre_allocate(len, false).await?)
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        Ok(self.file.truncate(len).await?)
    }

    async fn len(&self) -> io::Result<u64> {
        length(&self.file)
    }

    async fn close(self) -> io::Result<()> {
        let Self { file, durable } = self;
        if let Some(durable) = durable.into_inner().flatten() {
            durable.close().await?;
        }
        Ok(file.close().await?)
    }
}

/// A file of the data directory that is open to be read.
#[derive(Debug)]
pub struct UringReadFile(BufferedFile);

impl ReadFile for UringReadFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        // Not `with_capacity(len)`: a caller may ask for more than the file has.
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let want = (len - bytes.len()).min(TRANSFER_BYTES_MAX);
            let read = self.0.read_at(offset + bytes.len() as u64, want).await?;
            if read.is_empty() {
                break;
            }
            bytes.extend_from_slice(&read);
        }
        Ok(bytes)
    }

    async fn len(&self) -> io::Result<u64> {
        length(&self.0)
    }

    async fn close(self) -> io::Result<()> {
        Ok(self.0.close().await?)
    }
}

/// The length of an open file. glommio's `file_size` asks by the path it was opened with, which a rename makes wrong.
fn length(file: &impl AsRawFd) -> io::Result<u64> {
    // SAFETY: the descriptor is open as long as `file` is.
    let fd = unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) };
    Ok(std::fs::File::from(fd.try_clone_to_owned()?).metadata()?.len())
}

impl Uring {
    fn resolve(&self, path: &str) -> PathBuf {
        directory::resolve(&self.0.data_path, path)
    }

    /// Runs what blocks on the executor's blocking thread.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        executor().spawn_blocking(operation).await
    }
}

impl Disk for Uring {
    type File = UringFile;
    type ReadFile = UringReadFile;

    async fn open_to_read(&self, path: &str) -> io::Result<UringReadFile> {
        let path = self.resolve(path);
        Ok(UringReadFile(OpenOptions::new().read(true).buffered_open(&path).await?))
    }

    async fn open(&self, path: &str, how: Open) -> io::Result<UringFile> {
        let path = self.resolve(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if how == Open::New {
            options.create_new(true);
        }
        match options.dma_open(&path).await {
            Ok(file) => Ok(UringFile::new(file)),
            Err(error) => Err(error.into()),
        }
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
        self.blocking(move || std::fs::File::open(full)?.sync_all()).await
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
