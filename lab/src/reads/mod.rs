//! Reads: the physical limit, l1d, and other stores that keep values near a reader.
//!
//! | part | file |
//! |---|---|
//! | the commands and their options | `command` |
//! | hits, the limit first | `measure`, `processes` |
//! | misses, batches, large values, values in place, decoded objects | `cases` |
//! | the limit's memory | `arena` |
//! | the keys and their order | `workload` |
//! | the timed loop, and the turns of contestants | `pass`, `contest` |
//! | the contestants | `contest`, `rivals` |
//! | a daemon that holds all keys | `loaded` |
//! | the report | `report` |
//! | bytes per entry | `bytes` |
//! | the cost of each part of a hit | `costs`, `reported` |

pub mod arena;
mod bytes;
mod cases;
mod command;
mod contest;
mod costs;
pub mod loaded;
mod measure;
mod pass;
mod processes;
mod report;
mod reported;
pub mod rivals;
pub mod workload;

pub use bytes::{BytesOptions, bytes};
pub use command::{ReadCommand, ReadOptions, limit, read};
pub use costs::{CostsOptions, costs, counted};
pub use processes::{ReaderOptions, reader};
