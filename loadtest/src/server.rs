//! A server of our own: started, killed, started again, stopped.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Address, Connection};
use crate::random::unit;

/// How long a server may take until it listens.
const START_TIME_MAX: Duration = Duration::from_mins(1);

/// How long a server may take until it answers questions: it reads its logs first.
const READY_TIME_MAX: Duration = Duration::from_mins(10);

/// How long a server may take to end when it is asked to.
const STOP_TIME_MAX: Duration = Duration::from_mins(1);

/// Between two looks at something that takes its time.
const PAUSE: Duration = Duration::from_millis(20);

/// Lines of the server's log that are told when it ends by itself.
const LOG_LINES: usize = 15;

/// What a server logs when it listens, in front of the address.
const LISTENING: &str = "msg=listening address=";

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    binary: PathBuf,
    flags: Vec<String>,
    log: PathBuf,
    address: Address,
    child: Child,
}

impl Server {
    /// Starts a binary on a free port of the loopback and waits until it listens. Its log goes to a file beside `data`.
    pub fn start(binary: &Path, data: &Path, more_flags: &[String]) -> Result<Self, String> {
        let log = data.with_extension("log");
        File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut flags = vec![
            format!("-data.path={}", data.display()),
            "-server.http-listen-address=127.0.0.1".to_owned(),
        ];
        flags.extend_from_slice(more_flags);
        flags.push("-server.http-listen-port=0".to_owned());
        let child = spawn(binary, &flags, &log)?;
        let address = Address { authority: String::new(), prefix: String::new() };
        let mut server = Self { binary: binary.to_owned(), flags, log, address, child };
        let authority = server.wait("listen", START_TIME_MAX, |server| {
            let text = std::fs::read_to_string(&server.log).ok()?;
            let line = text.lines().find_map(|line| line.split_once(LISTENING))?.1;
            Some(line.split(' ').next().unwrap_or(line).to_owned())
        })?;
        // It comes back at the same place, so that its clients find it.
        let port = authority.rsplit(':').next().unwrap_or_default();
        *server.flags.last_mut().expect("the port") = format!("-server.http-listen-port={port}");
        server.address.authority = authority;
        Ok(server)
    }

    /// Where it listens, in all its lives.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its process, until it is killed.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Ends it without a warning and starts it again; does not wait until it listens. It must have lived until now.
    pub fn kill(&mut self) -> Result<(), String> {
        self.check_alive()?;
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map_err(|error| format!("the server cannot be killed: {error}"))?;
        self.child = spawn(&self.binary, &self.flags, &self.log)?;
        Ok(())
    }

    /// Waits until it answers questions.
    pub fn wait_ready(&mut self) -> Result<(), String> {
        self.wait("be ready", READY_TIME_MAX, |server| {
            let answer =
                Connection::open(&server.address, None).and_then(|mut open| open.get("/ready"));
            answer.ok().filter(|answer| answer.status == 200).map(|_| ())
        })
    }

    /// Asks it to end, and waits until it has, with status 0.
    pub fn stop(mut self) -> Result<(), String> {
        self.check_alive()?;
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process id");
        // SAFETY: the process is our child and not waited for yet, so its id is no other's.
        let sent = unsafe { libc::kill(pid, libc::SIGTERM) };
        assert_eq!(sent, 0, "a child takes signals");
        let started = Instant::now();
        while started.elapsed() < STOP_TIME_MAX {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(self.with_log(&format!("the server ended with {status}")));
                }
                Ok(None) => std::thread::sleep(PAUSE),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("the server did not end within {STOP_TIME_MAX:?}"))
    }

    fn wait<T>(
        &mut self,
        what: &str,
        time_max: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, String> {
        let started = Instant::now();
        while started.elapsed() < time_max {
            if let Some(seen) = look(self) {
                return Ok(seen);
            }
            self.check_alive()?;
            std::thread::sleep(PAUSE);
        }
        Err(self.with_log(&format!("the server took more than {time_max:?} to {what}")))
    }

    fn check_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(self.with_log(&format!("the server ended by itself with {status}")))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn with_log(&self, words: &str) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("{words}; its log {} ends with\n{}", self.log.display(), last.join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either it has ended already, or nobody is left who could hear of an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(binary: &Path, flags: &[String], log: &Path) -> Result<Child, String> {
    let spawn = || -> io::Result<Child> {
        let log = File::options().append(true).open(log)?;
        Command::new(binary)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
    };
    spawn().map_err(|error| format!("{}: {error}", binary.display()))
}

/// When to kill, as times since the start: one moment, drawn from the seed, in each of `count` equal parts of the time.
pub fn kill_moments(seed: u64, count: u32, time: Duration) -> Vec<Duration> {
    let moment = |row| (f64::from(row) + unit(seed ^ u64::from(row) << 32)) / f64::from(count);
    (0..count).map(|row| time.mul_f64(moment(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_spread_over_the_time_and_follow_from_the_seed() {
        let time = Duration::from_secs(50);
        let moments = kill_moments(3, 50, time);
        assert_eq!(moments, kill_moments(3, 50, time));
        assert_ne!(moments, kill_moments(4, 50, time));
        for (row, moment) in moments.iter().enumerate() {
            assert_eq!(moment.as_secs(), row as u64);
        }
    }

    #[test]
    fn a_server_that_ends_by_itself_is_told_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let error = Server::start(Path::new("/bin/false"), &folder.path().join("data"), &[]);
        let error = error.map(|_| ()).unwrap_err();
        assert!(error.contains("ended by itself") && error.contains("data.log"), "{error}");
        let error = Server::start(Path::new("/nowhere"), &folder.path().join("data"), &[]);
        assert!(error.map(|_| ()).unwrap_err().contains("/nowhere"));
    }
}
