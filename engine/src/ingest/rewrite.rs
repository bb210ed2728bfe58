//! What is put right in a pprof of some older agents before it travels on: scripting languages' function names, .NET's ids.
//!
//! Works on the encoded message, field by field: what needs no change is copied as it is. The owner of the partition checks
//! the result like any other profile, so bytes that do not read as a pprof are left alone here.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::map_bytes;
use super::pprof_writer::field;
use super::wire::{Field, Value, next_field, put_bytes, put_number};
use crate::profile::Step;
use crate::profile::wire::WireError;

/// What to put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rewrite {
    /// `<file> <function>` in place of `<function>`: these languages have many functions of one name.
    FileInName {
        /// A function of a file with an absolute path keeps its name.
        unless_absolute: bool,
    },
    /// Functions whose ids are all 0 get those of the locations beside them; `-` in sample types becomes `_`.
    Dotnet,
}

impl Rewrite {
    /// What a spy's profiles need; `has_dotnet_config` tells a .NET agent that gives no spy name.
    pub(super) fn of_spy(spy_name: &str, has_dotnet_config: bool) -> Option<Self> {
        match spy_name {
            "pyspy" => Some(Self::FileInName { unless_absolute: true }),
            "rbspy" | "scripting" => Some(Self::FileInName { unless_absolute: false }),
            "dotnetspy" => Some(Self::Dotnet),
            "unknown" if has_dotnet_config => Some(Self::Dotnet),
            _ => None,
        }
    }
}

/// Bytes of a nested message that is looked into, which happens in one go: a location of a thousand inlined lines has so many.
/// A longer one is left to the owner, and with it the whole message.
const NESTED_BYTES_MAX: usize = 16 << 10;

/// Strings, functions and locations noted of one message, 40 bytes each at most. The profile size limit allows so many only
/// where it was raised far.
const ROWS_MAX: usize = 4 << 20;

/// Why a message was not rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RewriteError {
    /// It does not read as a pprof.
    Malformed,
    /// It is larger than a profile may be, or would be with the new names.
    TooLarge,
}

impl From<WireError> for RewriteError {
    fn from(_: WireError) -> Self {
        Self::Malformed // where and why is told by the owner, which reads it again
    }
}

/// Work of one step, in units of a byte copied, about a nanosecond.
const STEP_WORK: usize = 512 << 10;
/// A field, beside its bytes.
const FIELD_WORK: usize = 60;
/// A location that is taken apart, and whose functions may be new.
const LOCATION_WORK: usize = 600;

/// A message on its way through two passes: the first finds functions and strings, the second copies.
#[derive(Debug)]
pub(super) struct RewritePass {
    rewrite: Rewrite,
    message: Bytes,
    bytes_max: usize,
    found: Found,
    copying: bool,
    at: usize,
    out: Vec<u8>,
    new: NewFunctions,
    /// Rows passed while copying.
    strings_passed: usize,
    functions_passed: usize,
}

/// Where things are in the message.
#[derive(Debug, Default)]
struct Found {
    strings: Vec<Range<u32>>,
    functions: Vec<Range<u32>>,
    /// Row by id; of equal ids the last.
    function_rows: BTreeMap<u64, usize>,
    function_id_max: u64,
    location_ids: Vec<u64>,
    sample_type_rows: Vec<u64>,
}

#[derive(Debug, Default)]
struct NewFunctions {
    /// New id by row of the function it stands for; `None` keeps it.
    by_row: BTreeMap<usize, Option<u64>>,
    /// New id by rows of file and name. By rows, not by their text: each entry then adds its text to the message, and the
    /// message's limit bounds what composing costs.
    by_name: BTreeMap<(u64, u64), u64>,
    /// Their encoded functions and strings, in order of the strings' rows.
    encoded: Vec<u8>,
}

impl RewritePass {
    /// Begins on a plain (not gzip'd) message.
    pub(super) fn new(rewrite: Rewrite, message: Bytes, bytes_max: usize) -> Self {
        Self {
            rewrite,
            message,
            bytes_max,
            found: Found::default(),
            copying: false,
            at: 0,
            out: Vec::new(),
            new: NewFunctions::default(),
            strings_passed: 0,
            functions_passed: 0,
        }
    }

