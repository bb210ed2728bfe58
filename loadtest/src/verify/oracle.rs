//! What a server must have stored of a workload, worked out from the profiles themselves.
//!
//! Written from the public description of what Pyroscope does with a pprof, and on purpose not with the engine's code: samples whose
//! values are all zero or any of them negative are left out; string labels of samples, without span and trace ids, make series
//! of their own unless the pushed series has a label of that name; every sample type is a profile type of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost::Message;
use proto::pprof::{Label, Profile};

use super::stacks::{StackKey, Stacks, may_be_go, name_hash};
use crate::workload::{FUNCTIONS, Kind, Place, Shape, Source, Workload, function_name, leaf_name};

/// Labels of samples that tell single requests apart and make no series.
const REQUEST_LABELS: [&str; 3] = ["profile_id", "span_id", "trace_id"];

/// String labels of samples that make a series, in order of their names.
pub(super) type Group = BTreeMap<String, String>;

/// Values by stack.
pub(super) type Sums = HashMap<StackKey, i64>;

/// Samples of one group: stacks with their values, column by column.
type Samples = Vec<(StackKey, Vec<i64>)>;

/// What is expected of all pushes of a workload.
#[derive(Debug)]
pub(super) struct Oracle<'a> {
    workload: &'a Workload,
    kinds: Vec<KindModel>,
    /// Of the functions of made-up profiles.
    function_hashes: Vec<u64>,
}

/// What profiles of one kind have in common.
#[derive(Debug)]
pub(super) struct KindModel {
    /// Whether stacks are compared as those of Go programs.
    pub(super) is_go: bool,
    /// Profile types by column.
    pub(super) profile_types: Vec<String>,
    /// Names of all labels that samples of the kind have.
    pub(super) label_names: BTreeSet<String>,
    templates: Vec<TemplateModel>,
}

#[derive(Debug)]
struct TemplateModel {
    groups: BTreeMap<Group, Samples>,
    /// Of the frames below a push's leaf.
    below_leaf: Vec<u64>,
}

impl<'a> Oracle<'a> {
    /// Reads the workload's templates.
    pub(super) fn new(workload: &'a Workload) -> Result<Self, String> {
        let series_labels: BTreeSet<&str> = workload
            .targets()
            .iter()
            .flat_map(|t| &t.labels)
            .map(|(name, _)| name.as_str())
            .collect();
        let kinds = workload.kinds().iter().map(|kind| kind_model(kind, &series_labels));
        let function_hashes = match workload.spec().source {
            Source::Generated(_) => {
                (0..FUNCTIONS).map(|row| name_hash(&function_name(row))).collect()
            }
            Source::Series(_) | Source::Files(_) => Vec::new(),
        };
        Ok(Self { workload, kinds: kinds.collect::<Result<_, String>>()?, function_hashes })
    }

    /// The kind of a target's profiles.
    pub(super) fn kind(&self, target: usize) -> &KindModel {
        &self.kinds[self.workload.targets()[target].kind]
    }

    /// The stack of a push's leaf.
    pub(super) fn leaf_stack(&self, number: u64) -> StackKey {
        let Place { target, template, .. } = self.workload.place(number);
        let below = &self.kind(target).templates[template].below_leaf;
        StackKey::of(std::iter::once(name_hash(&leaf_name(number))).chain(below.iter().copied()))
    }

    /// What pushes of one target, each with how often it was stored, leave behind, leaves aside.
    pub(super) fn expected(&self, stored: &[(u64, i64)]) -> Vec<BTreeMap<Group, Sums>> {
        let Some((first, _)) = stored.first() else { return Vec::new() };
        let kind = self.kind(self.workload.place(*first).target);
        let mut columns = vec![BTreeMap::<Group, Sums>::new(); kind.profile_types.len()];
        let mut times = vec![0_i64; kind.templates.len()];
        for (number, count) in stored {
            times[self.workload.place(*number).template] += count;
        }
        let templates = kind.templates.iter().zip(times).filter(|(_, count)| *count > 0);
        for (template, count) in templates {
            for (group, samples) in &template.groups {
                for (column, groups) in columns.iter_mut().enumerate() {
                    let sums = groups.entry(group.clone()).or_default();
                    for (stack, values) in samples {
                        add(sums, *stack, values[column] * count);
                    }
                }
            }
        }
        if let Source::Generated(shape) = self.workload.spec().source {
            for (number, count) in stored.iter().filter(|(_, count)| *count > 0) {
                self.add_made_up(shape, *number, *count, &mut columns);
            }
        }
        for groups in &mut columns {
            groups.retain(|_, sums| !sums.is_empty());
        }
        columns
    }

