//! What must be readable, kept apart from the product's code: sums by stack and by series in ordered maps.

use std::collections::BTreeMap;

use super::profile::{COLUMNS, Content, Stack};

/// Whose data: tenant, service.
pub(crate) type Place = (String, String);

/// What was read of a place.
pub(crate) type Columns = [Column; 2];

/// What was read of one value column of a place.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Column {
    /// The value of every stack.
    pub(crate) stacks: BTreeMap<Stack, i64>,
    /// By pod: the sum of the values, and the number of profiles.
    pub(crate) pods: BTreeMap<String, (i64, u64)>,
}

/// How a push of a profile ended, as its client saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// None: the node was gone.
    None,
    /// 200.
    Acknowledged,
    /// An error that says the profile was not taken.
    Refused,
    /// An error behind which it may have been stored: the log failed, or another profile of the same push did.
    InDoubt,
}

/// One profile a client sent.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) place: Place,
    pub(crate) pod: String,
    pub(crate) content: Content,
    /// Whether it is a profile at all.
    pub(crate) sound: bool,
    pub(crate) answer: Answer,
    /// Run of the node it was sent to.
    pub(crate) run: u64,
    /// It was read in a later run than that, or a flush that was answered put it into a block: from then on it must stay.
    pub(crate) stays: bool,
    /// Time of the profile, Unix milliseconds.
    pub(crate) time_ms: i64,
    /// It was older than the retention period, or nearly, once: from then on it may be there or not.
    pub(crate) outlived: bool,
}

impl Pushed {
    fn must_be_there(&self) -> bool {
        (self.answer == Answer::Acknowledged || self.stays) && !self.outlived
    }
}

/// Everything that was pushed.
#[derive(Default, Debug)]
pub(crate) struct Oracle {
    pub(crate) pushed: Vec<Pushed>,
}

impl Oracle {
    /// Holds what was read in a run, at its start or later, against what was pushed: an acknowledged profile is there once, a
    /// refused one is not, and one in doubt or unanswered is there once or not at all. Gives the numbers of those that are.
    pub(crate) fn check(
        &mut self,
        run: u64,
        read: &BTreeMap<Place, Columns>,
    ) -> Result<Vec<usize>, String> {
        // Retention may take a block away between the reads of its columns.
        let is_snapshot = !self.pushed.iter().any(|pushed| pushed.outlived);
        let nothing = Columns::default();
        let mut present = [Vec::new(), Vec::new()];
        for number in 0..self.pushed.len() {
            let of_place = read.get(&self.pushed[number].place).unwrap_or(&nothing);
            let mut times = [0; 2];
            for column in 0..COLUMNS.len() {
                times[column] = self.times(number, column, &of_place[column].stacks)?;
                if self.check_times(number, times[column], self.pushed[number].must_be_there())? {
                    present[column].push(number);
                }
            }
            if is_snapshot && times[0] != times[1] {
                return Err(format!("profile {number} is stored in part: columns {times:?} times"));
            }
        }
        for number in present.iter().flatten() {
            let pushed = &mut self.pushed[*number];
            pushed.stays |= pushed.run < run;
        }
        for (place, columns) in read {
            for (number, column) in columns.iter().enumerate() {
                let mut expected = self.sums(place, number, &present[number]);
                if !is_snapshot {
                    expected.pods.clone_from(&column.pods);
                }
                if *column != expected {
                    return Err(differs(place, number, column, &expected));
                }
            }
        }
        let [present, _] = present;
        Ok(present)
    }

    /// What is older than this, Unix milliseconds, may go.
    pub(crate) fn outlive(&mut self, before_ms: i64) {
        for pushed in &mut self.pushed {
            pushed.outlived |= pushed.time_ms < before_ms;
        }
    }

    /// From now on these stay.
    pub(crate) fn keep(&mut self, present: &[usize]) {
        for number in present {
            self.pushed[*number].stays = true;
        }
    }

    /// What a read of a place must see that begins now, whatever else happens to it.
    pub(crate) fn before_read(&self, place: &Place) -> Vec<usize> {
        let pushed = self.pushed.iter().enumerate();
        let must = pushed.filter(|(_, pushed)| pushed.place == *place && pushed.must_be_there());
        must.map(|(number, _)| number).collect()
    }

