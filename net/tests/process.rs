//! The real binary from outside: how it starts, refuses, answers and stops.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do, and show what the server said"
)]

#[path = "process/limits.rs"]
mod limits;
#[path = "process/polls.rs"]
mod polls;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest any single step may take on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Within this the process ends after a signal, whatever happens.
const STOP_MAX: Duration = Duration::from_secs(25);

/// The runtime that `PYRITE_RUNTIME` names, else what the machine allows; a later `-runtime` goes before it.
fn pyrite(data: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pyrite"));
    let runtime = std::env::var("PYRITE_RUNTIME").unwrap_or_else(|_| "auto".to_owned());
    command
        .arg(format!("-data.path={}", data.display()))
        .arg(format!("-runtime={runtime}"))
        .args(["-server.http-listen-address=127.0.0.1", "-server.http-listen-port=0", "-shards=2"])
        .args(flags)
        .stdin(Stdio::null());
    command
}

/// One request on a connection of its own: status, head and body of the answer.
fn send(
    address: SocketAddr,
    method_and_path: &str,
    headers: &str,
    body: &[u8],
) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let len = body.len();
    write!(stream, "{method_and_path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {len}\r\n\r\n")
        .unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

/// A running server; killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    lines: mpsc::Receiver<String>,
}

impl Server {
    fn start(data: &Path, flags: &[&str]) -> Self {
        Self::started_by(&mut pyrite(data, flags))
    }

