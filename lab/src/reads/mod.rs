//! Reads of keys that are all there: the physical limit and what is measured beside it.

mod arena;
mod contest;
mod limit;
mod pass;
mod workload;

pub use contest::{Contestant, Entrant};
pub use limit::{LimitCommand, limit};