    /// Goes on for about a millisecond.
    pub(super) fn step(&mut self) -> Result<Step, RewriteError> {
        // Before anything is noted: what is noted of a message may be larger than it is.
        if self.message.len() > self.bytes_max.min(u32::MAX as usize) {
            return Err(RewriteError::TooLarge);
        }
        let message = self.message.clone();
        let mut work = 0;
        while work < STEP_WORK {
            let mut rest = &message[self.at..];
            let Some(field) = next_field(&mut rest)? else {
                if self.copying {
                    self.out.extend_from_slice(&self.new.encoded);
                    return Ok(Step::Done);
                }
                self.copying = true;
                self.at = 0;
                continue;
            };
            let end = message.len() - rest.len();
            if self.copying {
                self.copy(field)?;
                if self.out.len() + self.new.encoded.len() > self.bytes_max {
                    return Err(RewriteError::TooLarge);
                }
            } else {
                self.found.note(field, end)?;
            }
            self.at = end;
            let is_location = self.copying && field.number == field::LOCATION;
            work += field.raw.len() + if is_location { LOCATION_WORK } else { FIELD_WORK };
        }
        Ok(Step::More)
    }

    /// Heap bytes held beside the message.
    pub(super) fn bytes_held(&self) -> usize {
        self.found.bytes_held()
            + self.new.encoded.capacity()
            + map_bytes(&self.new.by_row)
            + map_bytes(&self.new.by_name)
            + self.out.capacity()
    }

    /// The rewritten message.
    pub(super) fn finish(self) -> Bytes {
        self.out.into()
    }

    fn copy(&mut self, field: Field<'_>) -> Result<(), RewriteError> {
        match (field.number, field.value, self.rewrite) {
            (field::LOCATION, Value::Bytes(location), Rewrite::FileInName { unless_absolute }) => {
                self.copy_location(location, unless_absolute)
            }
            (field::FUNCTION, Value::Bytes(function), Rewrite::Dotnet) => {
                let row = self.functions_passed;
                self.functions_passed += 1;
                self.copy_function(row, function, field.raw);
                Ok(())
            }
            (field::STRING_TABLE, Value::Bytes(text), Rewrite::Dotnet) => {
                let row = self.strings_passed as u64;
                self.strings_passed += 1;
                if self.found.sample_type_rows.contains(&row) && text.contains(&b'-') {
                    let text: Vec<u8> =
                        text.iter().map(|b| if *b == b'-' { b'_' } else { *b }).collect();
                    put_bytes(&mut self.out, field::STRING_TABLE, &text);
                } else {
                    self.out.extend_from_slice(field.raw);
                }
                Ok(())
            }
            _ => {
                self.out.extend_from_slice(field.raw);
                Ok(())
            }
        }
    }

    fn copy_function(&mut self, row: usize, function: &[u8], raw: &[u8]) {
        let ids_are_missing = self.found.function_rows.keys().all(|id| *id == 0)
            && self.found.functions.len() == self.found.location_ids.len();
        if !ids_are_missing {
            self.out.extend_from_slice(raw);
            return;
        }
        let mut numbered = function.to_vec();
        put_number(&mut numbered, 1, self.found.location_ids[row]); // the last of equal fields counts
        put_bytes(&mut self.out, field::FUNCTION, &numbered);
    }

    fn copy_location(
        &mut self,
        location: &[u8],
        unless_absolute: bool,
    ) -> Result<(), RewriteError> {
        let mut copied = Vec::with_capacity(location.len() + 8);
        let mut rest = location;
        while let Some(field) = next_field(&mut rest)? {
            match (field.number, field.value) {
                (4, Value::Bytes(line)) => {
                    put_bytes(&mut copied, 4, &self.copied_line(line, unless_absolute)?);
                }
                _ => copied.extend_from_slice(field.raw),
            }
        }
        put_bytes(&mut self.out, field::LOCATION, &copied);
        Ok(())
    }

    fn copied_line(&mut self, line: &[u8], unless_absolute: bool) -> Result<Vec<u8>, RewriteError> {
        let function_id = number(line, 1)?;
        let mut copied = line.to_vec();
        // A line of an unknown function stays for the owner to refuse.
        if let Some(row) = self.found.function_rows.get(&function_id).copied()
            && let Some(id) = self.renamed(row, unless_absolute)?
        {
            put_number(&mut copied, 1, id); // the last of equal fields counts
        }
        Ok(copied)
    }