    fn started_by(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (line_in, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                println!("pyrite: {line}");
                let _ = line_in.send(line);
            }
        });
        let mut server = Self { child, address: ([127, 0, 0, 1], 0).into(), lines };
        let line = server.line_with("msg=listening");
        let address = line.split(" address=").nth(1).unwrap().split(' ').next().unwrap();
        server.address = address.parse().unwrap();
        server.wait_ready();
        server
    }

    /// The next log line that holds `text`.
    fn line_with(&self, text: &str) -> String {
        let given_up = Instant::now() + PATIENCE;
        loop {
            let patience = given_up.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(patience).expect("the line is logged in time");
            if line.contains(text) {
                return line;
            }
        }
    }

    fn wait_ready(&self) {
        let given_up = Instant::now() + PATIENCE;
        while self.get("/ready").0 != 200 {
            assert!(Instant::now() < given_up, "ready in time");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path}"), "")
    }

    /// One request on a connection of its own.
    fn ask(&self, method_and_path: &str, body: &str) -> (u16, String) {
        let (status, _, answer) = self.send(method_and_path, "", body.as_bytes());
        (status, answer)
    }

    /// The same with more header lines: status, head and body of the answer.
    fn send(&self, method_and_path: &str, headers: &str, body: &[u8]) -> (u16, String, String) {
        send(self.address, method_and_path, headers, body)
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn wait(&mut self, patience: Duration) -> ExitStatus {
        let given_up = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < given_up, "the process ends within {patience:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run_to_end(command: &mut Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

#[test]
fn a_command_line_that_cannot_be_read_ends_with_2_and_is_named() {
    let data = tempfile::tempdir().unwrap();
    for (flag, text) in [
        ("-no-such-flag=1", "flag provided but not defined: -no-such-flag"),
        ("-shards=many", "invalid value \"many\" for flag -shards"),
    ] {
        let output = run_to_end(&mut pyrite(data.path(), &[flag]));
        assert_eq!(output.status.code(), Some(2), "{flag}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with(text), "{stderr}");
    }
    assert!(!data.path().join("wal").exists(), "nothing was begun");
}

#[test]
fn what_is_not_built_ends_with_1_and_the_reason() {
    let data = tempfile::tempdir().unwrap();
    for (flag, text) in [
        ("-target=distributor", "only target all is built so far"),
        ("-storage.backend=s3", "only the backend filesystem is built so far"),
        ("-server.http-listen-address=256.0.0.1", "listening on 256.0.0.1:0"),
    ] {
        let output = run_to_end(&mut pyrite(data.path(), &[flag]));
        assert_eq!(output.status.code(), Some(1), "{flag}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(text), "{stderr}");
    }
}

#[test]
fn a_configuration_file_of_pyroscope_starts_it_with_a_warning_for_what_does_nothing() {
    let data = tempfile::tempdir().unwrap();
    let file = concat!("-config.file=", env!("CARGO_MANIFEST_DIR"), "/tests/config/pyroscope.yaml");
    let mut command = pyrite(data.path(), &[file, "-config.expand-env", "-ring.store=consul"]);
    let mut child = command.env("LEVEL", "warn").stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let noted: Vec<String> = (0..14).map_while(|_| lines.next()).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let want = [
        "show_banner",
        "analytics.reporting_enabled",
        "server.grpc_server_max_recv_msg_size",
        "limits.ingestion_relabeling_rules",
        "memberlist.bind_port",
        "memberlist.join_members",
        "ingester.lifecycler.ring.replication_factor",
        "ingester.lifecycler.ring.kvstore.store",
        "compactor.data_dir",
        "pyroscopedb.row_group_target_size",
        "storage.s3.http.insecure_skip_verify",
        "storage.filesystem.dir",
        "self_profiling.disable_push",
        "-ring.store",
    ];
    for (line, setting) in noted.iter().zip(want) {
        let is_warning = line.contains("level=warn") && line.contains("accepted and does nothing");
        assert!(is_warning && line.contains(setting), "{setting}: {line}");
    }
    assert_eq!(noted.len(), want.len());
}

#[test]
fn the_configuration_in_force_is_shown_and_can_be_used_again() {
    let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path(), &["-distributor.ingestion-rate-limit-mb=7.5"]);
    let (status, shown) = server.get("/api/v1/status/config");
    assert_eq!(status, 200);
    assert!(
        shown.contains("ingestion_rate_mb: 7.5\n") && shown.contains("log_level: info\n"),
        "{shown}"
    );
    let (_, changed) = server.get("/api/v1/status/config/diff");
    assert!(
        changed.contains("ingestion_rate_mb: 7.5\n") && !changed.contains("log_level"),
        "{changed}"
    );
    let (_, defaults) = server.get("/api/v1/status/config/default");
    assert!(defaults.contains("http_listen_port: 4040\n"), "{defaults}");
    drop(server);
    let file = files.path().join("config.yaml");
    std::fs::write(&file, &shown).unwrap();
    let again = Server::start(data.path(), &[&format!("-config.file={}", file.display())]);
    assert_eq!(again.get("/api/v1/status/config").1, shown);
}

#[test]
fn a_configuration_file_that_is_wrong_ends_with_1_and_its_line() {
    let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (text, reason) in [
        ("target: all\nserver:\n  port: 4040\n", ":3: unknown key server.port"),
        ("shards: many\n", ":1: shards: expected a whole number"),
        ("shards: 1\nshards: 2\n", ":2: the key \"shards\" is given twice"),
        ("server: {\n", ""),
    ] {
        let file = files.path().join("config.yaml");
        std::fs::write(&file, text).unwrap();
        let flag = format!("-config.file={}", file.display());
        let output = run_to_end(&mut pyrite(data.path(), &[&flag]));
        assert_eq!(output.status.code(), Some(1), "{text}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let begins = format!("failed parsing config: {}:", file.display());
        assert!(stderr.starts_with(&begins) && stderr.contains(reason), "{stderr}");
    }
    assert!(!data.path().join("wal").exists(), "nothing was begun");
}

#[test]
fn help_version_and_modules_go_to_stdout_and_end_with_0() {
    let data = tempfile::tempdir().unwrap();
    for (flag, text) in [
        ("-help", "Usage of pyrite"),
        ("-help-all", "Usage of pyrite"),
        ("--version", "pyrite, version "),
        ("-modules", "all\ncompactor *\n"),
    ] {
        let output = run_to_end(&mut pyrite(data.path(), &[flag]));
        assert_eq!(output.status.code(), Some(0), "{flag}");
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(text), "{flag}");
    }
}

#[test]
fn a_second_process_on_the_same_data_ends_with_1_and_names_the_first() {
    let data = tempfile::tempdir().unwrap();
    let first = Server::start(data.path(), &[]);
    let second = run_to_end(&mut pyrite(data.path(), &[]));
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8(second.stderr).unwrap();
    let words = format!("is in use by process {}", first.child.id());
    assert!(stderr.contains(&words), "{stderr}");
    assert_eq!(first.get("/ready").0, 200, "the first one goes on");
}

#[test]
fn a_port_that_another_process_listens_on_is_refused() {
    let (data, other_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Server::start(data.path(), &[]);
    let port = format!("-server.http-listen-port={}", first.address.port());
    let second = run_to_end(&mut pyrite(other_data.path(), &[&port]));
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert!(stderr.contains("Address already in use"), "{stderr}");
}

#[test]
fn both_signals_stop_it_with_0_and_idle_connections_do_not_hold_it_up() {
    for signal in ["TERM", "INT"] {
        let data = tempfile::tempdir().unwrap();
        let mut server = Server::start(data.path(), &[]);
        let idle: Vec<TcpStream> =
            (0..8).map(|_| TcpStream::connect(server.address).unwrap()).collect();
        let mut used = TcpStream::connect(server.address).unwrap();
        used.write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(used.read(&mut [0; 512]).unwrap() > 0);
        server.signal(signal);
        let status = server.wait(STOP_MAX);
        assert_eq!(status.code(), Some(0), "SIG{signal}");
        drop((idle, used));
    }
}

/// Until now, at the earliest.
const FOLDED: &str = "POST /ingest?name=app%7B%7D&from=now-10s&until=now&format=folded";

/// What is left of logs.
fn log_files(data: &Path) -> usize {
    let entries = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let runs = entries(&data.join("wal"));
    let logs = runs.iter().flat_map(|run| entries(run));
    logs.map(|log| entries(&log).len()).sum()
}

/// A stop left the whole log to the next start, however long ago it was that a block could have been made of it.
#[test]
fn a_stop_puts_heads_into_blocks_and_leaves_no_log() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]);
    assert_eq!(server.ask(FOLDED, "a;b;c 7\n").0, 200);
    server.signal("TERM");
    assert_eq!(server.wait(STOP_MAX).code(), Some(0));
    assert_eq!(log_files(data.path()), 0);
    let mut server = Server::start(data.path(), &[]);
    let read = "/pyroscope/render?query=process_cpu:cpu:nanoseconds:cpu:nanoseconds%7B%7D&from=now-1h&until=now%2B1h";
    let (status, answer) = server.get(read);
    assert!(status == 200 && answer.contains(r#""numTicks":7"#), "{answer}");
    // Killed, it leaves the log as it is.
    assert_eq!(server.ask(FOLDED, "a;b;c 8\n").0, 200);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert!(log_files(data.path()) > 0);
    let server = Server::start(data.path(), &[]);
    assert!(server.get(read).1.contains(r#""numTicks":15"#));
}

#[test]
fn a_killed_process_starts_again_on_its_port_at_once() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]);
    let port = server.address.port();
    // Connections that the server closes first stay in TIME_WAIT on its side.
    let mut kept: Vec<TcpStream> =
        (0..4).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for stream in &mut kept {
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 512]).unwrap() > 0);
    }
    // Once with connections of the dead process in TIME_WAIT, and a few times with its listener not taken apart yet.
    for _ in 0..5 {
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        kept.clear();
        server = Server::start(data.path(), &[&format!("-server.http-listen-port={port}")]);
        assert_eq!(server.address.port(), port);
    }
}

