//! A profile that many pushes share, and what each of them adds to it.
//!
//! Fields of a protobuf message may stand in any order and repeated ones anywhere, and of equal fields the last counts: so a
//! push's own sample, its leaf and its time stand behind the profile as it was.

use flate2::Compression;
use prost::Message;
use proto::pprof::{Line, Profile};

use crate::gzip::Opening;
use crate::wire;

/// Frames below a push's leaf: few, so that the stack costs the server one node and no rule for deep stacks touches it.
const FRAMES_BELOW_LEAF: usize = 6;

/// What the name of a push's leaf begins with; its number follows.
const LEAF_PREFIX: &str = "push_";

/// Fields of `google.v1.Profile` and what is in it, as far as pushes write them.
mod field {
    pub(super) const PROFILE_SAMPLE: u8 = 2;
    pub(super) const PROFILE_LOCATION: u8 = 4;
    pub(super) const PROFILE_FUNCTION: u8 = 5;
    pub(super) const PROFILE_STRING: u8 = 6;
    pub(super) const PROFILE_TIME: u8 = 9;
    pub(super) const SAMPLE_LOCATION: u8 = 1;
    pub(super) const SAMPLE_VALUE: u8 = 2;
    pub(super) const ID: u8 = 1;
    pub(super) const LOCATION_LINE: u8 = 4;
    pub(super) const LINE_FUNCTION: u8 = 1;
    pub(super) const FUNCTION_NAME: u8 = 2;
}

/// A profile made ready to be sent any number of times.
#[derive(Debug)]
pub struct Template {
    /// Its first bytes, compressed.
    pub opening: Opening,
    /// The profile as it is in the file, for whoever wants to know what it says.
    pub message: Vec<u8>,
    /// Locations under the leaf of a push, leaf side first.
    below_leaf: Vec<u64>,
    columns_count: usize,
    location_id: u64,
    function_id: u64,
    string_row: u64,
}

impl Template {
    /// Makes a plain pprof message ready.
    pub fn new(message: Vec<u8>) -> Result<Self, String> {
        let profile = Profile::decode(message.as_slice()).map_err(|error| error.to_string())?;
        if profile.sample_type.is_empty() {
            return Err("the profile has no sample types".to_owned());
        }
        let below_leaf = profile.sample.first().map_or(&[][..], |sample| &sample.location_id);
        let from = below_leaf.len().saturating_sub(FRAMES_BELOW_LEAF);
        let next = |ids: Option<u64>| ids.unwrap_or(0).checked_add(1).ok_or("ids are used up");
        Ok(Self {
            opening: Opening::new(&message, Compression::default()),
            below_leaf: below_leaf[from..].to_vec(),
            columns_count: profile.sample_type.len(),
            location_id: next(profile.location.iter().map(|location| location.id).max())?,
            function_id: next(profile.function.iter().map(|function| function.id).max())?,
            string_row: profile.string_table.len() as u64,
            message,
        })
    }

    /// Locations under the leaf of a push, leaf side first.
    pub fn below_leaf(&self) -> &[u64] {
        &self.below_leaf
    }

    /// Appends what push `number` adds: its sample, leaf and time. `out` may hold samples of its own already.
    pub fn add_own(&self, number: u64, time_ns: i64, out: &mut Vec<u8>) {
        let Self { location_id, function_id, string_row, .. } = *self;
        let mut part = Vec::with_capacity(64);
        let stack = std::iter::once(location_id).chain(self.below_leaf.iter().copied());
        wire::packed_field(&mut part, field::SAMPLE_LOCATION, stack);
        let values =
            (0..self.columns_count).map(|column| leaf_value(number, column).cast_unsigned());
        wire::packed_field(&mut part, field::SAMPLE_VALUE, values);
        wire::bytes_field(out, field::PROFILE_SAMPLE, &part);

        part.clear();
        let line = Line { function_id, line: 0 }.encode_to_vec();
        debug_assert_eq!(line[0] >> 3, field::LINE_FUNCTION, "a line is its function");
        wire::number_field(&mut part, field::ID, location_id);
        wire::bytes_field(&mut part, field::LOCATION_LINE, &line);
        wire::bytes_field(out, field::PROFILE_LOCATION, &part);

        part.clear();
        wire::number_field(&mut part, field::ID, function_id);
        wire::number_field(&mut part, field::FUNCTION_NAME, string_row);
        wire::bytes_field(out, field::PROFILE_FUNCTION, &part);

        wire::bytes_field(out, field::PROFILE_STRING, leaf_name(number).as_bytes());
        wire::number_field(out, field::PROFILE_TIME, time_ns.cast_unsigned());
    }

    /// Appends a sample of locations (leaf first) and values.
    pub fn add_sample(
        out: &mut Vec<u8>,
        locations: impl Iterator<Item = u64> + Clone,
        values: impl Iterator<Item = u64> + Clone,
    ) {
        let packed_len = |bytes: usize| 1 + wire::varint_len(bytes as u64) + bytes;
        let locations_len = locations.clone().map(wire::varint_len).sum();
        let values_len = values.clone().map(wire::varint_len).sum();
        let len = packed_len(locations_len) + packed_len(values_len);
        wire::bytes_field_head(out, field::PROFILE_SAMPLE, len);
        wire::packed_field(out, field::SAMPLE_LOCATION, locations);
        wire::packed_field(out, field::SAMPLE_VALUE, values);
    }
}

/// Name of the leaf that only push `number` has: what was stored can be counted by it.
pub fn leaf_name(number: u64) -> String {
    format!("{LEAF_PREFIX}{number}")
}

/// The push whose leaf has this name.
pub fn number_of_leaf(name: &str) -> Option<u64> {
    name.strip_prefix(LEAF_PREFIX)?.parse().ok()
}

/// Value of push `number`'s leaf in a column: above 1, so that a push counted twice and a value that changed look different, and
/// another one in each of four columns, so that columns mixed up show.
pub fn leaf_value(number: u64, column: usize) -> i64 {
    1_009 + i64::try_from(number % 9_973 * 4).expect("below 2^16") + (column % 4) as i64
}
