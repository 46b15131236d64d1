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
