//! The main job as a story: one process publishes market data and signals, others serve them.
//!
//! The scenario exists once, here, as data; `l1d demo` plays it and the lab measures it.

pub mod scenario;
pub mod stamped;
