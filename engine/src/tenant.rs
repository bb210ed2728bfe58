//! Tenant ids and partitions: whose data it is, and which unit of it one shard owns.

use std::sync::Arc;

/// Used when multitenancy is off.
pub const TENANT_ANONYMOUS: &str = "anonymous";

/// Longest tenant id, bytes (Pyroscope's limit).
pub const TENANT_ID_BYTES_MAX: usize = 150;

/// A tenant id of legal characters: alphanumeric and `!-_.*'()`, 1 to 150 bytes, not `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TenantId(Arc<str>);

/// Why a text is no tenant id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TenantError {
    /// Header absent or empty.
    #[error("no org id")]
    Missing,
    /// Longer than [`TENANT_ID_BYTES_MAX`].
    #[error("tenant ID is too long: max {TENANT_ID_BYTES_MAX} characters")]
    TooLong,
    /// A character that no tenant id has.
    #[error("tenant ID '{id}' contains unsupported character '{character}'")]
    Character {
        /// The refused text.
        id: String,
        /// Its first illegal character.
        character: char,
    },
    /// `.` or `..`: they would leave the tenant's directory.
    #[error("tenant ID is '.' or '..'")]
    Dots,
}

impl TenantId {
    /// Checks and takes one id.
    pub fn parse(text: &str) -> Result<Self, TenantError> {
        if text.is_empty() {
            return Err(TenantError::Missing);
        }
        if text.len() > TENANT_ID_BYTES_MAX {
            return Err(TenantError::TooLong);
        }
        if let Some(character) =
            text.chars().find(|c| !(c.is_ascii_alphanumeric() || "!-_.*'()".contains(*c)))
        {
            return Err(TenantError::Character { id: text.to_owned(), character });
        }
        if text == "." || text == ".." {
            return Err(TenantError::Dots);
        }
        Ok(Self(text.into()))
    }

    /// Checks a list of ids joined with `|`; sorted and distinct.
    pub fn parse_joined(text: &str) -> Result<Vec<Self>, TenantError> {
        let mut ids = text.split('|').map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// The tenant of a server without multitenancy.
    pub fn anonymous() -> Self {
        Self(TENANT_ANONYMOUS.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for TenantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one shard owns: a service of a tenant (one binary, the same frames), and which split of it when it is spread.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionKey {
    /// Whose.
    pub tenant: TenantId,
    /// Value of `service_name`.
    pub service_name: Arc<str>,
    /// 0 unless the service is spread over shards.
    pub split: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_ids_are_sorted_and_distinct() {
        let ids = TenantId::parse_joined("b|a|b").unwrap();
        assert_eq!(ids.iter().map(TenantId::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(TenantId::parse_joined("a||b"), Err(TenantError::Missing));
    }

    #[test]
    fn ids_that_would_leave_a_directory_are_refused() {
        assert_eq!(TenantId::parse(".."), Err(TenantError::Dots));
        assert_eq!(
            TenantId::parse("a/b"),
            Err(TenantError::Character { id: "a/b".to_owned(), character: '/' })
        );
        assert_eq!(TenantId::parse(&"x".repeat(151)), Err(TenantError::TooLong));
    }
}
