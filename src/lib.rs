//! l1d

pub mod clock;
pub mod control;
pub mod demo;
pub mod owner;
pub mod table;
pub mod tiers;
