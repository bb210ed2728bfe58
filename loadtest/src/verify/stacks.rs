//! Stacks as numbers: equal names make equal keys, whichever message they were read from.

use proto::pprof::{Location, Profile};

use crate::random::mix;

/// Frames of a Go stack that are compared, from the leaf. Servers give Go stacks that the runtime cut their missing part back: what
/// they append stands at the root side of stacks of at least 24 locations, so these frames are never touched.
const GO_FRAMES: usize = 23;

/// What type parameters begin with that servers leave out of Go names.
const GO_SHAPE: &str = "[go.shape.";

/// Stands for a stack: 128 bits of its names. Collisions are not expected among fewer than 2^50 stacks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct StackKey(u64, u64);

impl StackKey {
    /// Of names by their hashes, leaf first.
    pub(super) fn of(names: impl Iterator<Item = u64>) -> Self {
        names.fold(Self(0, 0), |Self(one, two), name| {
            Self(mix(one ^ name), mix(two.rotate_left(17) ^ name.wrapping_mul(3)))
        })
    }
}

/// A number that stands for a name.
pub(super) fn name_hash(name: &str) -> u64 {
    let seed = name.len() as u64;
    name.as_bytes().chunks(8).fold(seed, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash.rotate_left(5) ^ u64::from_le_bytes(word))
    })
}

/// Reads stacks of one profile.
#[derive(Debug)]
pub(super) struct Stacks<'a> {
    profile: &'a Profile,
    is_go: bool,
    /// By location id, sorted: rows of functions, leaf first.
    frames_of: Vec<(u64, Vec<Frame>)>,
}

/// A frame: the hash of its name and where the name stands (0, the empty text, for a frame that has an address alone).
#[derive(Clone, Copy, Debug)]
struct Frame {
    hash: u64,
    name: usize,
}

impl<'a> Stacks<'a> {
    /// `is_go`: whether stacks are compared as those of Go programs.
    pub(super) fn new(profile: &'a Profile, is_go: bool) -> Self {
        let mut names: Vec<(u64, i64)> = profile.function.iter().map(|f| (f.id, f.name)).collect();
        names.sort_unstable();
        let frame = |function_id: u64| {
            let row = names.binary_search_by_key(&function_id, |(id, _)| *id).ok();
            let name = row.and_then(|row| usize::try_from(names[row].1).ok()).unwrap_or(0);
            let text = profile.string_table.get(name).map_or("", String::as_str);
            let hash = if is_go { name_hash(&without_shapes(text)) } else { name_hash(text) };
            Frame { hash, name }
        };
        let frames = |location: &Location| {
            if location.line.is_empty() {
                let address = format!("{:#x}", location.address);
                return vec![Frame { hash: name_hash(&address), name: 0 }];
            }
            location.line.iter().map(|line| frame(line.function_id)).collect()
        };
        let mut frames_of: Vec<(u64, Vec<Frame>)> =
            profile.location.iter().map(|location| (location.id, frames(location))).collect();
        frames_of.sort_unstable_by_key(|(id, _)| *id);
        Self { profile, is_go, frames_of }
    }

    /// The key of a stack of locations, leaf first.
    pub(super) fn key(&self, locations: &[u64]) -> StackKey {
        StackKey::of(self.compared(locations).map(|frame| frame.hash))
    }

    /// Hashes of the names of a stack's frames.
    pub(super) fn hashes(&self, locations: &[u64]) -> Vec<u64> {
        self.frames(locations).map(|frame| frame.hash).collect()
    }

    /// Name of the innermost frame.
    pub(super) fn leaf(&self, locations: &[u64]) -> &'a str {
        let leaf = self.frames(locations).next();
        leaf.and_then(|frame| self.profile.string_table.get(frame.name)).map_or("", String::as_str)
    }

    /// The names, leaf first, for people.
    pub(super) fn text(&self, locations: &[u64]) -> String {
        let names: Vec<&str> = self
            .compared(locations)
            .map(|frame| self.profile.string_table.get(frame.name).map_or("", String::as_str))
            .collect();
        names.join(" < ")
    }

    fn compared(&self, locations: &[u64]) -> impl Iterator<Item = Frame> {
        self.frames(locations).take(self.frames_max())
    }

    fn frames_max(&self) -> usize {
        if self.is_go { GO_FRAMES } else { usize::MAX }
    }

    fn frames(&self, locations: &[u64]) -> impl Iterator<Item = Frame> {
        locations.iter().flat_map(|id| {
            let row = self.frames_of.binary_search_by_key(id, |(id, _)| *id);
            row.map_or(&[][..], |row| &self.frames_of[row].1).iter().copied()
        })
    }
}

/// Whether a profile may be of a Go program: servers look at its texts.
pub(super) fn may_be_go(profile: &Profile) -> bool {
    let marks = [".go", "/usr/local/go/"];
    let is_mark =
        |text: &String| marks.iter().any(|mark| text.ends_with(mark) || text.starts_with(mark));
    profile.string_table.iter().any(is_mark)
}

/// A Go name without its shapes, brackets inside them included.
fn without_shapes(name: &str) -> String {
    let mut kept = String::new();
    let mut rest = name;
    while let Some(start) = rest.find(GO_SHAPE) {
        let mut open = 0_usize;
        let end = rest[start..].char_indices().find_map(|(at, letter)| {
            open += usize::from(letter == '[');
            open -= usize::from(letter == ']' && open > 0);
            (open == 0).then_some(start + at + 1)
        });
        let Some(end) = end else { break };
        kept.push_str(&rest[..start]);
        rest = &rest[end..];
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::workload::{Shape, Source, Spec, Times, Workload};

    #[test]
    fn shapes_are_left_out_of_go_names() {
        for (name, kept) in [
            ("slices.Sort[go.shape.int]", "slices.Sort"),
            ("F[go.shape.map[string][]uint8].func1[go.shape.a].g", "F.func1.g"),
            ("F[...]", "F[...]"),
            ("F[go.shape.", "F[go.shape."),
        ] {
            assert_eq!(without_shapes(name), kept);
        }
    }

    #[test]
    fn order_and_length_of_names_count() {
        let key = |names: &[&str]| StackKey::of(names.iter().map(|name| name_hash(name)));
        let keys = [key(&["a", "b"]), key(&["b", "a"]), key(&["ab"]), key(&["a"]), key(&[])];
        for (row, one) in keys.iter().enumerate() {
            assert!(keys[..row].iter().all(|other| other != one), "{row}");
        }
        assert_eq!(key(&["a", "b"]), keys[0]);
    }

    #[test]
    fn deep_go_stacks_are_compared_near_their_leaves() {
        let shape = Shape { samples: 1, depth: 1, new_share: 0.0 };
        let spec = Spec {
            source: Source::Generated(shape),
            services: 1,
            first_service: 0,
            pods: 1,
            seed: 1,
            times: Times::Sending,
        };
        let workload = Workload::new(spec).unwrap();
        let message = &workload.kinds()[0].templates[0].message;
        let profile = Profile::decode(message.as_slice()).unwrap();
        let (go, other) = (Stacks::new(&profile, true), Stacks::new(&profile, false));
        let (deep, deeper): (Vec<u64>, Vec<u64>) = ((1..=30).collect(), (1..=40).collect());
        assert_eq!(go.key(&deep), go.key(&deeper));
        assert_ne!(other.key(&deep), other.key(&deeper));
        assert_ne!(go.key(&deep[..22]), go.key(&deep));
    }
}
