//! Sockets. Every shard listens on the same address (`SO_REUSEPORT`); the kernel deals the connections out.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};

use glommio::net::{TcpListener, TcpStream};

use super::Uring;
use super::stream::UringStream;
use crate::runtime::socket::listening_socket;
use crate::runtime::{Listener, Net};

/// A listening socket of one shard.
#[derive(Debug)]
pub struct UringListener {
    listener: TcpListener,
    runtime: Uring,
}

impl Listener for UringListener {
    type Conn = UringStream;

    async fn accept(&self) -> io::Result<UringStream> {
        UringStream::new(self.listener.accept().await?, &self.runtime)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }
}

impl Net for Uring {
    type Conn = UringStream;
    type Listener = UringListener;

    async fn connect(&self, to: SocketAddr) -> io::Result<UringStream> {
        // An address, never a name: glommio would resolve a name on the shard.
        UringStream::new(TcpStream::connect(to).await?, self)
    }

    fn listen(&self, on: SocketAddr) -> io::Result<UringListener> {
        let socket = listening_socket(on)?.into_raw_fd();
        // SAFETY: the descriptor is a listening TCP socket and nobody else's any more.
        let listener = unsafe { TcpListener::from_raw_fd(socket) };
        Ok(UringListener { listener, runtime: self.clone() })
    }
}
