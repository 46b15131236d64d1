//! Instructions of single operations, counted by valgrind's callgrind: the same in every run of one
//! build, which no time is.
//!
//! | part | file |
//! |---|---|
//! | counting: legs of work, and the run under callgrind | `callgrind` |
//! | a table in shared memory, handed out to clients without a daemon | `served` |
//! | a hit, put together step by step | `steps` |

pub mod callgrind;
pub mod served;
pub mod steps;

/// The compiler that this is built with, as `rustc --version` has it.
pub const RUSTC: &str = env!("L1D_RUSTC");
