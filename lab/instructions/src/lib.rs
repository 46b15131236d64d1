//! Instructions of single operations, counted by valgrind's callgrind. Unlike times, they are the
//! same in every run of one build.
//!
//! | part | file |
//! |---|---|
//! | counting: legs of work, and the run under callgrind | `callgrind` |
//!  a table in shared memory for clients, without a daemon | `served` |
//!  a hit, assembled step by step | `steps` |

pub mod callgrind;
pub mod served;
pub mod steps;

/// The compiler of this build, in the form of `rustc --version`.
pub const RUSTC: &str = env!("L1D_RUSTC");