    /// Holds the stacks of a column that were read while pushes went on against what was pushed.
    pub(crate) fn check_while_pushing(
        &self,
        place: &Place,
        column: usize,
        before: &[usize],
        stacks: BTreeMap<Stack, i64>,
    ) -> Result<(), String> {
        let mut present = Vec::new();
        for number in (0..self.pushed.len()).filter(|number| self.pushed[*number].place == *place) {
            let times = self.times(number, column, &stacks)?;
            let must = before.binary_search(&number).is_ok() && !self.pushed[number].outlived;
            if self.check_times(number, times, must)? {
                present.push(number);
            }
        }
        let expected = self.sums(place, column, &present);
        let read = Column { stacks, pods: expected.pods.clone() };
        if read == expected { Ok(()) } else { Err(differs(place, column, &read, &expected)) }
    }

    /// How many acknowledged profiles are lost, and how many profiles are there more than once.
    pub(crate) fn lost_and_duplicated(&self, read: &BTreeMap<Place, Columns>) -> (u64, u64) {
        let (mut lost, mut duplicated) = (0, 0);
        for pushed in &self.pushed {
            let (_, values) = &pushed.content.own;
            let stacks = read.get(&pushed.place).map(|columns| &columns[0].stacks);
            let value = stacks.and_then(|stacks| stacks.get(&pushed.content.own.0));
            let value = value.copied().unwrap_or(0);
            lost += u64::from(pushed.answer == Answer::Acknowledged && value < values[0]);
            duplicated += u64::from(value > values[0]);
        }
        (lost, duplicated)
    }

    /// Whether a profile is there, if it may be there so often.
    fn check_times(&self, number: usize, times: i64, must: bool) -> Result<bool, String> {
        let pushed = &self.pushed[number];
        let who = format!("profile {number} ({:?})", pushed.answer);
        match (times, pushed.answer, pushed.sound) {
            (0, Answer::Acknowledged, _) if must => Err(format!("{who} is lost")),
            (0, ..) if must => {
                Err(format!("{who} was in a block or there after a restart, and is lost"))
            }
            (0, ..) => Ok(false),
            (1, Answer::Refused, _) => Err(format!("{who} is there all the same")),
            (1, _, true) => Ok(true),
            (1, _, false) => Err(format!("{who} is no profile and is stored")),
            (times, ..) => Err(format!("{who} is there {times} times")),
        }
    }

    /// How often a profile's own stack was counted.
    fn times(
        &self,
        number: usize,
        column: usize,
        stacks: &BTreeMap<Stack, i64>,
    ) -> Result<i64, String> {
        let (stack, values) = &self.pushed[number].content.own;
        let (value, sent) = (stacks.get(stack).copied().unwrap_or(0), values[column]);
        if value % sent != 0 {
            return Err(format!("profile {number} has the value {value}, sent was {sent}"));
        }
        Ok(value / sent)
    }

    /// What profiles come to, and nothing else.
    fn sums(&self, place: &Place, column: usize, present: &[usize]) -> Column {
        let mut sums = Column::default();
        let pushed = present.iter().map(|number| &self.pushed[*number]);
        for pushed in pushed.filter(|pushed| pushed.place == *place) {
            let (sum, profiles_count) = sums.pods.entry(pushed.pod.clone()).or_default();
            *profiles_count += 1;
            for (stack, values) in [&pushed.content.own, &pushed.content.shared] {
                *sum += values[column];
                *sums.stacks.entry(stack.clone()).or_default() += values[column];
            }
        }
        sums
    }
}

fn differs(place: &Place, column: usize, read: &Column, expected: &Column) -> String {
    let stack =
        read.stacks.iter().find(|(stack, value)| expected.stacks.get(*stack) != Some(value));
    format!(
        "{place:?}, column {}, differs from the oracle: {} stacks read, {} expected, {stack:?}; pods read {:?}, expected {:?}",
        COLUMNS[column].0,
        read.stacks.len(),
        expected.stacks.len(),
        read.pods,
        expected.pods
    )
}
