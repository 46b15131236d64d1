//! l1d

pub mod clock;
pub mod config;
pub mod demo;
pub mod table;
pub mod tiers;
