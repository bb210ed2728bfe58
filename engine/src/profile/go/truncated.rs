//! Stacks that Go's runtime cut at the root get the missing part back (rule: `pkg/pprof/fix_go_truncated.go`, Pyroscope 2.2).
//!
//! The runtime keeps 32 frames of an allocation (before Go 1.23) and 64 of a cpu sample, counted from the leaf: deep recursion
//! and middleware lose their `main`, and flame graphs grow a second, meaningless set of roots. A cut stack usually shares its
//! upper part with one that is whole:
//!
//! ```text
//! whole  leaf …  e d c b a main        `c b a` stands at the root of the cut stack and below `main` of the whole one:
//! cut    leaf …  z y e d c b a         what lies above it there is appended here. Chains of such steps are followed.
//! ```
//! Compared are runs of 16 locations within the 24 nearest the root; stacks that agree in those 24 are mended alike. Where
//! several stacks could lend, the one that knows most above wins, of equals the first in the order of location ids as
//! little-endian bytes, which is Pyroscope's. So are two accidents of its sort that decide what is mended: which stack of a set
//! lends ([`super::sort_order`]), and that of its last set only stacks among the first so many are mended as there are sets.

use hashbrown::HashTable;

use super::super::decode::Facts;
use super::super::{Location, NONE, Profile, Step, part};
use super::sort_order::{self, SHORT};
use crate::hash::HashSecret;

/// Locations nearest the root that are compared; shallower stacks are neither cut nor lenders.
const SUFFIX: usize = TOKEN + SHIFTS;
/// Locations of one run that must agree.
const TOKEN: usize = 16;
/// How far above the end of a cut stack a lender may know more.
const SHIFTS: usize = 8;

/// Steps of a chain of lenders; a longer one is recursion, and the profile is left alone from there on.
const CHAIN_MAX: usize = 56;

/// Most locations that mending may add to one profile: 16 MiB. A profile within the limits gets a few thousand.
const MENDED_LOCATIONS_MAX: usize = 4 << 20;

/// Costs in units of [`super::super::intake`]'s budget, nanoseconds.
const SUFFIX_COST: i64 = 100;
const TOKENS_COST: i64 = 400;
const CHAIN_COST: i64 = 50;
/// Of a sample while all are sorted, in one go: numbers are compared, 16,000 of them in less than 2 ms.
const ORDER_COST: i64 = 60;
const CANON_COST: i64 = 60;

/// One set of stacks that agree in their last [`SUFFIX`] locations.
#[derive(Debug)]
struct Group {
    /// Sort keys of the locations, leaf to root.
    suffix: [u32; SUFFIX],
    /// The sample that stands first in it once sorted.
    lender: u32,
    /// Whether its runs are looked at when a source is sought.
    lends: bool,
    /// Where more is known, and how much.
    source: Option<Source>,
    /// Locations to append to each of the stacks: the last ones of this sample.
    missing: Option<Missing>,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    group: u32,
    more: u32,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    lender: u32,
    count: u32,
}

/// Mends one profile after another.
#[derive(Debug)]
pub(in super::super) struct Mender {
    secret: HashSecret,
    at: At,
    /// By location: its id, bytes reversed, so that numbers sort as Pyroscope's little-endian bytes do.
    sort_keys: Vec<u32>,
    groups: Vec<Group>,
    group_of_suffix: HashTable<u32>,
    /// Samples deep enough, and their groups; [`NONE`] for one that is left alone.
    deep: Vec<(u32, u32)>,
    /// By run of locations: the group where most is known above it.
    sources: HashTable<Source>,
    /// Of the groups whose chain is too long, the first in order: it and what follows it are left alone.
    recursive: Option<[u32; SUFFIX]>,
    stacks: Vec<u32>,
    starts: Vec<u32>,
}

#[derive(Debug)]
enum At {
    Start { renamed: bool },
    Canon(Box<Canon>),
    Suffixes(usize),
    Order,
    Tokens(usize),
    Sources(usize),
    Chains(usize),
    Rebuild { sample: usize, deep: usize },
    Done,
}