#[test]
fn a_request_that_never_ends_is_waited_for_only_as_long_as_granted() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &["-server.graceful-shutdown-timeout=1s"]);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = "POST /ingest?name=a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).unwrap();
    let in_flight = "pyrite_http_requests_in_flight 2\n"; // it and the scrape itself
    let given_up = Instant::now() + PATIENCE;
    while !server.get("/metrics").1.contains(in_flight) {
        assert!(Instant::now() < given_up, "the request arrives");
    }
    let asked = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(STOP_MAX).code(), Some(0));
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(900), "it was waited for, {took:?}");
}

#[test]
fn a_request_under_way_is_answered_before_the_process_ends() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!("{FOLDED} HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let given_up = Instant::now() + PATIENCE;
    while !server.get("/metrics").1.contains("pyrite_http_requests_in_flight 2\n") {
        assert!(Instant::now() < given_up, "the request arrives");
    }
    server.signal("TERM");
    server.line_with("msg=stopping");
    stream.write_all(b"a;b;c 1\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{answer:?}");
    assert_eq!(server.wait(STOP_MAX).code(), Some(0));
}

/// Limits of single tenants change in a running server; a file that cannot be used changes nothing.
#[test]
fn overrides_are_read_again_and_a_broken_file_leaves_the_old_ones_in_force() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("overrides.yaml");
    let flags =
        [&format!("-runtime-config.file={}", file.display()), "-runtime-config.reload-period=20ms"];
    // A reader never sees half of a file that was renamed into place.
    let write = |text: &str| {
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    let length = |length: &str| {
        write(&format!("overrides:\n  anonymous:\n    max_query_length: {length}\n"));
    };
    let query = "/pyroscope/render?query=process_cpu:cpu:nanoseconds:cpu:nanoseconds%7B%7D&from=now-2h&until=now";
    let until = |server: &Server, what: &str, holds: &dyn Fn(&Server) -> bool| {
        let given_up = Instant::now() + PATIENCE;
        while !holds(server) {
            assert!(Instant::now() < given_up, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let successful = |server: &Server, value: u8| {
        let line = format!("\npyroscope_runtime_config_last_reload_successful {value}\n");
        server.get("/metrics").1.contains(&line)
    };

    write("overrides:\n  anonymous:\n    max_query_len: 1h\n");
    let refused = run_to_end(&mut pyrite(data.path(), &flags.map(|flag| flag as &str)));
    assert_eq!(refused.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    let place = "overrides.yaml: line 3: unknown key overrides.anonymous.max_query_len";
    assert!(stderr.contains(place), "{stderr}");

    length("1h");
    let server = Server::start(data.path(), &flags.map(|flag| flag as &str));
    let (status, text) = server.get(query);
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("max_query_length, actual: 2h0m0s, limit: 1h"), "{text}");
    assert!(successful(&server, 1));

    length("3h");
    until(&server, "the new limit holds", &|server| server.get(query).0 == 200);

    write("overrides:\n  anonymous:\n    max_query_length: long\n");
    let line = server.line_with("runtime config not reloaded");
    assert!(line.contains("line 3: overrides.anonymous.max_query_length: "), "{line}");
    until(&server, "the failure is told", &|server| successful(server, 0));
    assert_eq!(server.get(query).0, 200, "the old limit holds");

    length("1h");
    until(&server, "it recovers", &|server| successful(server, 1) && server.get(query).0 == 400);
}

#[test]
fn every_family_of_the_metrics_has_its_help_and_every_shard_answers() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["-shards=3", "-memory.limit=1GiB"]);
    let (status, text) = server.get("/metrics");
    assert_eq!(status, 200);
    for shard in 0..3 {
        assert!(text.contains(&format!("pyrite_shard_up{{shard=\"{shard}\"}} 1\n")), "{text}");
        let longest = format!("pyrite_longest_poll_seconds{{shard=\"{shard}\",class=\"rpc\"}} ");
        assert!(text.contains(&longest), "{text}");
    }
    assert!(text.contains("pyrite_memory_limit_bytes 1073741824\n"), "{text}");
    let mut family = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} stands under {family}");
        }
    }
}

