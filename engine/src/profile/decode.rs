//! From the inflated message to columns: a decoder for pprof by hand over borrowed bytes.
//!
//! Nothing is allocated per sample: rows go to columns that are kept from profile to profile. Fields come in any order, repeated
//! numbers packed or not, and of a scalar given twice the last counts, as protobuf has it. References are kept as they came
//! (strings by index, the rest by id); [`super::check`] judges them and [`super::resolve`] makes rows of them, when the
//! whole message is known. Between top-level fields the decoder can stop and go on later.

use super::ids::WideIds;
use super::wire::{
    Reader, WireError, bytes_tag, common_tail, packed_numbers, varint_tag, varints_of,
};
use super::{Function, Line, Location, Mapping, Profile, SampleLabel, Span, Step, ValueType};
use crate::hash::HashSecret;

/// Cost of decoded bytes in units of [`super::intake`]'s budget, nanoseconds.
const DECODE_COST: i64 = 2;

/// An index or a count that no table reaches: a reference this large is out of range whatever follows.
const BEYOND: u32 = u32::MAX - 1;

/// Tags of what a message has many of: samples, locations, functions and strings.
const COMMON_TAGS: [u64; 4] = [bytes_tag(2), bytes_tag(4), bytes_tag(5), bytes_tag(6)];

/// What is cut or counted while decoding; 0 for no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DecodeLimits {
    /// Deeper stacks lose frames at the leaf.
    pub(super) stacktrace_depth: u32,
    /// Labels of one sample.
    pub(super) sample_labels: u32,
    /// Longer strings keep their tail, bytes.
    pub(super) symbol_bytes: u32,
}

/// What the message has beside its columns; what the checks ask.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Ids of the rows of [`Profile::mappings`].
    pub(super) mapping_ids: Vec<u32>,
    /// Ids of the rows of [`Profile::functions`].
    pub(super) function_ids: Vec<u32>,
    /// Ids of the rows of [`Profile::locations`].
    pub(super) location_ids: Vec<u32>,
    /// Number of values of the first sample; others may differ only with `values_differ`.
    pub(super) values_of_first: Option<u32>,
    /// Two samples have different numbers of values.
    pub(super) values_differ: bool,
    /// Labels of the first sample that has more than the limit.
    pub(super) sample_labels_over: Option<u32>,
    /// Greatest string index that a label uses.
    pub(super) label_string_max: u32,
    /// First string that is not UTF-8; it reads as empty.
    pub(super) utf8_invalid: Option<Span>,
    /// The first string is not the empty one.
    pub(super) string_zero_is_not_empty: bool,
}

impl Facts {
    fn clear(&mut self) {
        let Self { mapping_ids, function_ids, location_ids, .. } = std::mem::take(self);
        *self = Self { mapping_ids, function_ids, location_ids, ..Self::default() };
        self.mapping_ids.clear();
        self.function_ids.clear();
        self.location_ids.clear();
    }

    pub(super) fn bytes_held(&self) -> usize {
        size_of::<u32>()
            * (self.mapping_ids.capacity()
                + self.function_ids.capacity()
                + self.location_ids.capacity())
    }
}

/// Decodes one message after another.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) facts: Facts,
    limits: DecodeLimits,
    secret: HashSecret,
    wide: WideIds,
    last_stack: LastStack,
    at: usize,
}

/// The packed ids decoded last: where they lie in the message, and where they end in the column.
#[derive(Clone, Copy, Debug, Default)]
struct LastStack {
    start: usize,
    end: usize,
    ids_end: usize,
}

impl Decoder {
    pub(super) fn new(secret: HashSecret) -> Self {
        Self {
            facts: Facts::default(),
            limits: DecodeLimits::default(),
            secret,
            wide: WideIds::default(),
            last_stack: LastStack::default(),
            at: 0,
        }
    }

    /// Prepares for the message that `profile.bytes` will hold.
    pub(super) fn begin(&mut self, limits: DecodeLimits) {
        self.limits = limits;
        self.facts.clear();
        self.wide.clear();
        self.last_stack = LastStack::default();
        self.at = 0;
    }

    pub(super) fn bytes_held(&self) -> usize {
        self.facts.bytes_held() + self.wide.bytes_held()
    }