    fn add_made_up(
        &self,
        shape: Shape,
        number: u64,
        count: i64,
        columns: &mut [BTreeMap<Group, Sums>],
    ) {
        let seed = self.workload.spec().seed;
        let round = self.workload.place(number).round;
        for drawn in shape.samples(seed, number, round) {
            let rows = shape.frames(seed, drawn.stack);
            let hashes = rows.map(|row| self.function_hashes[row as usize]);
            let stack = StackKey::of(hashes);
            for (groups, value) in columns.iter_mut().zip(drawn.values()) {
                let sums = groups.entry(Group::new()).or_default();
                add(sums, stack, value.cast_signed() * count);
            }
        }
    }
}

fn add(sums: &mut Sums, stack: StackKey, value: i64) {
    if value != 0 {
        *sums.entry(stack).or_default() += value;
    }
}

fn kind_model(kind: &Kind, series_labels: &BTreeSet<&str>) -> Result<KindModel, String> {
    let decode = |message: &[u8]| Profile::decode(message).expect("it was read before");
    let is_go = kind.templates.iter().any(|template| may_be_go(&decode(&template.message)));
    let mut model = KindModel {
        is_go,
        profile_types: Vec::new(),
        label_names: BTreeSet::new(),
        templates: Vec::new(),
    };
    for template in &kind.templates {
        let profile = decode(&template.message);
        let types = profile_types(&profile, kind.profile_name);
        if model.profile_types.is_empty() {
            model.profile_types.clone_from(&types);
        }
        if model.profile_types != types {
            return Err(format!("profiles of {} differ in their sample types", kind.service));
        }
        let groups = groups(&profile, is_go, series_labels);
        let below_leaf = Stacks::new(&profile, is_go).hashes(template.below_leaf());
        model.label_names.extend(groups.keys().flat_map(BTreeMap::keys).cloned());
        model.templates.push(TemplateModel { groups, below_leaf });
    }
    Ok(model)
}

/// Ids of the profile types, column by column.
fn profile_types(profile: &Profile, name: &str) -> Vec<String> {
    let period = profile.period_type.unwrap_or_default();
    let (period_type, period_unit) = (text(profile, period.r#type), text(profile, period.unit));
    let id = |kind: &str, unit: &str| format!("{name}:{kind}:{unit}:{period_type}:{period_unit}");
    let types = profile.sample_type.iter();
    types.map(|t| id(text(profile, t.r#type), text(profile, t.unit))).collect()
}

fn groups(
    profile: &Profile,
    is_go: bool,
    series_labels: &BTreeSet<&str>,
) -> BTreeMap<Group, Samples> {
    let stacks = Stacks::new(profile, is_go);
    let mut groups = BTreeMap::<Group, Samples>::new();
    for sample in &profile.sample {
        let values = &sample.value;
        if values.iter().any(|value| *value < 0) || values.iter().all(|value| *value == 0) {
            continue;
        }
        let pair = |label: &Label| {
            let (name, value) = (text(profile, label.key), text(profile, label.str));
            let is_kept =
                label.str != 0 && !REQUEST_LABELS.contains(&name) && !series_labels.contains(name);
            is_kept.then(|| (name.to_owned(), value.to_owned()))
        };
        let group = sample.label.iter().filter_map(pair).collect();
        groups.entry(group).or_default().push((stacks.key(&sample.location_id), values.clone()));
    }
    groups
}

fn text(profile: &Profile, row: i64) -> &str {
    let row = usize::try_from(row).ok();
    row.and_then(|row| profile.string_table.get(row)).map_or("", String::as_str)
}
