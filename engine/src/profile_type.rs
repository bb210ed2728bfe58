//! The id of a profile type: what a value means, as one label value (`__profile_type__`).

use std::fmt;

/// `<name>:<sample-type>:<sample-unit>:<period-type>:<period-unit>`, as in `process_cpu:cpu:nanoseconds:cpu:nanoseconds`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProfileType {
    id: String,
    /// Byte offsets of the colons behind the first four parts, and the end of the fifth.
    ends: [usize; 5],
}

/// Why a text is no profile type id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "profile-type selection must be of the form <name>:<sample-type>:<sample-unit>:<period-type>:<period-unit>(:delta), got({parts}): {id:?}"
)]
pub struct ProfileTypeError {
    /// Number of parts between colons.
    pub parts: usize,
    /// The refused text.
    pub id: String,
}

impl ProfileType {
    /// Takes an id apart. A sixth part (`delta`, from old clients) is kept in [`Self::id`] and means nothing.
    pub fn parse(id: &str) -> Result<Self, ProfileTypeError> {
        let parts = id.split(':').count();
        if parts != 5 && parts != 6 {
            return Err(ProfileTypeError { parts, id: id.to_owned() });
        }
        let mut ends = [id.len(); 5];
        for (end, (at, _)) in ends.iter_mut().zip(id.match_indices(':')) {
            *end = at;
        }
        Ok(Self { id: id.to_owned(), ends })
    }

    /// The id as given.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The value of `__profile_type__`: the id without a sixth part.
    pub fn label_value(&self) -> &str {
        &self.id[..self.ends[4]]
    }

    /// `process_cpu`, `memory`, …
    pub fn name(&self) -> &str {
        self.part(0)
    }

    /// `cpu`, `alloc_space`, …
    pub fn sample_type(&self) -> &str {
        self.part(1)
    }

    /// `nanoseconds`, `bytes`, `count`, …
    pub fn sample_unit(&self) -> &str {
        self.part(2)
    }

    /// What the sampling period is counted in.
    pub fn period_type(&self) -> &str {
        self.part(3)
    }

    /// Unit of the sampling period.
    pub fn period_unit(&self) -> &str {
        self.part(4)
    }

    fn part(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] + 1 };
        &self.id[start..self.ends[at]]
    }
}

impl fmt::Display for ProfileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_five_parts_and_may_have_empty_ones() {
        let t = ProfileType::parse("process_cpu:samples:count::milliseconds").unwrap();
        assert_eq!(
            [t.name(), t.sample_type(), t.sample_unit(), t.period_type(), t.period_unit()],
            ["process_cpu", "samples", "count", "", "milliseconds"]
        );
        assert_eq!(t.label_value(), t.id());
    }

    #[test]
    fn a_sixth_part_is_not_part_of_the_label() {
        let t = ProfileType::parse("memory:a:b:c:d:delta").unwrap();
        assert_eq!(t.label_value(), "memory:a:b:c:d");
        assert_eq!(t.period_unit(), "d");
        assert_eq!(t.id(), "memory:a:b:c:d:delta");
    }

    #[test]
    fn other_texts_are_refused_with_pyroscopes_words() {
        assert_eq!(
            ProfileType::parse("cpu").unwrap_err().to_string(),
            "profile-type selection must be of the form <name>:<sample-type>:<sample-unit>:<period-type>:<period-unit>(:delta), got(1): \"cpu\""
        );
        assert_eq!(ProfileType::parse("").unwrap_err().parts, 1);
        assert_eq!(ProfileType::parse("a:b:c:d:e:f:g").unwrap_err().parts, 7);
    }
}
