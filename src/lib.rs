//! l1d

pub mod clock;
pub mod demo;
pub mod table;
pub mod tiers;
