//! Made-up profiles of one program: some stacks come again and again, some are new in every push.
//!
//! A stack is a number; its frames follow from it and the seed, so that nothing is kept and the oracle can say them again. The frame
//! at a depth depends on the number's upper bits only, so near numbers share their way from the root: about two new nodes
//! for each stack of the pool, five for each new one.
//!
//! ```text
//! number >> 3   number >> 2   number >> 1   number        depth 4
//! root ───────► frame ──────► frame ──────► leaf
//! ```

use prost::Message;
use proto::pprof::{Function, Line, Location, Profile, ValueType};
use serde::{Deserialize, Serialize};

use super::template::Template;
use crate::random::mix;

/// Functions that all made-up stacks are made of.
pub const FUNCTIONS: u64 = 256;

/// The first new stack; the pool's are below.
const NEW_FROM: u64 = 1 << 40;

/// Bits by which two new stacks differ at least: they part that far above their leaves.
const NEW_APART: u32 = 4;

/// Stacks of the pool for each that a profile takes from it.
const POOL_PER_SAMPLE: u64 = 4;

/// Pushes of a program after which a sample of the pool gives way to another.
const POOL_STAY: u64 = 8;

/// Most samples of a profile: what servers take by default is below.
pub const SAMPLES_MAX: u32 = 100_000;
/// Deepest stack.
pub const DEPTH_MAX: u32 = 1_000;

const SAMPLE_NANOSECONDS: u64 = 10_000_000;

/// What a made-up profile is like.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// Samples, beside the one of the push's leaf.
    pub samples: u32,
    /// Frames of each stack.
    pub depth: u32,
    /// Share of the samples whose stack no other push has.
    pub new_share: f64,
}

/// One sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drawn {
    /// Its stack.
    pub stack: u64,
    /// How often it was seen: the first column's value.
    pub count: u64,
}

impl Drawn {
    /// Values of the two columns.
    pub fn values(self) -> [u64; 2] {
        [self.count, self.count * SAMPLE_NANOSECONDS]
    }
}

/// The tables that all profiles share: types and functions, no samples.
pub(super) fn tables() -> Vec<u8> {
    let mut strings = ["", "samples", "count", "cpu", "nanoseconds"].map(str::to_owned).to_vec();
    let first = strings.len() as i64;
    strings.extend((0..FUNCTIONS).map(function_name));
    let ids = 1..=FUNCTIONS;
    Profile {
        sample_type: vec![ValueType { r#type: 1, unit: 2 }, ValueType { r#type: 3, unit: 4 }],
        period_type: Some(ValueType { r#type: 3, unit: 4 }),
        period: SAMPLE_NANOSECONDS.cast_signed(),
        string_table: strings,
        function: ids
            .clone()
            .zip(first..)
            .map(|(id, name)| Function { id, name, system_name: name, ..Function::default() })
            .collect(),
        location: ids
            .map(|id| Location {
                id,
                line: vec![Line { function_id: id, line: id.cast_signed() }],
                ..Location::default()
            })
            .collect(),
        ..Profile::default()
    }
    .encode_to_vec()
}

/// Name of the function at a row, from 0.
pub fn function_name(row: u64) -> String {
    format!("app.(*Server).handler{row:03}")
}

impl Shape {
    /// Samples of push `number`, which is the `round`-th of its program.
    pub fn samples(self, seed: u64, number: u64, round: u64) -> impl Iterator<Item = Drawn> {
        let samples = u64::from(self.samples);
        let new = (f64::from(self.samples) * self.new_share).round() as u64;
        let pool = samples * POOL_PER_SAMPLE;
        (0..samples).map(move |i| {
            let chance = mix(seed ^ mix(number) ^ i);
            let stack = if i < new {
                NEW_FROM + ((number * samples + i) << NEW_APART)
            } else {
                // Samples give way one after the other, not all at once.
                mix(seed ^ mix(i) ^ ((round + i) / POOL_STAY)) % pool
            };
            Drawn { stack, count: 1 + chance % 100 }
        })
    }

    /// Rows of a stack's functions, leaf first.
    pub fn frames(self, seed: u64, stack: u64) -> impl Iterator<Item = u64> + Clone {
        (0..self.depth).map(move |above_leaf| {
            let way = stack.checked_shr(above_leaf).unwrap_or(0);
            mix(seed ^ mix(way) ^ u64::from(above_leaf)) % FUNCTIONS
        })
    }

    /// Appends the samples of a push.
    pub(super) fn add_samples(self, seed: u64, number: u64, round: u64, out: &mut Vec<u8>) {
        for drawn in self.samples(seed, number, round) {
            let locations = self.frames(seed, drawn.stack).map(|row| row + 1);
            Template::add_sample(out, locations, drawn.values().into_iter());
        }
    }
}