#[test]
fn log_lines_are_json_when_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let output = run_to_end(&mut pyrite(data.path(), &["-log.format=json", "-target=querier"]));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let line: serde_json::Value = serde_json::from_str(stderr.lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(line["error"].as_str().unwrap().contains("only target all"), "{line}");
}

#[test]
fn a_log_damaged_in_the_middle_is_refused_with_its_file() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &["-shards=1"]);
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head =
            "POST /ingest?name=app&format=folded HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
        write!(stream, "{head}Content-Length: 8\r\n\r\na;b;c 1\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let only = |path: PathBuf| std::fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
    let segment = only(only(only(data.path().join("wal"))));
    let mut bytes = std::fs::read(&segment).unwrap();
    // The first group follows the segment's header block; the second one is what makes this damage, not a torn end.
    bytes[4096 + 200] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let again = run_to_end(&mut pyrite(data.path(), &["-shards=1"]));
    assert_eq!(again.status.code(), Some(1));
    let stderr = String::from_utf8(again.stderr).unwrap();
    assert!(stderr.contains("is damaged"), "{stderr}");
    assert!(stderr.contains(segment.file_name().unwrap().to_str().unwrap()), "{stderr}");
}

/// From now on the process and what it starts cannot set rings up, as in a container: a seccomp filter answers EPERM.
fn refuse_io_uring() -> std::io::Result<()> {
    const SYSCALL_NUMBER_AT: u32 = 0; // in `struct seccomp_data`
    let statement = |code, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, SYSCALL_NUMBER_AT),
        libc::sock_filter {
            jf: 1,
            ..statement(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                libc::SYS_io_uring_setup as u32,
            )
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: both calls set attributes of the calling process; the second reads the program, which lives until it returns.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
                0,
                0,
            ) != 0
    };
    if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// A server that is refused io_uring.