    /// Decodes top-level fields of `profile.bytes` into the columns while the budget lasts.
    #[inline(never)] // its loops have the registers to themselves: 3 % of an intake
    pub(super) fn step(
        &mut self,
        profile: &mut Profile,
        budget: &mut i64,
    ) -> Result<Step, WireError> {
        let bytes = std::mem::take(&mut profile.bytes);
        let before = self.at;
        let ended = self.fields(&bytes, profile, *budget / DECODE_COST);
        *budget -= (self.at - before) as i64 * DECODE_COST;
        profile.bytes = bytes;
        ended
    }

    fn fields(
        &mut self,
        bytes: &[u8],
        profile: &mut Profile,
        bytes_max: i64,
    ) -> Result<Step, WireError> {
        let stop = self.at.saturating_add(usize::try_from(bytes_max).unwrap_or(0));
        let mut message = Reader::new(bytes, self.at);
        // Rows of one kind stand together in all that writers write: a loop each, tried in the order of their number.
        while !message.is_empty() {
            while message.at() <= stop && message.take(bytes_tag(6)) {
                self.string(message.message()?, profile);
            }
            while message.at() <= stop && message.take(bytes_tag(2)) {
                self.sample(bytes, message.message()?, profile)?;
            }
            while message.at() <= stop && message.take(bytes_tag(4)) {
                self.location(message.message()?, profile)?;
            }
            while message.at() <= stop && message.take(bytes_tag(5)) {
                self.function(message.message()?, profile)?;
            }
            if message.at() > stop {
                self.at = message.at();
                return Ok(Step::More);
            }
            if !message.is_empty() {
                message = self.rare_field(message, profile)?;
            }
        }
        self.at = bytes.len();
        if profile.stack_starts.is_empty() {
            profile.stack_starts.push(0);
            profile.label_starts.push(0);
        }
        Ok(Step::Done)
    }

