//! l1d

pub mod tiers;