fn confined(data: &Path, flags: &[&str]) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = pyrite(data, flags);
    // SAFETY: between fork and exec only system calls are made: nothing is allocated and no lock taken.
    unsafe { command.pre_exec(refuse_io_uring) };
    command
}

/// The first line that a process logs; the process is killed then.
fn first_line(command: &mut Command) -> String {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    line
}

#[test]
fn where_io_uring_is_refused_the_server_says_so_and_serves() {
    let data = tempfile::tempdir().unwrap();
    let line = first_line(&mut confined(data.path(), &["-runtime=auto"]));
    for words in ["level=warn", "portable", "Operation not permitted", "seccomp"] {
        assert!(line.contains(words), "one line says {words}: {line}");
    }
    let mut server = Server::started_by(&mut confined(data.path(), &["-runtime=auto"]));
    assert!(server.get("/metrics").1.contains("pyrite_runtime{backend=\"portable\"} 1\n"));
    let pushed = server.ask("POST /ingest?name=app&format=folded", "main;work 7\n");
    assert_eq!(pushed.0, 200, "{}", pushed.1);
    let query = "/pyroscope/render?query=process_cpu:cpu:nanoseconds:cpu:nanoseconds%7Bservice_name%3D%22app%22%7D&from=now-1h&until=now%2B1h";
    let (status, answer) = server.get(query);
    assert!(status == 200 && answer.contains("\"work\""), "{status} {answer}");
    server.signal("TERM");
    assert_eq!(server.wait(STOP_MAX).code(), Some(0));
}

