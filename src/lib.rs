//! l1d

pub mod advise;
pub mod cli;
pub mod clock;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod demo;
pub mod doors;
pub mod event_loop;
pub mod owner;
pub mod reactor;
pub mod table;
pub mod tiers;
