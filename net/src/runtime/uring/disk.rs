//! Files by direct I/O. What changes directories goes to the executor's blocking thread: io_uring has no such operations here.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use glommio::executor;
use glommio::io::{DmaFile, OpenOptions};

use super::Uring;
use crate::runtime::directory;
use crate::runtime::host::{PROBE_FILE, TRANSFER_BYTES_MAX};
use crate::runtime::{AlignedBytes, DISK_ALIGN, Disk, File, Open};

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
pub struct UringFile(DmaFile);

impl File for UringFile {
    async fn write_at(&self, bytes: AlignedBytes, offset: u64) -> io::Result<()> {
        assert!(offset.is_multiple_of(DISK_ALIGN as u64), "direct I/O writes whole blocks");
        let bytes = bytes.as_slice();
        let mut done = 0;
        while done < bytes.len() {
            let piece = &bytes[done..bytes.len().min(done + TRANSFER_BYTES_MAX)];
            let mut buffer = self.0.alloc_dma_buffer(piece.len());
            buffer.as_bytes_mut().copy_from_slice(piece);
            let written = self.0.write_at(buffer, offset + done as u64).await?;
            // A short write ends where space did; what was written of it must be whole blocks to go on from.
            if written == 0 || !written.is_multiple_of(DISK_ALIGN) {
                return Err(io::Error::new(
                    io::ErrorKind::WriteZero,
                    format!("the device took {written} of {} bytes", piece.len()),
                ));
            }
            done += written;
        }
        Ok(())
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        // Aligned reads only: glommio's unaligned one counts the bytes before `offset` in, and at a file's end returns as
        // many bytes too many, of whatever its buffer held.
        let mut position = self.0.align_down(offset);
        let mut skip = (offset - position) as usize;
        // Not `with_capacity(len)`: a caller may ask for more than the file has.
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let want = (len - bytes.len() + skip).next_multiple_of(DISK_ALIGN);
            let want = want.min(TRANSFER_BYTES_MAX);
            let read = self.0.read_at_aligned(position, want).await?;
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
        Ok(self.0.fdatasync().await?)
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        Ok(self.0.pre_allocate(len, false).await?)
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        Ok(self.0.truncate(len).await?)
    }

    async fn len(&self) -> io::Result<u64> {
        // glommio's `file_size` asks by the path it was opened with, which a rename makes wrong.
        // SAFETY: the descriptor is open as long as `self` is.
        let fd = unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) };
        Ok(std::fs::File::from(fd.try_clone_to_owned()?).metadata()?.len())
    }

    async fn close(self) -> io::Result<()> {
        Ok(self.0.close().await?)
    }
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

    async fn open(&self, path: &str, how: Open) -> io::Result<UringFile> {
        let path = self.resolve(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if how == Open::New {
            options.create_new(true);
        }
        match options.dma_open(&path).await {
            Ok(file) => Ok(UringFile(file)),
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
}