#[test]
fn with_too_little_lockable_memory_the_server_says_so_and_serves() {
    use std::os::unix::process::CommandExt as _;
    let data = tempfile::tempdir().unwrap();
    let short = |runtime: &str| {
        let mut command = pyrite(data.path(), &[runtime]);
        let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
        // SAFETY: between fork and exec only a system call is made, which reads `limit`.
        unsafe {
            command.pre_exec(move || {
                match libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        command
    };
    let line = first_line(&mut short("-runtime=auto"));
    if !line.contains("io_uring_setup") {
        for words in ["level=warn", "portable", "65536", "LimitMEMLOCK=infinity"] {
            assert!(line.contains(words), "one line says {words}: {line}");
        }
    } // else there is no io_uring here at all
    assert_eq!(run_to_end(&mut short("-runtime=uring")).status.code(), Some(1));
    Server::started_by(&mut short("-runtime=auto")).wait_ready();
}

#[test]
fn io_uring_asked_for_by_name_and_refused_ends_with_1_and_the_reason() {
    let data = tempfile::tempdir().unwrap();
    let output = run_to_end(&mut confined(data.path(), &["-runtime=uring"]));
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for words in ["io_uring_setup: Operation not permitted", "seccomp"] {
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn the_runtime_is_named_in_the_log_and_the_metrics() {
    let named = std::env::var("PYRITE_RUNTIME").unwrap_or_default();
    for runtime in ["uring", "portable"] {
        if runtime == "uring" && named == "portable" {
            continue; // it may not be had here
        }
        let data = tempfile::tempdir().unwrap();
        let flag = format!("-runtime={runtime}");
        let line = first_line(&mut pyrite(data.path(), &[&flag]));
        assert!(line.contains("msg=starting") && line.contains(&flag[1..]), "{line}");
        let server = Server::start(data.path(), &[&flag]);
        let metric = format!("pyrite_runtime{{backend=\"{runtime}\"}} 1\n");
        assert!(server.get("/metrics").1.contains(&metric), "{runtime}");
    }
}

/// A node that holds more than its limit already: what it refuses says what to do, and so does a start that cannot end.
#[test]
fn a_node_without_memory_says_what_to_do() {
    let push = |server: &Server| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head = "POST /ingest?name=app&format=folded HTTP/1.1\r\nHost: x\r\nConnection: close";
        write!(stream, "{head}\r\nContent-Length: 8\r\n\r\na;b;c 1\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let data = tempfile::tempdir().unwrap();
    let small = ["-shards=1", "-memory.limit=4MiB"];
    let mut server = Server::start(data.path(), &small);
    let answer = push(&server);
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: "), "{answer}");
    assert!(answer.contains("retry later, or raise -memory.limit"), "{answer}");
    assert!(
        server
            .get("/metrics")
            .1
            .contains("pyrite_memory_refused_total{shard=\"0\",what=\"pushes\"} ")
    );
    server.signal("TERM");
    assert_eq!(server.wait(STOP_MAX).code(), Some(0));
    let mut server = Server::start(data.path(), &["-shards=1"]);
    let answer = push(&server);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let again = run_to_end(&mut pyrite(data.path(), &small));
    assert_eq!(again.status.code(), Some(1));
    let stderr = String::from_utf8(again.stderr).unwrap();
    assert!(stderr.contains("Start again with a -memory.limit as high as"), "{stderr}");
}

/// One sample in microseconds, which are answered in nanoseconds.
const PUSH_ONE: &str = "POST /ingest?name=app&format=folded&units=samples&sampleRate=1000000000";

const TOTAL_OF_APP: &str = "/pyroscope/render?query=process_cpu:cpu:nanoseconds:cpu:nanoseconds%7Bservice_name%3D%22app%22%7D&from=now-1h&until=now%2B1h";

/// Sum over everything pushed to the service `app`.
fn total_of_app(server: &Server) -> u64 {
    let (status, answer) = server.get(TOTAL_OF_APP);
    assert_eq!(status, 200, "{answer}");
    let (_, rest) = answer.split_once("\"numTicks\":").unwrap();
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

#[test]
fn a_low_disk_refuses_pushes_with_503_in_words_and_answers_reads() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]);
    assert_eq!(server.ask(PUSH_ONE, "main;work 1\n").0, 200);
    server.signal("TERM");
    assert_eq!(server.wait(STOP_MAX).code(), Some(0));
    // More than any disk has.
    let kept = [
        "-pyroscopedb.retention-policy-min-free-disk-gb=1000000000",
        "-pyroscopedb.retention-policy-min-disk-available-percentage=2",
        "-shards=1",
    ];
    let server = Server::start(data.path(), &kept);
    while !server.get("/metrics").1.contains("pyrite_disk_low{shard=\"0\"} 1") {}
    let (status, answer) = server.ask(PUSH_ONE, "main;work 1\n");
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("the disk of -data.path has "), "{answer}");
    assert_eq!(total_of_app(&server), 1);
    assert_eq!(server.get("/ready").0, 200, "reads are served");
}

/// A file system of its own, as small as asked for; gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where this process may not mount one.
    fn new(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(directory.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// Fills a file system to its last byte.
fn fill(path: &Path) -> PathBuf {
    let path = path.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    for piece in [1 << 20, 4096, 1] {
        while file.write_all(&vec![1; piece]).is_ok() {}
    }
    path
}

#[test]
fn a_disk_that_is_really_full_is_an_error_in_words_and_loses_nothing() {
    let Some(disk) = SmallDisk::new("48m") else {
        println!("skipped: this process may not mount a file system");
        return;
    };
    let data = disk.path().join("data");
    let flags = ["-shards=1", "-wal.segment-bytes=64KiB", "-pyroscopedb.retention-policy-disable"];
    let mut server = Server::start(&data, &flags);
    assert_eq!(server.ask(PUSH_ONE, "main;work 1\n").0, 200);
    let filler = fill(disk.path());
    let mut acknowledged = 1;
    let refused = loop {
        let (status, answer) = server.ask(PUSH_ONE, "main;work 1\n");
        if status != 200 {
            break (status, answer);
        }
        acknowledged += 1;
        assert!(acknowledged < 1000, "the log has no room for so many");
    };
    assert_eq!(refused.0, 503, "{}", refused.1);
    assert!(refused.1.contains("has no room"), "{}", refused.1);
    let (status, answer) = server.ask("POST /flush", "");
    assert!(status >= 500 && answer.contains("No space left on device"), "{status} {answer}");
    assert_eq!(total_of_app(&server), acknowledged, "reads go on");
    std::fs::remove_file(filler).unwrap();
    let given_up = Instant::now() + PATIENCE;
    while server.ask(PUSH_ONE, "main;work 1\n").0 != 200 {
        assert!(Instant::now() < given_up, "pushes go on by themselves");
    }
    acknowledged += 1;
    assert_eq!(server.ask("POST /flush", "").0, 204);
    assert_eq!(total_of_app(&server), acknowledged);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let server = Server::start(&data, &flags);
    assert_eq!(total_of_app(&server), acknowledged, "after a crash");
}
