//! Real servers, daemons and faults for the tests and the lab.

pub mod daemon;
pub mod history;
pub mod literals;
pub mod posted;
pub mod proxy;
pub mod random;
pub mod servers;
