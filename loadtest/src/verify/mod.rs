//! Whether a server holds what it acknowledged: each push once, and nothing besides, series by series and stack by stack.
//!
//! ```text
//! journal ─► slices of a target ─► leaves found: how often each push is stored ─► lost, duplicated
//! workload ─► oracle ─► what pushes stored so often leave behind ─► stacks, totals, series ─► wrong
//! ```
//! A push found twice counts as duplicated only: what else is expected follows from the pushes as they were found.
//! Leaves are looked for in the series they belong to, and in a target's own slice of time; one elsewhere is wrong.
//!
//! Not here: data of other clients. A target's series must hold nothing but the journal's pushes (services have names of their
//! own, so a tenant may be shared with others).

mod findings;
mod oracle;
mod query;
mod slices;
mod stacks;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

pub use findings::{Fault, Findings};
use oracle::{Group, Oracle, Sums};
use query::{Querier, selector};
use slices::{Slice, slices};
use stacks::Stacks;

use crate::client::Address;
use crate::journal::Record;
use crate::outcome::{Outcome, Promise};
use crate::workload::{Workload, leaf_value, number_of_leaf};

/// Label of a profile type.
const PROFILE_TYPE: &str = "__profile_type__";

/// What is compared with what.
#[derive(Debug)]
pub struct Verify<'a> {
    /// The server.
    pub address: Address,
    /// Value of `X-Scope-OrgID`.
    pub tenant: Option<String>,
    /// What was pushed.
    pub workload: &'a Workload,
    /// What became of it.
    pub records: Vec<Record>,
    /// Questions asked at a time.
    pub threads_count: usize,
}

impl Verify<'_> {
    /// Compares everything. An error says why it could not.
    pub fn run(&self) -> Result<Findings, String> {
        let oracle = Oracle::new(self.workload)?;
        let mut records = self.records.clone();
        let target_of = |record: &Record| self.workload.place(record.number).target;
        records.sort_by_key(|record| (target_of(record), record.time_ns, record.number));
        let targets: Vec<&[Record]> =
            records.chunk_by(|one, next| target_of(one) == target_of(next)).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let work = || {
                let querier = Querier::new(&self.address, self.tenant.as_deref());
                let mut part = Part {
                    workload: self.workload,
                    oracle: &oracle,
                    querier,
                    findings: Findings::default(),
                };
                while let Some(records) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for slice in slices(records) {
                        part.slice(&slice)?;
                    }
                }
                Ok::<Findings, String>(part.findings)
            };
            let threads: Vec<_> = (0..self.threads_count).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_fold(Findings::default(), |mut sum, thread| {
                sum.add(thread.join().expect("a verifying thread does not panic")?);
                Ok(sum)
            })
        })
    }
}

/// What one thread does.
struct Part<'a> {
    workload: &'a Workload,
    oracle: &'a Oracle<'a>,
    querier: Querier,
    findings: Findings,
}

/// How a push's leaf was found in one profile type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    Times(i64),
    Changed(i64),
}

