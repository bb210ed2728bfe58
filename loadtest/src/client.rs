//! One HTTP/1.1 connection over a blocking socket: a request, then its answer.

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long a socket may be silent. Longer than any answer should take; a run must end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// Bytes of an answer's body: a merged profile of everything fits.
const BODY_BYTES_MAX: u64 = 512 << 20;

/// A connection that rested this long is looked at before it is used: the server may have closed it, or may be dead. What is sent to
/// a dead one is in doubt for ever, and a push in doubt proves little; three system calls in so long a time cost nothing.
const REST: Duration = Duration::from_millis(10);

/// Status of an answer that has no body, and no length.
const NO_CONTENT: u16 = 204;

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

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as a text for people.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }
}

/// A connection that is kept between requests. After an error it is of no more use.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    address: Address,
    tenant: Option<String>,
    used: Instant,
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
            used: Instant::now(),
        })
    }

    /// Whether the server closed the connection while it rested.
    pub fn is_closed(&self) -> bool {
        if self.used.elapsed() < REST {
            return false;
        }
        let stream = self.stream.get_ref();
        let peeked = stream.set_nonblocking(true).and_then(|()| match stream.peek(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            other => other.map(|_| false),
        });
        !(peeked.unwrap_or(false) && stream.set_nonblocking(false).is_ok())
    }

    /// Posts a body given in parts.
    pub fn post(&mut self, path: &str, content_type: &str, parts: &[&[u8]]) -> io::Result<Answer> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let head = self.head(
            "POST",
            path,
            &format!("content-type: {content_type}\r\ncontent-length: {len}\r\n"),
        );
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(parts.len() + 1);
        slices.push(IoSlice::new(head.as_bytes()));
        slices.extend(parts.iter().map(|part| IoSlice::new(part)));
        write_all(self.stream.get_mut(), &mut slices)?;
        self.answer()
    }

    /// Asks for a page.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        let head = self.head("GET", path, "");
        self.stream.get_mut().write_all(head.as_bytes())?;
        self.answer()
    }

    fn head(&self, method: &str, path: &str, fields: &str) -> String {
        let Address { authority, prefix } = &self.address;
        let tenant = self.tenant.as_ref().map(|tenant| format!("x-scope-orgid: {tenant}\r\n"));
        let tenant = tenant.unwrap_or_default();
        format!("{method} {prefix}{path} HTTP/1.1\r\nhost: {authority}\r\n{fields}{tenant}\r\n")
    }

    fn answer(&mut self) -> io::Result<Answer> {
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
        let mut body_bytes = (status == NO_CONTENT).then_some(0);
        let mut is_chunked = false;
        loop {
            line.clear();
            if head.read_line(&mut line)? == 0 {
                return Err(bad("the head does not end"));
            }
            if line.trim_end().is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                body_bytes = value.trim().parse().ok();
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                is_chunked = value.trim().eq_ignore_ascii_case("chunked");
            }
        }
        let mut body = Vec::new();
        if is_chunked {
            while self.chunk(&mut body)? {}
        } else {
            self.part(body_bytes.ok_or_else(|| bad("no length"))?, &mut body)?;
        }
        self.used = Instant::now();
        Ok(Answer { status, body })
    }

    /// Reads a chunk; whether it was not the last.
    fn chunk(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let mut line = String::new();
        (&mut self.stream).take(HEAD_BYTES_MAX).read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| bad("no chunk size"))?;
        self.part(size, body)?;
        line.clear();
        (&mut self.stream).take(HEAD_BYTES_MAX).read_line(&mut line)?;
        // Does not take trailers: no server of this API sends them in HTTP/1.1.
        if line.trim_end().is_empty() { Ok(size > 0) } else { Err(bad("a chunk does not end")) }
    }

    fn part(&mut self, len: u64, body: &mut Vec<u8>) -> io::Result<()> {
        if len > BODY_BYTES_MAX - body.len() as u64 {
            return Err(bad("the body is too large"));
        }
        // Grows with what arrives, not with what was announced.
        let read = (&mut self.stream).take(len).read_to_end(body)? as u64;
        if read == len { Ok(()) } else { Err(bad("the body is cut short")) }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("answer: {what}"))
}

fn write_all(stream: &mut TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0); // leaves out empty ones
    while !slices.is_empty() {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
