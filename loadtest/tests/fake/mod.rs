//! A server that does what a test tells it: keeps what it is sent, or loses, doubles and changes it, refuses and hangs up.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use loadtest::client::Address;
use loadtest::workload::number_of_leaf;
use prost::Message;
use proto::pprof::Profile;
use proto::push::PushRequest;

/// What is done with a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Kept and acknowledged.
    Keep,
    /// Answered with a status, not kept.
    Refuse(u16),
    /// Not kept, the connection closed.
    HangUp,
}

/// A profile that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) profile: Profile,
}

/// Everything that came.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Numbers by the leaves of pushes, as they came.
    pub(crate) numbers: Vec<u64>,
    pub(crate) tenants: BTreeSet<String>,
    pub(crate) kept: Vec<Kept>,
}

/// Serves until the test ends, under the prefix `/base`. Push `number` has the fate `fate(number)`.
pub(crate) fn serve(
    fate: impl Fn(u64) -> Fate + Send + Sync + 'static,
) -> (Address, Arc<Mutex<State>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    let state = Arc::new(Mutex::new(State::default()));
    let (shared, fate) = (Arc::clone(&state), Arc::new(fate));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (shared, fate) = (Arc::clone(&shared), Arc::clone(&fate));
            std::thread::spawn(move || {
                let stream = stream.unwrap();
                while serve_one(&stream, &shared, &*fate).is_some() {}
            });
        }
    });
    (Address::parse(&url).unwrap(), state)
}

fn serve_one(
    mut stream: &TcpStream,
    state: &Mutex<State>,
    fate: &dyn Fn(u64) -> Fate,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    let mut body = vec![0; header("content-length").map_or(0, |len| len.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let path = head[0].split(' ').nth(1).unwrap().strip_prefix("/base").unwrap();
    let (status, answer) = match path {
        "/push.v1.PusherService/Push" => {
            let mut state = state.lock().unwrap();
            state.tenants.extend(header("x-scope-orgid").map(str::to_owned));
            (push(&mut state, &body, fate)?, Vec::new())
        }
        _ => (404, Vec::new()),
    };
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", answer.len()).unwrap();
    stream.write_all(&answer).unwrap();
    Some(())
}

fn push(state: &mut State, body: &[u8], fate: &dyn Fn(u64) -> Fate) -> Option<u16> {
    let request = PushRequest::decode(body).unwrap();
    let series = &request.series[0];
    let labels = series.labels.iter().map(|pair| (pair.name.clone(), pair.value.clone())).collect();
    let mut plain = Vec::new();
    let gzip = series.samples[0].raw_profile.as_ref();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut plain).unwrap();
    let profile = Profile::decode(plain.as_slice()).unwrap();
    let number = profile.string_table.iter().find_map(|name| number_of_leaf(name)).unwrap();
    state.numbers.push(number);
    let kept = Kept { labels, profile };
    match fate(number) {
        Fate::Keep => state.kept.push(kept),
        Fate::Refuse(status) => return Some(status),
        Fate::HangUp => return None,
    }
    Some(200)
}
