//! Reads: the physical limit, l1d, and what else keeps values near a reader.
//!
//! | part | file |
//! |---|---|
//! | the commands and their options | `command` |
//! | hits of keys that are there, the limit first | `measure`, `processes` |
//! | misses, batches, large values, values in place, decoded objects | `cases` |
//! | the limit's memory | `arena` |
//! | which keys, in which order | `workload` |
//! | the loop that is timed, and the turns of contestants | `pass`, `contest` |
//! | who takes part | `contest`, `rivals` |
//! | a daemon that holds all keys | `loaded` |
//! | what it came to | `report` |
//! | bytes that an entry costs | `bytes` |
//! | what each part of a hit adds | `costs`, `reported` |

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
