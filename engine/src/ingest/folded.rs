//! Folded text: `root;child;leaf 3` a line, or without counts a line for each sample.
//!
//! Equal stacks are added up while reading, so that what comes out has each stack once. A line is no longer than
//! [`LINE_BYTES_MAX`], and the profile no larger than its limit; reading stops where either is passed.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::error::{IngestError, Origin};
use super::format::Format;
use super::map_bytes;
use super::pprof_writer::{Header, PprofWriter};
use crate::labels::Quoted;
use crate::profile::Step;
use crate::varint;

/// Bytes of one line: a thousand frames of a kilobyte each. A line is searched in one go.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;

/// Work of one step, in units of a byte of text searched, about a nanosecond.
const STEP_WORK: usize = 256 << 10;
/// A line or frame looked up, or a stack written.
const LOOK_UP_WORK: usize = 100;
/// A frame or stack not seen before: an insertion, and its text in the message.
const NEW_WORK: usize = 500;

/// What a sample takes in the message beside its location ids, at least: an estimate that never refuses too early.
const SAMPLE_BYTES_MIN: usize = 7;

/// Text on its way into a pprof.
#[derive(Debug)]
pub(super) struct FoldedPass {
    text: Bytes,
    /// Behind the last line begun.
    at: usize,
    format: Format,
    /// What a count of one is worth.
    scale: i64,
    profile_bytes_max: usize,
    writer: PprofWriter,
    /// Row by stack text.
    rows: BTreeMap<Bytes, usize>,
    stacks: Vec<Stack>,
    /// Location ids of all stacks, encoded, leaf first.
    ids: Vec<u8>,
    /// The stack whose frames are being read.
    open: Option<OpenStack>,
    /// Stacks written into the message.
    written: usize,
}

#[derive(Clone, Debug)]
struct Stack {
    ids: Range<usize>,
    value: i64,
}

#[derive(Debug)]
struct OpenStack {
    text: Bytes,
    /// Bytes before this one are still to be read, from the leaf.
    unread: usize,
    ids_start: usize,
    value: i64,
}

impl FoldedPass {
    /// `scale` multiplies every count; `format` is [`Format::Folded`] or [`Format::Lines`].
    pub(super) fn new(
        text: Bytes,
        format: Format,
        header: Header,
        scale: i64,
        profile_bytes_max: usize,
    ) -> Self {
        Self {
            text,
            at: 0,
            format,
            scale,
            profile_bytes_max,
            writer: PprofWriter::new(header),
            rows: BTreeMap::new(),
            stacks: Vec::new(),
            ids: Vec::new(),
            open: None,
            written: 0,
        }
    }

    /// Reads on for about a millisecond.
    pub(super) fn step(&mut self) -> Result<Step, IngestError> {
        let mut work = 0;
        while work < STEP_WORK {
            if self.open.is_some() {
                work += self.read_frame()?;
            } else if self.at < self.text.len() {
                work += self.read_line()?;
            } else if self.written < self.stacks.len() {
                let stack = self.stacks[self.written].clone();
                self.writer.sample(&self.ids[stack.ids], stack.value);
                self.written += 1;
                work += LOOK_UP_WORK;
            } else {
                return Ok(Step::Done);
            }
        }
        Ok(Step::More)
    }

    /// Heap bytes held beside the text.
    pub(super) fn bytes_held(&self) -> usize {
        self.writer.bytes_held()
            + map_bytes(&self.rows)
            + self.stacks.capacity() * size_of::<Stack>()
            + self.ids.capacity()
    }

    /// The message; `None` when no line held a stack.
    pub(super) fn finish(self) -> Option<Bytes> {
        (!self.stacks.is_empty()).then(|| self.writer.finish())
    }

    fn read_line(&mut self) -> Result<usize, IngestError> {
        let rest = &self.text[self.at..];
        let window = &rest[..rest.len().min(LINE_BYTES_MAX + 1)];
        let len = memchr::memchr(b'\n', window).unwrap_or(window.len());
        if len > LINE_BYTES_MAX {
            return Err(IngestError::bad_text(format!(
                "line at byte {} is longer than {LINE_BYTES_MAX} bytes",
                self.at
            )));
        }
        let line = self.text.slice(self.at..self.at + len);
        self.at = (self.at + len + 1).min(self.text.len());
        let line = line
            .strip_suffix(b"\r")
            .map_or_else(|| line.clone(), |stripped| line.slice_ref(stripped));
        if let Some((stack, count)) = self.stack_of(&line)? {
            self.begin_stack(stack, count.saturating_mul(self.scale));
        }
        Ok(len + LOOK_UP_WORK)
    }

    /// The stack of a line and its count; `None` for a line to be skipped.
    fn stack_of(&self, line: &Bytes) -> Result<Option<(Bytes, i64)>, IngestError> {
        if self.format == Format::Lines {
            return Ok((!line.is_empty()).then(|| (line.clone(), 1)));
        }
        let Some(blank) = memchr::memrchr(b' ', line) else {
            return Ok(None);
        };
        let count = parse_count(&line[blank + 1..])?;
        Ok(Some((line.slice(..blank), count)))
    }

    fn begin_stack(&mut self, text: Bytes, value: i64) {
        if let Some(row) = self.rows.get(&text) {
            let stack = &mut self.stacks[*row];
            stack.value = stack.value.saturating_add(value);
            return;
        }
        // One separator at the end closes the last frame; it does not begin another.
        let unread = text.len() - usize::from(text.ends_with(b";"));
        self.open = Some(OpenStack { text, unread, ids_start: self.ids.len(), value });
        if unread == 0 {
            self.end_stack();
        }
    }

    /// Takes the leaf-most frame off the open stack.
    fn read_frame(&mut self) -> Result<usize, IngestError> {
        let open = self.open.as_mut().expect("a frame is read while a stack is open");
        let start = memchr::memrchr(b';', &open.text[..open.unread]).map_or(0, |at| at + 1);
        let frame = open.text.slice(start..open.unread);
        if std::str::from_utf8(&frame).is_err() {
            return Err(IngestError::bad_text_push(
                "pyroscopeIngesterAdapter failed to marshal pprof: string field contains invalid UTF-8"
                    .to_owned(),
            ));
        }
        open.unread = start.saturating_sub(1);
        let was_root = start == 0;
        let written = self.writer.len();
        let id = self.writer.frame(&frame);
        let is_new = self.writer.len() > written;
        varint::put(&mut self.ids, id);
        let bytes = self.writer.len() + self.ids.len() + self.stacks.len() * SAMPLE_BYTES_MIN;
        if bytes > self.profile_bytes_max {
            return Err(IngestError::profile_too_large(Origin::Text, self.profile_bytes_max));
        }
        if was_root {
            self.end_stack();
        }
        Ok(frame.len() + LOOK_UP_WORK + if is_new || was_root { NEW_WORK } else { 0 })
    }

    fn end_stack(&mut self) {
        let open = self.open.take().expect("a stack ends while it is open");
        self.rows.insert(open.text, self.stacks.len());
        self.stacks.push(Stack { ids: open.ids_start..self.ids.len(), value: open.value });
    }
}

/// An integer as Go's `Atoi` reads it, with its texts.
fn parse_count(text: &[u8]) -> Result<i64, IngestError> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let text = String::from_utf8_lossy(text);
    text.parse().map_err(|error: std::num::ParseIntError| {
        let problem = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let shown: String = text.chars().take(64).collect();
        IngestError::bad_text(format!("strconv.Atoi: parsing {}: {problem}", Quoted(&shown)))
    })
}
