//! What must be readable, kept apart from the product's code: sums by stack in ordered maps.

use std::collections::BTreeMap;

use super::profile::{COLUMNS, Content, Stack};

/// Whose data: tenant, service.
pub(crate) type Place = (String, String);

/// What was read of a place: per column, the value of every stack.
pub(crate) type Totals = [BTreeMap<Stack, i64>; 2];

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
    pub(crate) content: Content,
    /// Whether it is a profile at all.
    pub(crate) sound: bool,
    pub(crate) answer: Answer,
    /// Run of the node it was sent to.
    pub(crate) run: u64,
    /// It was read in a later run than that: from then on it must stay.
    pub(crate) recovered: bool,
}

/// Everything that was pushed.
#[derive(Default, Debug)]
pub(crate) struct Oracle {
    pub(crate) pushed: Vec<Pushed>,
}

impl Oracle {
    /// Holds what was read in a run, at its start or while it takes pushes, against what was pushed: an acknowledged profile is
    /// there once, a refused one is not, and one in doubt or unanswered is there once or not at all.
    pub(crate) fn check(&mut self, run: u64, read: &BTreeMap<Place, Totals>) -> Result<(), String> {
        let mut present = Vec::new();
        for number in 0..self.pushed.len() {
            let times = self.times_read(number, read)?;
            let pushed = &mut self.pushed[number];
            let who = format!("profile {number} ({:?})", pushed.answer);
            match (times, pushed.answer, pushed.sound) {
                (0, Answer::Acknowledged, _) => return Err(format!("{who} is lost")),
                (0, ..) if pushed.recovered => {
                    return Err(format!("{who} was there after a restart and is lost"));
                }
                (0, ..) => {}
                (1, Answer::Refused, _) => return Err(format!("{who} is there all the same")),
                (1, _, true) => {
                    pushed.recovered |= pushed.run < run;
                    present.push(number);
                }
                (1, _, false) => return Err(format!("{who} is no profile and is stored")),
                (times, ..) => return Err(format!("{who} is there {times} times")),
            }
        }
        self.check_totals(&present, read)
    }

    /// How often a profile's own stack was counted.
    fn times_read(&self, number: usize, read: &BTreeMap<Place, Totals>) -> Result<i64, String> {
        let pushed = &self.pushed[number];
        let (stack, values) = &pushed.content.own;
        let totals = read.get(&pushed.place);
        let mut times = [0; 2];
        for column in 0..COLUMNS.len() {
            let value = totals.and_then(|totals| totals[column].get(stack)).copied().unwrap_or(0);
            if value % values[column] != 0 {
                let sent = values[column];
                return Err(format!("profile {number} has the value {value}, sent was {sent}"));
            }
            times[column] = value / values[column];
        }
        if times[0] != times[1] {
            return Err(format!("profile {number} is stored in part: columns {times:?} times"));
        }
        Ok(times[0])
    }

    /// The whole of what was read is the sum of what is there, and nothing else.
    fn check_totals(
        &self,
        present: &[usize],
        read: &BTreeMap<Place, Totals>,
    ) -> Result<(), String> {
        let mut expected: BTreeMap<Place, Totals> = BTreeMap::new();
        for pushed in present.iter().map(|number| &self.pushed[*number]) {
            let totals = expected.entry(pushed.place.clone()).or_default();
            for (stack, values) in [&pushed.content.own, &pushed.content.shared] {
                for (total, value) in totals.iter_mut().zip(values) {
                    *total.entry(stack.clone()).or_default() += value;
                }
            }
        }
        for (place, totals) in read {
            let nothing = Totals::default();
            let expected = expected.get(place).unwrap_or(&nothing);
            for (column, (read, expected)) in totals.iter().zip(expected).enumerate() {
                if read != expected {
                    let differs =
                        read.iter().find(|(stack, value)| expected.get(*stack) != Some(value));
                    return Err(format!(
                        "totals of {place:?}, column {}, differ from the oracle's: {} stacks read, {} expected, {differs:?}",
                        COLUMNS[column].0,
                        read.len(),
                        expected.len()
                    ));
                }
            }
        }
        Ok(())
    }
}
