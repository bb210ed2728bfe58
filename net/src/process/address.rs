//! Where the HTTP server listens: found out once, before the shards share it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use crate::config::HttpConfig;

/// How long an address that is in use is tried again. The kernel takes a killed process's rings apart after the process is
/// gone, and a pending `accept` of theirs keeps its listener alive until then: some tens of milliseconds, more on a busy machine.
const IN_USE_PATIENCE: Duration = Duration::from_secs(5);

/// Between two tries.
const IN_USE_RETRY: Duration = Duration::from_millis(20);

/// The address all shards listen on. A port of 0 is replaced by a free one.
///
/// The address is bound for a moment, without `SO_REUSEPORT`: a shard's own socket would silently share the port with
/// another process, and this finds that process out. Names are resolved here, where blocking is allowed.
pub(super) fn listen_address(config: &HttpConfig) -> io::Result<SocketAddr> {
    let port = config.listen_port;
    let mut candidates = if config.listen_address.is_empty() {
        // IPv6's wildcard takes IPv4 as well; where there is no IPv6, IPv4's does.
        vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
    } else {
        let host = config.listen_address.trim_start_matches('[').trim_end_matches(']');
        (host, port).to_socket_addrs()?.collect::<Vec<SocketAddr>>()
    }
    .into_iter();
    let mut last_error = io::Error::other("the name has no address");
    loop {
        let Some(candidate) = candidates.next() else { return Err(last_error) };
        match bind_patiently(candidate) {
            Ok(listener) => return listener.local_addr(),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last_error = error,
        }
    }
}

fn bind_patiently(address: SocketAddr) -> io::Result<TcpListener> {
    let given_up = Instant::now() + IN_USE_PATIENCE;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < given_up => {
                std::thread::sleep(IN_USE_RETRY);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn at(address: &str, port: u16) -> io::Result<SocketAddr> {
        let http = Config::default().http;
        listen_address(&HttpConfig {
            listen_address: address.to_owned(),
            listen_port: port,
            ..http
        })
    }

    #[test]
    fn port_zero_becomes_a_free_port() {
        for address in ["", "127.0.0.1", "localhost"] {
            assert_ne!(at(address, 0).unwrap().port(), 0, "{address}");
        }
    }

    #[test]
    fn a_port_that_another_listener_has_is_refused() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = other.local_addr().unwrap().port();
        assert_eq!(at("127.0.0.1", port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
