//! l1d

pub mod clock;
pub mod table;
pub mod tiers;