impl Part<'_> {
    fn slice(&mut self, slice: &Slice<'_>) -> Result<(), String> {
        let Some(first) = slice.records.first() else { return Ok(()) };
        let target = self.workload.place(first.number).target;
        let profile_types = &self.oracle.kind(target).profile_types;
        let mut plain = Vec::new();
        let mut leaves = Vec::new();
        for profile_type in profile_types {
            let (sums, found) = self.read(target, &Group::new(), profile_type, slice)?;
            plain.push(sums);
            leaves.push(found);
        }
        let stored = self.count(slice, &leaves);
        let expected = self.oracle.expected(&stored);
        let mut series = BTreeSet::new();
        for (column, profile_type) in profile_types.iter().enumerate() {
            let mut totals = BTreeMap::new();
            let none = BTreeMap::new();
            let groups = expected.get(column).unwrap_or(&none);
            let leaves: i64 =
                stored.iter().map(|(number, times)| leaf_value(*number, column) * times).sum();
            if leaves != 0 {
                totals.insert(Group::new(), leaves);
            }
            for (group, sums) in groups {
                *totals.entry(group.clone()).or_default() += sums.values().sum::<i64>();
                let got = if group.is_empty() {
                    std::mem::take(&mut plain[column])
                } else {
                    self.read(target, group, profile_type, slice)?.0
                };
                self.compare(target, group, profile_type, sums, &got);
            }
            if !plain[column].is_empty() {
                let got = std::mem::take(&mut plain[column]);
                self.compare(target, &Group::new(), profile_type, &Sums::new(), &got);
            }
            self.compare_totals(target, profile_type, &totals, slice)?;
            series.extend(totals.into_keys().map(|mut labels| {
                labels.insert(PROFILE_TYPE.to_owned(), profile_type.clone());
                labels
            }));
        }
        self.compare_series(target, &series, slice)
    }

    /// One series' sums by stack, and the leaves of pushes among them.
    fn read(
        &mut self,
        target: usize,
        group: &Group,
        profile_type: &str,
        slice: &Slice<'_>,
    ) -> Result<(Sums, HashMap<u64, i64>), String> {
        let kind = self.oracle.kind(target);
        let of_group = kind
            .label_names
            .iter()
            .map(|name| (name.as_str(), group.get(name).map_or("", String::as_str)));
        let selector = selector(self.labels(target).chain(of_group));
        self.findings.queries += 1;
        let profile = self.querier.merged(&selector, profile_type, slice.range)?;
        let stacks = Stacks::new(&profile, kind.is_go);
        let (mut sums, mut leaves) = (Sums::new(), HashMap::new());
        for sample in &profile.sample {
            let value = sample.value.first().copied().unwrap_or_default();
            let key = stacks.key(&sample.location_id);
            match number_of_leaf(stacks.leaf(&sample.location_id)) {
                Some(number) if self.oracle.leaf_stack(number) == key => {
                    *leaves.entry(number).or_default() += value;
                }
                Some(number) => {
                    let text = stacks.text(&sample.location_id);
                    self.findings
                        .note(Fault::Wrong, || format!("push {number}: its stack is {text}"));
                }
                None => *sums.entry(key).or_default() += value,
            }
        }
        Ok((sums, leaves))
    }

    /// How often each push of a slice is stored, by its leaves in each profile type.
    fn count(&mut self, slice: &Slice<'_>, leaves: &[HashMap<u64, i64>]) -> Vec<(u64, i64)> {
        let known: BTreeSet<u64> = slice.records.iter().map(|record| record.number).collect();
        let strangers: BTreeSet<u64> =
            leaves.iter().flat_map(HashMap::keys).filter(|n| !known.contains(n)).copied().collect();
        for number in strangers {
            self.findings.note(Fault::Wrong, || format!("push {number} is where it was not sent"));
        }
        let mut stored = Vec::with_capacity(slice.records.len());
        for record in slice.records {
            let number = record.number;
            let found = leaves.iter().enumerate().map(|(column, leaves)| {
                let (value, one) =
                    (leaves.get(&number).copied().unwrap_or(0), leaf_value(number, column));
                if value % one == 0 { Found::Times(value / one) } else { Found::Changed(value) }
            });
            let found: Vec<Found> = found.collect();
            stored.push((number, self.judge(record, &found)));
        }
        stored
    }

    /// Counts a push, and what is the matter with it; how often it is stored.
    fn judge(&mut self, record: &Record, found: &[Found]) -> i64 {
        let Record { number, outcome, .. } = *record;
        let findings = &mut self.findings;
        findings.pushes += 1;
        findings.acknowledged += u64::from(outcome == Outcome::Accepted);
        findings.in_doubt += u64::from(outcome.promise() == Promise::AtMostOnce);
        let times = found.iter().filter_map(|found| match found {
            Found::Times(times) => Some(*times),
            Found::Changed(_) => None,
        });
        let (least, most) =
            times.fold((i64::MAX, 0), |(least, most), t| (least.min(t), most.max(t)));
        if let Some(Found::Changed(value)) = found.iter().find(|f| matches!(f, Found::Changed(_))) {
            findings.present += 1;
            findings
                .note(Fault::Wrong, || format!("push {number} ({outcome}): its leaf has {value}"));
            return most.max(1);
        }
        findings.present += u64::from(most > 0);
        let words = |what: &str| format!("push {number} ({outcome}) is stored {what}: {found:?}");
        match outcome.promise() {
            Promise::Never if most > 0 => findings.note(Fault::Wrong, || words("although refused")),
            Promise::Once if least == 0 => findings.note(Fault::Lost, || words("not at all")),
            _ if least != most => findings.note(Fault::Wrong, || words("in part")),
            _ => {}
        }
        if most > 1 {
            findings.note(Fault::Duplicated(most.cast_unsigned() - 1), || words("more than once"));
        }
        most
    }

    fn compare(
        &mut self,
        target: usize,
        group: &Group,
        profile_type: &str,
        expected: &Sums,
        got: &Sums,
    ) {
        self.findings.stacks += expected.len() as u64;
        let missing =
            expected.iter().filter(|(stack, value)| got.get(stack) != Some(value)).count();
        let strange = got.keys().filter(|stack| !expected.contains_key(stack)).count();
        if missing + strange > 0 {
            let sum = |sums: &Sums| sums.values().sum::<i64>();
            let (target, expected_sum, got_sum) = (self.name(target), sum(expected), sum(got));
            self.findings.note(Fault::Wrong, || {
                format!(
                    "{target} {group:?} {profile_type}: of {} stacks {missing} have other values, {strange} are \
                     strange; sum {got_sum}, not {expected_sum}",
                    expected.len()
                )
            });
        }
    }

    fn compare_totals(
        &mut self,
        target: usize,
        profile_type: &str,
        expected: &BTreeMap<Group, i64>,
        slice: &Slice<'_>,
    ) -> Result<(), String> {
        let names = &self.oracle.kind(target).label_names;
        let selector = selector(self.labels(target));
        self.findings.queries += 1;
        let got = self.querier.totals(&selector, profile_type, names, slice.range)?;
        let expected: BTreeMap<Group, f64> =
            expected.iter().map(|(group, sum)| (group.clone(), *sum as f64)).collect();
        if got != expected {
            let target = self.name(target);
            self.findings.note(Fault::Wrong, || {
                format!("{target} {profile_type}: totals are {got:?}, not {expected:?}")
            });
        }
        Ok(())
    }

    fn compare_series(
        &mut self,
        target: usize,
        expected: &BTreeSet<Group>,
        slice: &Slice<'_>,
    ) -> Result<(), String> {
        let mut names = self.oracle.kind(target).label_names.clone();
        names.insert(PROFILE_TYPE.to_owned());
        let selector = selector(self.labels(target));
        self.findings.queries += 1;
        let got = self.querier.series(&selector, &names, slice.range)?;
        if got != *expected {
            let target = self.name(target);
            self.findings.note(Fault::Wrong, || {
                let missing: Vec<_> = expected.difference(&got).take(3).collect();
                let strange: Vec<_> = got.difference(expected).take(3).collect();
                format!("{target}: series missing {missing:?}, strange {strange:?}")
            });
        }
        Ok(())
    }

    /// Labels of a target; `__name__` too, since the profile type alone does not tell services apart.
    fn labels(&self, target: usize) -> impl Iterator<Item = (&str, &str)> {
        let labels = &self.workload.targets()[target].labels;
        labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn name(&self, target: usize) -> String {
        let mut labels = self.labels(target);
        labels.find(|(name, _)| *name == "pod").map_or_else(String::new, |(_, pod)| pod.to_owned())
    }
}