    /// Id of the function that stands for `row` under its new name; `None` where the name stays.
    fn renamed(&mut self, row: usize, unless_absolute: bool) -> Result<Option<u64>, RewriteError> {
        if let Some(known) = self.new.by_row.get(&row) {
            return Ok(*known);
        }
        let function = self.bytes(&self.found.functions[row]);
        let (name_row, file_row) = (number(function, 2)?, number(function, 4)?);
        let id = if unless_absolute && self.string(file_row)?.starts_with(b"/") {
            None
        } else {
            Some(self.function_named(file_row, name_row, row)?)
        };
        self.new.by_row.insert(row, id);
        Ok(id)
    }

    /// Id of the new function named after file and name, made of the function at `row` where there is none yet.
    fn function_named(
        &mut self,
        file_row: u64,
        name_row: u64,
        row: usize,
    ) -> Result<u64, RewriteError> {
        if let Some(id) = self.new.by_name.get(&(file_row, name_row)) {
            return Ok(*id);
        }
        let (file, name) = (self.string(file_row)?, self.string(name_row)?);
        // Before composing: few functions may share long names.
        if self.out.len() + self.new.encoded.len() + file.len() + name.len() > self.bytes_max {
            return Err(RewriteError::TooLarge);
        }
        let name = [file, b" ", name].concat();
        let mut function = self.bytes(&self.found.functions[row]).to_vec();
        let count = self.new.by_name.len() as u64;
        let id =
            self.found.function_id_max.checked_add(count + 1).ok_or(RewriteError::Malformed)?;
        put_number(&mut function, 1, id);
        put_number(&mut function, 2, self.found.strings.len() as u64 + count);
        put_bytes(&mut self.new.encoded, field::STRING_TABLE, &name);
        put_bytes(&mut self.new.encoded, field::FUNCTION, &function);
        self.new.by_name.insert((file_row, name_row), id);
        Ok(id)
    }

    fn string(&self, row: u64) -> Result<&[u8], RewriteError> {
        let row = usize::try_from(row).map_err(|_| RewriteError::Malformed)?;
        Ok(self.bytes(self.found.strings.get(row).ok_or(RewriteError::Malformed)?))
    }

    fn bytes(&self, span: &Range<u32>) -> &[u8] {
        &self.message[span.start as usize..span.end as usize]
    }
}

impl Found {
    /// `end` is where the field ends in the message.
    fn note(&mut self, field: Field<'_>, end: usize) -> Result<(), RewriteError> {
        let Value::Bytes(bytes) = field.value else {
            return Ok(());
        };
        let is_looked_into =
            matches!(field.number, field::SAMPLE_TYPE | field::LOCATION | field::FUNCTION);
        if is_looked_into && bytes.len() > NESTED_BYTES_MAX {
            return Err(RewriteError::Malformed);
        }
        if self.strings.len() + self.functions.len() + self.location_ids.len() == ROWS_MAX {
            return Err(RewriteError::TooLarge);
        }
        let span = (end - bytes.len()) as u32..end as u32;
        match field.number {
            field::SAMPLE_TYPE if self.sample_type_rows.len() < SAMPLE_TYPES_MAX => {
                self.sample_type_rows.push(number(bytes, 1)?);
            }
            field::STRING_TABLE => self.strings.push(span),
            field::LOCATION => self.location_ids.push(number(bytes, 1)?),
            field::FUNCTION => {
                let id = number(bytes, 1)?;
                self.function_id_max = self.function_id_max.max(id);
                self.function_rows.insert(id, self.functions.len());
                self.functions.push(span);
            }
            _ => {}
        }
        Ok(())
    }

    fn bytes_held(&self) -> usize {
        (self.strings.capacity() + self.functions.capacity()) * size_of::<Range<u32>>()
            + map_bytes(&self.function_rows)
            + (self.location_ids.capacity() + self.sample_type_rows.capacity()) * size_of::<u64>()
    }
}

/// Sample types looked at: .NET's agent sends nine.
const SAMPLE_TYPES_MAX: usize = 64;

/// The last varint field of this number; 0 when absent.
fn number(message: &[u8], wanted: u64) -> Result<u64, WireError> {
    let mut rest = message;
    let mut number = 0;
    while let Some(field) = next_field(&mut rest)? {
        if let (true, Value::Varint(value)) = (field.number == wanted, field.value) {
            number = value;
        }
    }
    Ok(number)
}
