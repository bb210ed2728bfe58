//! What a verification found.

use std::fmt;

use serde_json::{Value, json};

/// Differences that are told one by one; all are counted.
const DETAILS_MAX: usize = 20;

/// Counts of pushes, and of what is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Pushes of the journal.
    pub pushes: u64,
    /// Those answered 200.
    pub acknowledged: u64,
    /// Those that may be stored or not.
    pub in_doubt: u64,
    /// Those that were found.
    pub present: u64,
    /// Acknowledged pushes that are missing, wholly or in a profile type.
    pub lost: u64,
    /// Copies of pushes beyond the first.
    pub duplicated: u64,
    /// Everything else: leaves with another value or stack, refused pushes that are stored, stacks, totals and series that
    /// differ from what the pushes found there add up to.
    pub wrong: u64,
    /// Stacks compared, series by series.
    pub stacks: u64,
    /// Questions asked.
    pub queries: u64,
    /// The first differences in words.
    pub details: Vec<String>,
}

/// In what way a thing is not as it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Acknowledged and not there.
    Lost,
    /// There so many times more than once.
    Duplicated(u64),
    /// Not what was sent.
    Wrong,
}

impl Findings {
    /// Counts a fault and keeps the words of the first few.
    pub fn note(&mut self, fault: Fault, words: impl FnOnce() -> String) {
        match fault {
            Fault::Lost => self.lost += 1,
            Fault::Duplicated(copies) => self.duplicated += copies,
            Fault::Wrong => self.wrong += 1,
        }
        if self.details.len() < DETAILS_MAX {
            self.details.push(words());
        }
    }

    /// Adds those of another part.
    pub fn add(&mut self, other: Self) {
        self.pushes += other.pushes;
        self.acknowledged += other.acknowledged;
        self.in_doubt += other.in_doubt;
        self.present += other.present;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.wrong += other.wrong;
        self.stacks += other.stacks;
        self.queries += other.queries;
        self.details.extend(other.details);
        self.details.truncate(DETAILS_MAX);
    }

    /// Whether the server holds what it promised, and nothing else.
    pub fn is_clean(&self) -> bool {
        (self.lost, self.duplicated, self.wrong) == (0, 0, 0)
    }

    /// Everything, for programs.
    pub fn to_json(&self) -> Value {
        json!({
            "pushes": self.pushes,
            "acknowledged": self.acknowledged,
            "in_doubt": self.in_doubt,
            "present": self.present,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "wrong": self.wrong,
            "stacks": self.stacks,
            "queries": self.queries,
            "details": self.details,
        })
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for detail in &self.details {
            writeln!(f, "  {detail}")?;
        }
        writeln!(
            f,
            "pushes={} acknowledged={} in_doubt={} present={} stacks={} queries={} lost={} duplicated={} wrong={}",
            self.pushes,
            self.acknowledged,
            self.in_doubt,
            self.present,
            self.stacks,
            self.queries,
            self.lost,
            self.duplicated,
            self.wrong,
        )
    }
}
