//! One HTTP/1.1 connection over a blocking socket: a request, then its answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a socket may be silent. Longer than any answer should take; a run must end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// Bytes of an answer's body that are read: pushes are answered with next to nothing.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `host:port`.
    pub authority: String,
    /// Path in front of every route, without a slash at the end.
    pub prefix: String,
}

impl Address {
    /// Reads `http://host[:port][/prefix]`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest =
            url.strip_prefix("http://").ok_or_else(|| format!("{url}: only http:// is spoken"))?;
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() {
            return Err(format!("{url}: no host"));
        }
        let has_port =
            authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        Ok(Self { authority, prefix })
    }
}

/// A connection that is kept between requests.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    address: Address,
    tenant: Option<String>,
}

impl Connection {
    /// Connects; requests carry `X-Scope-OrgID` when a tenant is given.
    pub fn open(address: &Address, tenant: Option<&str>) -> io::Result<Self> {
        let resolved = address.authority.to_socket_addrs()?.next();
        let resolved = resolved.ok_or_else(|| io::Error::other("the host has no address"))?;
        let stream = TcpStream::connect_timeout(&resolved, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream: BufReader::new(stream),
            address: address.clone(),
            tenant: tenant.map(str::to_owned),
        })
    }

    /// Posts a protobuf message and gives the status. After an error the connection is of no more use.
    pub fn post(&mut self, path: &str, body: &[u8]) -> io::Result<u16> {
        let Address { authority, prefix } = &self.address;
        let tenant = self.tenant.as_ref().map(|tenant| format!("x-scope-orgid: {tenant}\r\n"));
        let request = format!(
            "POST {prefix}{path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/proto\r\n\
             content-length: {}\r\n{}\r\n",
            body.len(),
            tenant.unwrap_or_default()
        );
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.get_mut().write_all(&bytes)?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<u16> {
        let bad =
            |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("answer: {what}"));
        let mut head = (&mut self.stream).take(HEAD_BYTES_MAX);
        let mut line = String::new();
        head.read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection",
            ));
        }
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| bad("no status line"))?;
        let mut body_bytes = None;
        loop {
            line.clear();
            if head.read_line(&mut line)? == 0 {
                return Err(bad("the head does not end"));
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                body_bytes = value.trim().parse().ok();
            }
        }
        let body_bytes: u64 = body_bytes.ok_or_else(|| bad("no content-length"))?;
        if body_bytes > BODY_BYTES_MAX {
            return Err(bad("the body is too large"));
        }
        let read = io::copy(&mut (&mut self.stream).take(body_bytes), &mut io::sink())?;
        if read == body_bytes { Ok(status) } else { Err(bad("the body is cut short")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_carry_a_prefix() {
        let address = |authority: &str, prefix: &str| {
            Ok(Address { authority: authority.to_owned(), prefix: prefix.to_owned() })
        };
        assert_eq!(Address::parse("http://h:4040"), address("h:4040", ""));
        assert_eq!(Address::parse("http://h:4040/"), address("h:4040", ""));
        assert_eq!(Address::parse("http://h/a/b/"), address("h:80", "/a/b"));
        assert!(Address::parse("https://h").is_err());
        assert!(Address::parse("http:///x").is_err());
    }
}