    #[inline(never)]
    fn rare_field<'a>(
        &mut self,
        mut message: Reader<'a>,
        profile: &mut Profile,
    ) -> Result<Reader<'a>, WireError> {
        if message.take(bytes_tag(3)) {
            self.mapping(message.message()?, profile)?;
        } else if message.take(bytes_tag(1)) {
            let mut sample_type = ValueType::default();
            value_type(message.message()?, &mut sample_type)?;
            profile.sample_types.push(sample_type);
        } else if message.take(bytes_tag(11)) {
            value_type(message.message()?, profile.period_type.get_or_insert_default())?;
        } else if message.take(varint_tag(9)) {
            profile.time_ns = message.varint()?.cast_signed();
        } else if message.take(varint_tag(10)) {
            profile.duration_ns = message.varint()?.cast_signed();
        } else if message.take(varint_tag(12)) {
            profile.period = message.varint()?.cast_signed();
        } else if !matches!(message.rest(), [tag, ..] if COMMON_TAGS.contains(&u64::from(*tag))) {
            message = message.skipped(&[1, 2, 3, 4, 5, 6, 9, 10, 11, 12])?;
        }
        Ok(message)
    }

    #[inline(never)]
    fn string(&mut self, text: Reader<'_>, profile: &mut Profile) {
        let (mut start, mut bytes) = (text.at(), text.rest());
        let bytes_max = self.limits.symbol_bytes as usize;
        if bytes_max > 0 && bytes.len() > bytes_max {
            (start, bytes) = tail(start, bytes, bytes_max);
        }
        if profile.strings.is_empty() && !bytes.is_empty() {
            self.facts.string_zero_is_not_empty = true;
        }
        let mut row = Span { start: start as u32, len: bytes.len() as u32 };
        if !is_ascii(bytes) && std::str::from_utf8(bytes).is_err() {
            self.facts.utf8_invalid.get_or_insert(row);
            row.len = 0;
        }
        profile.strings.push(row);
    }

    #[inline(never)]
    fn sample(
        &mut self,
        bytes: &[u8],
        mut message: Reader<'_>,
        profile: &mut Profile,
    ) -> Result<(), WireError> {
        let Profile { stack_starts, stack_locations, values, label_starts, labels, .. } = profile;
        if stack_starts.is_empty() {
            stack_starts.push(0);
            label_starts.push(0);
        }
        let (stack_start, values_start) = (stack_locations.len(), values.len());
        let mut labels_count = 0;
        while !message.is_empty() {
            let before = message.at();
            if message.take(bytes_tag(1)) {
                self.stack(bytes, message.message()?, stack_locations)?;
            }
            if message.take(bytes_tag(2)) {
                varints_of(bytes, message.message()?, |value| values.push(value.cast_signed()))?;
            }
            while message.take(bytes_tag(3)) {
                labels_count += 1;
                let label = string_label(message.message()?)?;
                let string_max = label.key.max(label.value);
                self.facts.label_string_max = self.facts.label_string_max.max(string_max);
                if label.value != 0 {
                    labels.push(label);
                }
            }
            if message.take(varint_tag(1)) {
                stack_locations.push(self.wide.narrow(message.varint()?, &self.secret));
            }
            if message.take(varint_tag(2)) {
                values.push(message.varint()?.cast_signed());
            }
            if message.at() == before {
                message = message.skipped(&[1, 2, 3])?;
            }
        }
        if cut_at_leaf(stack_locations, stack_start, self.limits.stacktrace_depth) {
            self.last_stack = LastStack::default();
        }
        let labels_max = self.limits.sample_labels;
        if labels_max > 0 && labels_count > labels_max {
            self.facts.sample_labels_over.get_or_insert(labels_count);
        }
        let values_count = (values.len() - values_start) as u32;
        if *self.facts.values_of_first.get_or_insert(values_count) != values_count {
            self.facts.values_differ = true;
        }
        stack_starts.push(stack_locations.len() as u32);
        label_starts.push(labels.len() as u32);
        Ok(())
    }

    /// Appends the packed ids of one stack. What it has in common with the stack before is copied, not decoded.
    fn stack(
        &mut self,
        whole: &[u8],
        ids: Reader<'_>,
        stack_locations: &mut Vec<u32>,
    ) -> Result<(), WireError> {
        let (start, bytes) = (ids.at(), ids.rest());
        let end = start + bytes.len();
        let LastStack { start: last_start, end: last_end, ids_end } = self.last_stack;
        let (tail_bytes, tail_ids) = common_tail(bytes, &whole[last_start..last_end]);
        let own = &bytes[..bytes.len() - tail_bytes];
        let narrow = |id| self.wide.narrow(id, &self.secret);
        packed_numbers(own, end - tail_bytes, stack_locations, narrow)?;
        stack_locations.extend_from_within(ids_end - tail_ids..ids_end);
        self.last_stack = LastStack { start, end, ids_end: stack_locations.len() };
        Ok(())
    }

    #[inline(never)]
    fn location(
        &mut self,
        mut message: Reader<'_>,
        profile: &mut Profile,
    ) -> Result<(), WireError> {
        let mut row = Location { lines_start: profile.lines.len() as u32, ..Location::default() };
        let mut id = 0;
        while !message.is_empty() {
            let before = message.at();
            if message.take(varint_tag(1)) {
                id = self.wide.narrow(message.varint()?, &self.secret);
            }
            if message.take(varint_tag(2)) {
                row.mapping = self.wide.narrow(message.varint()?, &self.secret);
            }
            if message.take(varint_tag(3)) {
                row.address = message.varint()?;
            }
            while message.take(bytes_tag(4)) {
                let line = self.line(message.message()?)?;
                profile.lines.push(line);
                row.lines_count += 1;
            }
            if message.take(varint_tag(5)) {
                row.is_folded = message.varint()? != 0;
            }
            if message.at() == before {
                message = message.skipped(&[1, 2, 3, 4, 5])?;
            }
        }
        self.facts.location_ids.push(id);
        profile.locations.push(row);
        Ok(())
    }

    #[inline]
    fn line(&mut self, mut message: Reader<'_>) -> Result<Line, WireError> {
        let mut row = Line::default();
        while !message.is_empty() {
            let before = message.at();
            if message.take(varint_tag(1)) {
                row.function = self.wide.narrow(message.varint()?, &self.secret);
            }
            if message.take(varint_tag(2)) {
                row.line = message.varint()?.cast_signed();
            }
            if message.at() == before {
                message = message.skipped(&[1, 2])?;
            }
        }
        Ok(row)
    }

    #[inline(never)]
    fn function(
        &mut self,
        mut message: Reader<'_>,
        profile: &mut Profile,
    ) -> Result<(), WireError> {
        let (mut id, mut row) = (0, Function::default());
        while !message.is_empty() {
            let before = message.at();
            if message.take(varint_tag(1)) {
                id = self.wide.narrow(message.varint()?, &self.secret);
            }
            if message.take(varint_tag(2)) {
                row.name = string_index(message.varint()?);
            }
            if message.take(varint_tag(3)) {
                row.system_name = string_index(message.varint()?);
            }
            if message.take(varint_tag(4)) {
                row.filename = string_index(message.varint()?);
            }
            if message.take(varint_tag(5)) {
                row.start_line = message.varint()?.cast_signed();
            }
            if message.at() == before {
                message = message.skipped(&[1, 2, 3, 4, 5])?;
            }
        }
        self.facts.function_ids.push(id);
        profile.functions.push(row);
        Ok(())
    }

    #[inline(never)]
    fn mapping(&mut self, mut message: Reader<'_>, profile: &mut Profile) -> Result<(), WireError> {
        let (mut id, mut row) = (0, Mapping::default());
        while let &[tag, ..] = message.rest() {
            let tag = u64::from(tag);
            if !(varint_tag(1)..=varint_tag(10)).contains(&tag) || tag & 7 != 0 {
                message = message.skipped(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])?;
                continue;
            }
            message.take(tag);
            let value = message.varint()?;
            match tag >> 3 {
                1 => id = self.wide.narrow(value, &self.secret),
                2 => row.memory_start = value,
                3 => row.memory_limit = value,
                4 => row.file_offset = value,
                5 => row.filename = string_index(value),
                6 => row.build_id = string_index(value),
                7 => row.has_functions = value != 0,
                8 => row.has_filenames = value != 0,
                9 => row.has_line_numbers = value != 0,
                _ => row.has_inline_frames = value != 0,
            }
        }
        self.facts.mapping_ids.push(id);
        profile.mappings.push(row);
        Ok(())
    }
}

