//! Log lines, written by a thread of their own so that no shard ever waits for stderr.
//!
//! Bounds: at most [`LINES_QUEUED_MAX`] lines of at most [`LINE_BYTES_MAX`] bytes wait for the writer (64 MiB when every line
//! is as long as it may be, a few hundred KiB in practice). A line that finds the queue full is dropped and counted; the
//! writer then says how many. What logging costs a shard is formatting the line and one push into the queue.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Lines that may wait for the writer.
pub const LINES_QUEUED_MAX: usize = 4096;

/// Longest line, bytes; the rest of a longer one is cut off.
pub const LINE_BYTES_MAX: usize = 16 << 10;

/// Lines dropped because the queue was full.
static DROPPED: AtomicU64 = AtomicU64::new(0);

static QUEUE: OnceLock<mpsc::SyncSender<Message>> = OnceLock::new();

enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(mpsc::SyncSender<()>),
}

/// Lines dropped so far.
pub fn lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Sends all events of the process to stderr from now on. Called once.
pub fn install(config: LogConfig) -> io::Result<()> {
    let (queue, lines) = mpsc::sync_channel(LINES_QUEUED_MAX);
    std::thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(&lines))?;
    QUEUE.set(queue).map_err(|_| io::Error::other("logging is installed already"))?;
    let level = match config.level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(Lines);
    let installed = match config.format {
        LogFormat::Logfmt => {
            tracing::subscriber::set_global_default(builder.event_format(Logfmt).finish())
        }
        LogFormat::Json => tracing::subscriber::set_global_default(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .finish(),
        ),
    };
    installed.map_err(io::Error::other)
}

/// Waits until the lines logged so far are written, `patience` at most. For the process's end; never on a shard.
pub fn flush(patience: Duration) {
    let Some(queue) = QUEUE.get() else { return };
    let (done, written) = mpsc::sync_channel(1);
    if queue.try_send(Message::Flush(done)).is_ok() {
        let _ = written.recv_timeout(patience); // late is late: the process ends all the same
    }
}

fn write_lines(lines: &mpsc::Receiver<Message>) {
    let mut dropped_told = 0;
    // A stderr that cannot be written to has nobody to tell.
    while let Ok(message) = lines.recv() {
        match message {
            Message::Line(line) => {
                let _ = io::stderr().write_all(&line);
            }
            Message::Flush(done) => {
                let _ = io::stderr().flush();
                let _ = done.send(());
            }
        }
        let dropped = lines_dropped();
        if dropped > dropped_told {
            let _ = writeln!(
                io::stderr(),
                "level=warn msg=\"log lines dropped\" lines={}",
                dropped - dropped_told
            );
            dropped_told = dropped;
        }
    }
}

/// Hands whole lines to the writer's thread.
struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One line while it is formatted; sent when dropped.
struct Line(Vec<u8>);

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LINE_BYTES_MAX.saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut line = std::mem::take(&mut self.0);
        if line.is_empty() {
            return;
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n'); // it was cut off
        }
        let sent = QUEUE.get().is_some_and(|queue| queue.try_send(Message::Line(line)).is_ok());
        if !sent {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// `ts=2026-11-24T05:30:00.123456Z level=info msg="shard started" shard=0`
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        line.write_str("ts=")?;
        SystemTime.format_time(&mut line)?;
        let metadata = event.metadata();
        write!(line, " level={}", level_name(*metadata.level()))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        write_pair(&mut line, "msg", &fields.message)?;
        for (name, value) in &fields.others {
            write_pair(&mut line, name, value)?;
        }
        line.write_char('\n')
    }
}

fn level_name(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => "error",
        tracing::Level::WARN => "warn",
        tracing::Level::INFO => "info",
        _ => "debug",
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.others.push((field.name(), value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

fn write_pair(line: &mut impl fmt::Write, name: &str, value: &str) -> fmt::Result {
    let is_plain = |c: char| c > ' ' && c != '=' && c != '"' && c != '\\' && c != '\u{7f}';
    if !value.is_empty() && value.chars().all(is_plain) {
        write!(line, " {name}={value}")
    } else {
        write!(line, " {name}={value:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_only_where_a_reader_would_stumble() {
        let pair = |value| {
            let mut text = String::new();
            write_pair(&mut text, "k", value).unwrap();
            text
        };
        assert_eq!(pair("plain-1.5"), " k=plain-1.5");
        assert_eq!(pair(""), " k=\"\"");
        assert_eq!(pair("two words"), " k=\"two words\"");
        assert_eq!(pair("a=b"), " k=\"a=b\"");
        assert_eq!(pair("line\nbreak \"x\""), " k=\"line\\nbreak \\\"x\\\"\"");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_still_counts_as_written() {
        let mut line = Line(Vec::new());
        let written = line.write(&vec![b'x'; 2 * LINE_BYTES_MAX]).unwrap();
        assert_eq!((written, line.0.len()), (2 * LINE_BYTES_MAX, LINE_BYTES_MAX));
        line.0.clear(); // nothing to send
    }
}
