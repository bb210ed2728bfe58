//! Listening sockets as every runtime on a real machine wants them.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait for `accept` on one shard; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Binds and listens. Without `SO_REUSEADDR` (glommio's own `bind` leaves it out) a restarted process finds its port taken by connections of its
/// predecessor that the kernel still keeps in `TIME_WAIT`.
pub(super) fn listening_socket(on: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(on), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&on.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}