fn value_type(mut message: Reader<'_>, row: &mut ValueType) -> Result<(), WireError> {
    while !message.is_empty() {
        let before = message.at();
        if message.take(varint_tag(1)) {
            row.kind = string_index(message.varint()?);
        }
        if message.take(varint_tag(2)) {
            row.unit = string_index(message.varint()?);
        }
        if message.at() == before {
            message = message.skipped(&[1, 2])?;
        }
    }
    Ok(())
}

/// A label's key and string; of a numeric label the string is 0.
#[inline]
fn string_label(mut message: Reader<'_>) -> Result<SampleLabel, WireError> {
    let mut row = SampleLabel::default();
    while !message.is_empty() {
        let before = message.at();
        if message.take(varint_tag(1)) {
            row.key = string_index(message.varint()?);
        }
        if message.take(varint_tag(2)) {
            row.value = string_index(message.varint()?);
        }
        if message.take(varint_tag(3)) || message.take(varint_tag(4)) {
            message.varint()?;
        }
        if message.at() == before {
            message = message.skipped(&[1, 2, 3, 4])?;
        }
    }
    Ok(row)
}

/// An index into the string table; negative and enormous ones become [`BEYOND`], which no table reaches.
#[inline]
fn string_index(value: u64) -> u32 {
    value.min(u64::from(BEYOND)) as u32
}

/// Whether all bytes are ASCII, as most symbols are; a quarter of the time that `from_utf8` takes for their lengths.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks();
    let words = words.iter().fold(0, |all, word| all | u64::from_le_bytes(*word));
    let rest = rest.iter().fold(0, |all, byte| all | byte);
    words & 0x8080_8080_8080_8080 == 0 && rest < 0x80
}

/// Keeps the last `bytes_max` bytes, less the rest of a character that begins before them.
fn tail(start: usize, bytes: &[u8], bytes_max: usize) -> (usize, &[u8]) {
    let mut from = bytes.len() - bytes_max;
    while from < bytes.len() && bytes[from] & 0xc0 == 0x80 {
        from += 1;
    }
    (start + from, &bytes[from..])
}

/// Keeps the `depth_max` locations nearest the root of the stack that begins at `start` and ends the column.
/// Whether there were more.
fn cut_at_leaf(stack_locations: &mut Vec<u32>, start: usize, depth_max: u32) -> bool {
    let depth = stack_locations.len() - start;
    let cut = depth_max > 0 && depth > depth_max as usize;
    if cut {
        stack_locations.drain(start..start + depth - depth_max as usize);
    }
    cut
}

#[cfg(test)]
mod tests;
