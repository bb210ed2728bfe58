//! One TCP connection, for drivers ([`Conn`]) and for hyper.
//!
//! glommio's sockets are readiness-based: a read that is dropped loses nothing, and the buffer is never the kernel's.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_util::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use glommio::net::TcpStream;

use super::Uring;
use crate::runtime::Conn;

/// Bytes read at a time. Larger bodies take several reads; between them other tasks get their turn.
const READ_BYTES_MAX: usize = 64 << 10;

/// Most slices handed to one `sendmsg`; the rest follows with the next. hyper queues about as many for one flush.
const SLICES_MAX: usize = 64;

/// Where a shard's sockets are read into before hyper takes the bytes over: hyper lends uninitialised memory, and copying what
/// came is cheaper than zeroing 64 KiB for it.
#[derive(Clone)]
pub(super) struct ReadScratch(Rc<RefCell<Box<[u8]>>>);

impl Default for ReadScratch {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice())))
    }
}

/// A connection of this shard. Small writes go out at once (`TCP_NODELAY`).
pub struct UringStream {
    inner: TcpStream,
    scratch: ReadScratch,
}

impl std::fmt::Debug for UringStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("UringStream").field(&self.inner.as_raw_fd()).finish()
    }
}

impl UringStream {
    pub(super) fn new(inner: TcpStream, runtime: &Uring) -> io::Result<Self> {
        inner.set_nodelay(true)?;
        Ok(Self { inner, scratch: runtime.0.read_scratch.clone() })
    }
}

impl Conn for UringStream {
    async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into).await
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_all(bytes).await
    }
}

impl hyper::rt::Read for UringStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut scratch = this.scratch.0.borrow_mut();
        let len = scratch.len().min(buf.remaining());
        let read = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut scratch[..len]))?;
        buf.put_slice(&scratch[..read]);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for UringStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match send_slices(&this.inner, bufs) {
            // glommio arms the write poll only inside its own write.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let first = bufs.iter().find(|slice| !slice.is_empty());
                let first: &[u8] = first.map_or(&[], |slice| slice);
                Pin::new(&mut this.inner).poll_write(cx, first)
            }
            sent => Poll::Ready(sent),
        }
    }
}

/// One `sendmsg` that does not wait and raises no signal.
fn send_slices(socket: &impl AsRawFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let bufs = &bufs[..bufs.len().min(SLICES_MAX)];
    // SAFETY: `IoSlice` has the layout of `iovec` (guaranteed on Unix) and the slices outlive the call; the kernel only
    // reads through them, so the pointer's mutability is the C type's alone. An all-zero `msghdr` is a valid empty one.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = bufs.as_ptr().cast_mut().cast();
        message.msg_iovlen = bufs.len();
        libc::sendmsg(
            socket.as_raw_fd(),
            &raw const message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
