//! A server that does what a test tells it: keeps what it is sent, or loses, doubles and changes it, refuses and hangs up.
//!
//! It answers the questions of a verification as simply as can be: every kept profile is looked at for every question. Knows
//! profiles without labels of samples only.

mod answers;

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
    /// Acknowledged, not kept.
    Lose,
    /// Kept twice, acknowledged.
    Double,
    /// Kept with another value of its first sample, or of its leaf's, acknowledged.
    ChangeFirst,
    ChangeLeaf,
    /// Kept without its values of the second type, acknowledged.
    Halve,
    /// Kept an hour later, acknowledged.
    Delay,
    /// Kept, answered with a status all the same.
    KeepAndRefuse(u16),
    /// Kept, the connection closed.
    KeepAndHangUp,
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
    /// How often it was asked to flush.
    pub(crate) flushes: u32,
    /// Whether a flush leaves what was kept before, too.
    pub(crate) doubles_at_flush: bool,
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
                let stream: TcpStream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
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
        "/flush" => {
            let mut state = state.lock().unwrap();
            state.flushes += 1;
            if state.doubles_at_flush {
                let kept = state.kept.clone();
                state.kept.extend(kept);
            }
            (204, Vec::new())
        }
        path => match answers::answer(path, &body, &state.lock().unwrap().kept) {
            Some(answer) => (200, answer),
            None => (404, Vec::new()),
        },
    };
    let length =
        if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", answer.len()) };
    write!(stream, "HTTP/1.1 {status} X\r\n{length}\r\n").unwrap();
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
    let mut kept = Kept { labels, profile };
    let samples = &mut kept.profile.sample;
    match fate(number) {
        Fate::Keep => state.kept.push(kept),
        Fate::Lose => {}
        Fate::Double => state.kept.extend([kept.clone(), kept]),
        Fate::ChangeFirst => {
            samples[0].value[1] += 1;
            state.kept.push(kept);
        }
        Fate::ChangeLeaf => {
            samples.last_mut().unwrap().value[1] += 1;
            state.kept.push(kept);
        }
        Fate::Halve => {
            for sample in samples {
                sample.value[1] = 0;
            }
            state.kept.push(kept);
        }
        Fate::Delay => {
            kept.profile.time_nanos += 3_600_000_000_000;
            state.kept.push(kept);
        }
        Fate::KeepAndRefuse(status) => {
            state.kept.push(kept);
            return Some(status);
        }
        Fate::KeepAndHangUp => {
            state.kept.push(kept);
            return None;
        }
        Fate::Refuse(status) => return Some(status),
        Fate::HangUp => return None,
    }
    Some(200)
}
