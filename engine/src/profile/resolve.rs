//! From references as sent to rows, once the whole message is known.
//!
//! What refers to nothing is no error but leaves: a location whose mapping or function does not exist, or that has neither lines
//! nor an address, and with it every sample that stands on it. Addresses of mappings with functions are cleared at the end: the
//! frames have names, and equal code at two addresses is one frame.

use super::decode::Facts;
use super::ids::RowOfId;
use super::{NONE, Profile, Step, part};

/// Cost of a location and of a stack's entry in units of [`super::intake`]'s budget, nanoseconds.
const LOCATION_COST: i64 = 8;
const STACK_ENTRY_COST: i64 = 1;

/// Makes rows of the references of one profile after another.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    locations: RowOfId,
    functions: RowOfId,
    mappings: RowOfId,
    /// Locations that refer to nothing.
    gone: Vec<bool>,
    any_gone: bool,
    at: At,
}

#[derive(Debug, Default)]
enum At {
    #[default]
    Tables,
    Location(usize),
    Sample(usize),
}

impl Resolver {
    pub(super) fn begin(&mut self) {
        self.at = At::Tables;
        self.any_gone = false;
        self.gone.clear();
    }

    pub(super) fn bytes_held(&self) -> usize {
        self.locations.bytes_held()
            + self.functions.bytes_held()
            + self.mappings.bytes_held()
            + self.gone.capacity()
    }

    /// Resolves while the budget lasts. `sample_groups` ends as long as there are samples: [`NONE`] for one that left, else 0.
    #[inline(never)] // its loops have the registers to themselves: 3 % of an intake
    pub(super) fn step(&mut self, profile: &mut Profile, facts: &Facts, budget: &mut i64) -> Step {
        loop {
            match self.at {
                At::Tables => {
                    self.mappings.build(&facts.mapping_ids);
                    self.functions.build(&facts.function_ids);
                    self.locations.build(&facts.location_ids);
                    self.gone.resize(profile.locations.len(), false);
                    profile.sample_groups.resize(profile.samples_count(), 0);
                    clear_headers(profile);
                    *budget -= profile.locations.len() as i64;
                    self.at = At::Location(0);
                }
                At::Location(from) => {
                    let to = part(from, profile.locations.len(), budget, LOCATION_COST);
                    self.locations(profile, from, to);
                    self.at = At::Location(to);
                    if to == profile.locations.len() {
                        self.at = At::Sample(0);
                    }
                }
                At::Sample(from) => {
                    let to = self.stacks(profile, from, budget);
                    self.at = At::Sample(to);
                    if to == profile.samples_count() {
                        return Step::Done;
                    }
                }
            }
            if *budget <= 0 {
                return Step::More;
            }
        }
    }

    fn locations(&mut self, profile: &mut Profile, from: usize, to: usize) {
        let Profile { locations, lines, .. } = profile;
        for (location, gone) in locations[from..to].iter_mut().zip(&mut self.gone[from..to]) {
            *gone = location.lines_count == 0 && location.address == 0;
            if location.mapping == 0 {
                location.mapping = NONE;
            } else {
                location.mapping = self.mappings.row(location.mapping);
                *gone |= location.mapping == NONE;
            }
            let start = location.lines_start as usize;
            for line in &mut lines[start..start + location.lines_count as usize] {
                line.function = self.functions.row(line.function);
                *gone |= line.function == NONE;
            }
            if *gone {
                (location.mapping, location.lines_count) = (NONE, 0);
                self.any_gone = true;
            }
        }
    }

    /// Resolves the stacks of samples from `from` on and gives the first that is left.
    fn stacks(&self, profile: &mut Profile, from: usize, budget: &mut i64) -> usize {
        let Profile { stack_starts, stack_locations, sample_groups, .. } = profile;
        let mut to = from;
        let start = stack_starts[from] as usize;
        let entries_max = (*budget / STACK_ENTRY_COST).max(1) as usize;
        while to < sample_groups.len() && (stack_starts[to] as usize - start) < entries_max {
            to += 1;
        }
        let end = stack_starts[to] as usize;
        *budget -= (end - start + to - from) as i64 * STACK_ENTRY_COST;
        let entries = &mut stack_locations[start..end];
        let mut all_known = true;
        if let Some(count) = self.locations.sequence() {
            let mut row_max = 0;
            for entry in &mut *entries {
                *entry = entry.wrapping_sub(1);
                row_max = row_max.max(*entry);
            }
            all_known = entries.is_empty() || row_max < count;
        } else {
            for entry in &mut *entries {
                *entry = self.locations.row(*entry);
                all_known &= *entry != NONE;
            }
        }
        if !all_known || self.any_gone {
            let stays = |row: &u32| self.gone.get(*row as usize) == Some(&false);
            for sample in from..to {
                let stack = stack_starts[sample] as usize..stack_starts[sample + 1] as usize;
                if !stack_locations[stack].iter().all(stays) {
                    sample_groups[sample] = NONE;
                }
            }
        }
        to
    }
}

fn clear_headers(profile: &mut Profile) {
    let strings = profile.strings.len() as u32;
    let known = |row: u32| if row < strings { row } else { 0 };
    for sample_type in &mut profile.sample_types {
        sample_type.unit = known(sample_type.unit);
    }
    if let Some(period_type) = &mut profile.period_type {
        period_type.kind = known(period_type.kind);
        period_type.unit = known(period_type.unit);
    }
    for mapping in &mut profile.mappings {
        if mapping.has_functions {
            (mapping.memory_start, mapping.memory_limit, mapping.file_offset) = (0, 0, 0);
        }
    }
}

/// Clears what symbols make needless: frames are told apart by their functions. Done after stacks are mended, which goes by
/// the locations as they were sent.
pub(super) fn clear_addresses(profile: &mut Profile) {
    let Profile { locations, mappings, .. } = profile;
    for location in locations {
        if mappings.get(location.mapping as usize).is_some_and(|mapping| mapping.has_functions) {
            location.address = 0;
        }
    }
}
