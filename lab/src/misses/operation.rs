//! The operations that `misses` measures.

use serde::{Deserialize, Serialize};

/// An operation on keys that L1 does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// `get` of a key that neither tier has
    Absent,
    /// `get` of a key that memcached has
    InL2,
    /// `get` of a key that only Redis has; memcached is filled
    InL3,
    /// `set` through both tiers
    Set,
    /// `delete` of a key that both tiers have
    Delete,
    /// `get_many` of 16 keys that memcached has
    #[value(name = "get-many-16")]
    #[serde(rename = "get-many-16")]
    GetMany16,
    /// `get_many` of 64 keys that memcached has
    #[value(name = "get-many-64")]
    #[serde(rename = "get-many-64")]
    GetMany64,
}

impl Operation {
    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Absent => "absent",
            Operation::InL2 => "in-l2",
            Operation::InL3 => "in-l3",
            Operation::Set => "set",
            Operation::Delete => "delete",
            Operation::GetMany16 => "get-many-16",
            Operation::GetMany64 => "get-many-64",
        }
    }

    /// Its keys are put into memcached beforehand.
    pub fn is_in_l2(self) -> bool {
        matches!(
            self,
            Operation::InL2 | Operation::Delete | Operation::GetMany16 | Operation::GetMany64
        )
    }

    /// Its keys are put into Redis beforehand.
    pub fn is_in_l3(self) -> bool {
        matches!(self, Operation::InL3 | Operation::Delete)
    }

    /// Keys of one operation.
    pub fn batch(self) -> u32 {
        match self {
            Operation::GetMany16 => 16,
            Operation::GetMany64 => 64,
            _ => 1,
        }
    }

    /// About as many keys as all processes together can use in a second on two fast cores.
    pub fn keys_per_second(self) -> u32 {
        match self {
            Operation::GetMany16 | Operation::GetMany64 => 800_000,
            _ => 400_000,
        }
    }
}
