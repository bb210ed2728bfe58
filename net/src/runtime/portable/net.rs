//! Sockets. Every shard listens on the same address (`SO_REUSEPORT`); the kernel deals the connections out.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::Portable;
use crate::runtime::socket::listening_socket;
use crate::runtime::{Conn, Listener, Net};

/// Bytes read at a time, as under io_uring. Larger bodies take several reads; between them other tasks get their turn.
const READ_BYTES_MAX: usize = 64 << 10;

/// A listening socket of one shard.
#[derive(Debug)]
pub struct PortableListener {
    listener: TcpListener,
    /// The same socket, for what the kernel has queued and tokio has not looked for yet.
    queued: std::net::TcpListener,
}

impl Listener for PortableListener {
    type Conn = PortableStream;

    async fn accept(&self) -> io::Result<PortableStream> {
        match self.queued.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                PortableStream::new(TcpStream::from_std(stream)?)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                PortableStream::new(self.listener.accept().await?.0)
            }
            Err(error) => Err(error),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Net for Portable {
    type Conn = PortableStream;
    type Listener = PortableListener;

    async fn connect(&self, to: SocketAddr) -> io::Result<PortableStream> {
        PortableStream::new(TcpStream::connect(to).await?)
    }

    fn listen(&self, on: SocketAddr) -> io::Result<PortableListener> {
        let queued = std::net::TcpListener::from(listening_socket(on)?);
        queued.set_nonblocking(true)?;
        let listener = TcpListener::from_std(queued.try_clone()?)?;
        Ok(PortableListener { listener, queued })
    }
}

/// A connection of this shard. Small writes go out at once (`TCP_NODELAY`).
#[derive(Debug)]
pub struct PortableStream(TcpStream);

impl PortableStream {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().0)
    }
}

impl Conn for PortableStream {
    async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut into = ReadBuf::new(into);
        poll_fn(|cx| Pin::new(&mut self.0).poll_read(cx, &mut into)).await?;
        Ok(into.filled().len())
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| Pin::new(&mut self.0).poll_write(cx, bytes)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

impl hyper::rt::Read for PortableStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let len = buf.remaining().min(READ_BYTES_MAX);
        // SAFETY: tokio's buffer takes uninitialised memory and only ever initialises it; nothing is made uninitialised.
        let mut into = ReadBuf::uninit(unsafe { &mut buf.as_mut()[..len] });
        ready!(self.stream().poll_read(cx, &mut into))?;
        let read = into.filled().len();
        // SAFETY: tokio has initialised and filled so many bytes.
        unsafe { buf.advance(read) };
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for PortableStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }
}