impl Mender {
    pub(in super::super) fn new(secret: HashSecret) -> Self {
        Self {
            secret,
            at: At::Done,
            sort_keys: Vec::new(),
            groups: Vec::new(),
            group_of_suffix: HashTable::new(),
            deep: Vec::new(),
            sources: HashTable::new(),
            recursive: None,
            stacks: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// `renamed`: functions lost their type parameters, so that locations that differed may be equal.
    pub(in super::super) fn begin(&mut self, renamed: bool) {
        self.at = At::Start { renamed };
        self.sort_keys.clear();
        self.groups.clear();
        self.group_of_suffix.clear();
        self.deep.clear();
        self.sources.clear();
        self.recursive = None;
        self.stacks.clear();
        self.starts.clear();
    }

    pub(in super::super) fn bytes_held(&self) -> usize {
        self.groups.capacity() * size_of::<Group>()
            + self.group_of_suffix.allocation_size()
            + self.sources.allocation_size()
            + self.deep.capacity() * size_of::<(u32, u32)>()
            + size_of::<u32>()
                * (self.sort_keys.capacity() + self.stacks.capacity() + self.starts.capacity())
    }

    /// Mends while the budget lasts; samples whose group is [`NONE`] are left alone.
    #[inline(never)] // its loops have the registers to themselves: 3 % of an intake
    pub(in super::super) fn step(
        &mut self,
        profile: &mut Profile,
        facts: &Facts,
        budget: &mut i64,
    ) -> Step {
        while *budget > 0 {
            self.at = match std::mem::replace(&mut self.at, At::Done) {
                At::Done => return Step::Done,
                At::Start { renamed } => {
                    *budget -= profile.samples_count() as i64;
                    if !may_be_truncated(profile) {
                        At::Done
                    } else if renamed {
                        At::Canon(Box::default())
                    } else {
                        self.sort_keys.extend(facts.location_ids.iter().map(|id| id.swap_bytes()));
                        At::Suffixes(0)
                    }
                }
                At::Canon(mut canon) => match canon.step(profile, &self.secret, budget) {
                    Step::More => At::Canon(canon),
                    Step::Done => {
                        let ranks = canon.locations.ranks.iter();
                        self.sort_keys.extend(ranks.map(|rank| (rank + 1).swap_bytes()));
                        At::Suffixes(0)
                    }
                },
                At::Suffixes(from) => {
                    let to = part(from, profile.samples_count(), budget, SUFFIX_COST);
                    (from..to).for_each(|sample| self.suffix(profile, sample));
                    if to < profile.samples_count() { At::Suffixes(to) } else { At::Order }
                }
                At::Order => {
                    self.order(profile.samples_count());
                    *budget -= profile.samples_count() as i64 * ORDER_COST;
                    At::Tokens(0)
                }
                At::Tokens(from) => {
                    let to = part(from, self.groups.len(), budget, TOKENS_COST);
                    (from..to).for_each(|group| self.tokens(group as u32));
                    if to < self.groups.len() { At::Tokens(to) } else { At::Sources(0) }
                }
                At::Sources(from) => {
                    let to = part(from, self.groups.len(), budget, SUFFIX_COST);
                    (from..to).for_each(|group| self.source(group as u32));
                    if to < self.groups.len() { At::Sources(to) } else { At::Chains(0) }
                }
                At::Chains(from) => {
                    let to = part(from, self.groups.len(), budget, CHAIN_COST);
                    (from..to).for_each(|group| self.follow_chain(profile, group, budget));
                    if to < self.groups.len() {
                        At::Chains(to)
                    } else if self.groups.iter().any(|group| group.missing.is_some()) {
                        self.starts.push(0);
                        At::Rebuild { sample: 0, deep: 0 }
                    } else {
                        At::Done
                    }
                }
                At::Rebuild { sample, deep } => self.rebuild(profile, sample, deep, budget),
            };
        }
        if matches!(self.at, At::Done) { Step::Done } else { Step::More }
    }

    /// Puts one sample into the group of its suffix.
    fn suffix(&mut self, profile: &Profile, sample: usize) {
        let stack = stack(profile, sample);
        if stack.len() < SUFFIX || profile.sample_groups[sample] == NONE {
            return;
        }
        let last: &[u32; SUFFIX] = stack.last_chunk().expect("the stack is as deep as a suffix");
        let suffix = last.map(|location| self.sort_keys[location as usize]);
        let Self { groups, secret, .. } = self;
        let next = groups.len() as u32;
        let group = *self
            .group_of_suffix
            .entry(
                hash(secret, &suffix),
                |&group| groups[group as usize].suffix == suffix,
                |&group| hash(secret, &groups[group as usize].suffix),
            )
            .or_insert(next)
            .get();
        if group == next {
            let lender = sample as u32;
            self.groups.push(Group { suffix, lender, lends: true, source: None, missing: None });
        }
        self.deep.push((sample as u32, group));
    }

    /// Sorts as Pyroscope does: that decides who lends, and which set is left alone.
    fn order(&mut self, samples_count: usize) {
        let mut groups: Vec<u32> = (0..self.groups.len() as u32).collect();
        groups.sort_unstable_by_key(|&group| self.groups[group as usize].suffix);
        let mut rank_of_group = vec![0; groups.len()];
        for (&group, rank) in groups.iter().zip(0..) {
            rank_of_group[group as usize] = rank;
        }
        let mut rank_of_sample = vec![SHORT; samples_count];
        for &(sample, group) in &self.deep {
            rank_of_sample[sample as usize] = rank_of_group[group as usize];
        }
        let mut samples: Vec<u32> = (0..samples_count as u32).collect();
        sort_order::sort(&mut samples, &rank_of_sample);
        let shallow = samples.len() - self.deep.len();
        let mut last = None;
        for (place, &sample) in samples[shallow..].iter().enumerate() {
            let rank = rank_of_sample[sample as usize];
            if last.is_none_or(|(last_rank, _)| last_rank != rank) {
                self.groups[groups[rank as usize] as usize].lender = sample;
                last = Some((rank, place));
            }
        }
        let Some((rank, place)) = last else { return };
        self.groups[groups[rank as usize] as usize].lends = place < groups.len();
        for sample in &samples[shallow + place.max(groups.len()).min(self.deep.len())..] {
            let at = self.deep.binary_search_by_key(sample, |&(sample, _)| sample);
            self.deep[at.expect("a sorted sample with a rank is a deep one")].1 = NONE;
        }
    }

    /// Enters the runs of a group: where it knows most, it is the source.
    fn tokens(&mut self, group: u32) {
        if !self.groups[group as usize].lends {
            return;
        }
        let Self { groups, secret, sources, .. } = self;
        let suffix = |source: &Source| &groups[source.group as usize].suffix;
        let run = |source: &Source| token(suffix(source), source.more);
        for more in 1..=SHIFTS as u32 {
            let new = Source { group, more };
            let known = sources
                .entry(
                    hash(secret, run(&new)),
                    |source| run(source) == run(&new),
                    |source| hash(secret, run(source)),
                )
                .or_insert(new)
                .into_mut();
            if more > known.more || (more == known.more && suffix(&new) < suffix(known)) {
                *known = new;
            }
        }
    }

    /// Looks for where more is known above the end of a group's stacks.
    fn source(&mut self, group: u32) {
        let Self { groups, secret, sources, .. } = self;
        let top = token(&groups[group as usize].suffix, 0);
        let run = |source: &Source| token(&groups[source.group as usize].suffix, source.more);
        let source = sources.find(hash(secret, top), |source| run(source) == top).copied();
        self.groups[group as usize].source = source.filter(|source| source.group != group);
    }

    /// Finds what the stacks of a group lack: its source may lack something itself.
    fn follow_chain(&mut self, profile: &Profile, group: usize, budget: &mut i64) {
        let Some(mut source) = self.groups[group].source else { return };
        let (mut count, mut steps) = (source.more, 0);
        while let Some(further) = self.groups[source.group as usize].source {
            source = further;
            count += source.more;
            steps += 1;
            if steps == CHAIN_MAX {
                let suffix = self.groups[group].suffix;
                self.recursive = Some(self.recursive.map_or(suffix, |first| first.min(suffix)));
                break;
            }
        }
        *budget -= steps as i64 * CHAIN_COST;
        let lender = self.groups[source.group as usize].lender;
        if steps < CHAIN_MAX && (count as usize) < stack(profile, lender as usize).len() {
            self.groups[group].missing = Some(Missing { lender, count });
        }
    }

    /// Copies stacks to the new columns, longer where something was missing, and puts those in place at the end.
    fn rebuild(
        &mut self,
        profile: &mut Profile,
        mut sample: usize,
        mut deep: usize,
        budget: &mut i64,
    ) -> At {
        let entries_max = profile.stack_locations.len() + MENDED_LOCATIONS_MAX;
        while sample < profile.samples_count() && *budget > 0 {
            let before = self.stacks.len();
            self.stacks.extend_from_slice(stack(profile, sample));
            if let Some((_, group)) = self.deep.get(deep).filter(|(s, _)| *s as usize == sample) {
                deep += 1;
                let group = self.groups.get(*group as usize);
                if let Some(group) = group
                    && let Some(Missing { lender, count }) = group.missing
                    && self.recursive.is_none_or(|first| group.suffix < first)
                    && self.stacks.len() < entries_max
                {
                    let lent = stack(profile, lender as usize);
                    self.stacks.extend_from_slice(&lent[lent.len() - count as usize..]);
                }
            }
            self.starts.push(self.stacks.len() as u32);
            *budget -= 10 + (self.stacks.len() - before) as i64 / 4;
            sample += 1;
        }
        if sample < profile.samples_count() {
            return At::Rebuild { sample, deep };
        }
        std::mem::swap(&mut profile.stack_locations, &mut self.stacks);
        std::mem::swap(&mut profile.stack_starts, &mut self.starts);
        At::Done
    }
}

fn stack(profile: &Profile, sample: usize) -> &[u32] {
    let range = profile.stack_starts[sample] as usize..profile.stack_starts[sample + 1] as usize;
    &profile.stack_locations[range]
}

/// The run of locations with `more` ones above it.
fn token(suffix: &[u32; SUFFIX], more: u32) -> &[u32] {
    let start = SHIFTS - more as usize;
    &suffix[start..start + TOKEN]
}

fn hash(secret: &HashSecret, run: &[u32]) -> u64 {
    let mut bytes = [0; SUFFIX * size_of::<u32>()];
    let (words, _) = bytes.as_chunks_mut();
    for (word, key) in words.iter_mut().zip(run) {
        *word = key.to_le_bytes();
    }
    secret.table(&bytes[..size_of_val(run)])
}

/// Whether stacks are as deep as the runtime lets them become: within 4 frames of its limit, for it sometimes keeps fewer.
fn may_be_truncated(profile: &Profile) -> bool {
    let has = |names: &[&[u8]]| {
        profile.sample_types.iter().any(|t| names.contains(&profile.string_bytes(t.kind)))
    };
    let heap: [&[u8]; 4] = [b"alloc_objects", b"alloc_space", b"inuse_objects", b"inuse_space"];
    let depth_max =
        profile.stack_starts.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
    if has(&heap) {
        // Deeper than 32 frames: a runtime with the limit of 128, whose stacks are whole.
        (28..33).contains(&depth_max)
    } else {
        depth_max >= 60 && has(&[b"cpu"])
    }
}

/// Which rows say the same, once names have changed: strings by text, functions by their strings, locations by their functions.
#[derive(Debug, Default)]
struct Canon {
    strings: Ranks,
    functions: Ranks,
    locations: Ranks,
    content: Vec<u8>,
}

impl Canon {
    /// Ranks rows while the budget lasts.
    fn step(&mut self, profile: &Profile, secret: &HashSecret, budget: &mut i64) -> Step {
        let Self { strings, functions, locations, content } = self;
        while *budget > 0 {
            *budget -= CANON_COST;
            content.clear();
            if let Some(row) = strings.next(profile.strings.len()) {
                strings.rank(secret.content(profile.string_bytes(row)));
            } else if let Some(row) = functions.next(profile.functions.len()) {
                let function = &profile.functions[row as usize];
                for string in [function.name, function.system_name, function.filename] {
                    content.extend_from_slice(&strings.ranks[string as usize].to_le_bytes());
                }
                content.extend_from_slice(&function.start_line.to_le_bytes());
                functions.rank(secret.content(content));
            } else if let Some(row) = locations.next(profile.locations.len()) {
                let Location { mapping, address, lines_start, lines_count, .. } =
                    profile.locations[row as usize];
                content.extend_from_slice(&mapping.to_le_bytes());
                content.extend_from_slice(&address.to_le_bytes());
                for line in &profile.lines[lines_start as usize..][..lines_count as usize] {
                    content
                        .extend_from_slice(&functions.ranks[line.function as usize].to_le_bytes());
                    content.extend_from_slice(&line.line.to_le_bytes());
                }
                locations.rank(secret.content(content));
            } else {
                return Step::Done;
            }
        }
        Step::More
    }
}

/// Contents numbered in order of appearance.
#[derive(Debug, Default)]
struct Ranks {
    rank_of_content: HashTable<(u128, u32)>,
    /// By row.
    ranks: Vec<u32>,
}

impl Ranks {
    /// The next row without a rank.
    fn next(&self, count: usize) -> Option<u32> {
        (self.ranks.len() < count).then_some(self.ranks.len() as u32)
    }

    fn rank(&mut self, content: u128) {
        let next = self.rank_of_content.len() as u32;
        let (_, rank) = *self
            .rank_of_content
            .entry(content as u64, |known| known.0 == content, |known| known.0 as u64)
            .or_insert((content, next))
            .get();
        self.ranks.push(rank);
    }
}

#[cfg(test)]
mod tests;
