//! The load tester against a server that notes what it is sent.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loadtest::client::Address;
use loadtest::push::Push;
use loadtest::schedule::Schedule;
use loadtest::workload::Workload;
use prost::Message;
use proto::pprof::Profile;
use proto::push::PushRequest;

/// Leaf frames that only one push has, tenants and services as they came.
#[derive(Debug, Default)]
struct Seen {
    leaves: Vec<String>,
    tenants: BTreeSet<String>,
    services: BTreeSet<String>,
}

/// Serves until the test ends. Request number `n` is answered by `answer(n)`; 0 closes the connection instead.
fn serve(answer: fn(usize) -> u16) -> (Address, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address =
        Address::parse(&format!("http://{}/base", listener.local_addr().unwrap())).unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let noted = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let noted = Arc::clone(&noted);
            std::thread::spawn(move || {
                while serve_one(stream.as_ref().unwrap(), &noted, answer).is_some() {}
            });
        }
    });
    (address, seen)
}

fn serve_one(mut stream: &TcpStream, seen: &Mutex<Seen>, answer: fn(usize) -> u16) -> Option<()> {
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
    assert_eq!(head[0], "POST /base/push.v1.PusherService/Push HTTP/1.1");
    let header =
        |name: &str| head.iter().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
    let mut body = vec![0; header("content-length").parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let request = PushRequest::decode(body.as_slice()).unwrap();
    let status = {
        let mut seen = seen.lock().unwrap();
        seen.tenants.insert(header("x-scope-orgid").to_owned());
        let series = &request.series[0];
        let service = series.labels.iter().find(|label| label.name == "service_name").unwrap();
        seen.services.insert(service.value.clone());
        let profile = Profile::decode(series.samples[0].raw_profile.as_ref()).unwrap();
        seen.leaves
            .extend(profile.string_table.into_iter().filter(|name| name.starts_with("push_")));
        answer(seen.leaves.len() - 1)
    };
    if status == 0 {
        return None;
    }
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n{{}}").unwrap();
    Some(())
}

fn push(address: Address, rate: f64, count_max: u64) -> Push {
    Push {
        address,
        tenant: Some("team-a".to_owned()),
        connections_count: 3,
        services_count: 2,
        workload: Workload::Generated { samples_count: 5 },
        schedule: Schedule {
            start: Instant::now(),
            rate,
            count_max,
            time_max: Duration::from_secs(30),
        },
    }
}

#[test]
fn every_push_arrives_once_and_keeps_the_rate() {
    let (address, seen) = serve(|_| 200);
    let started = Instant::now();
    let report = push(address, 200.0, 40).run();
    assert!(started.elapsed() >= Duration::from_millis(195), "40 pushes at 200 a second");
    assert_eq!((report.pushed, report.is_clean()), (40, true), "{report}");
    let seen = seen.lock().unwrap();
    let leaves: BTreeSet<_> = seen.leaves.iter().collect();
    assert_eq!((leaves.len(), seen.leaves.len()), (40, 40), "each leaf once");
    assert_eq!(seen.tenants, BTreeSet::from(["team-a".to_owned()]));
    assert_eq!(seen.services.len(), 2);
}

#[test]
fn refusals_and_lost_connections_are_told_apart() {
    let (address, _) = serve(|number| [200, 429, 0][number % 3]);
    let report = push(address, 1000.0, 30).run();
    assert_eq!((report.pushed, report.refused[&429], report.failed), (10, 10, 10), "{report}");
    assert!(!report.is_clean() && !report.errors.is_empty());
}

#[test]
fn latency_counts_from_the_intended_start() {
    let (address, _) = serve(|number| {
        if number == 0 {
            std::thread::sleep(Duration::from_millis(200));
        }
        200
    });
    // All connections wait for the server's one lock: pushes meant for then are late, and their latency says so.
    let report = push(address, 100.0, 20).run();
    assert_eq!(report.pushed, 20);
    let late = report.latency_at(0.5);
    assert!(
        late >= Duration::from_millis(40),
        "half of the pushes were meant for the stall, not {late:?} late"
    );
}
