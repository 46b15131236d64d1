//! Reads of keys that are all there: the physical limit and what is measured beside it.

mod arena;
mod bytes;
mod contest;
mod limit;
mod loaded;
mod measure;
mod pass;
mod processes;
mod report;
mod workload;

pub use bytes::{BytesOptions, bytes};
pub use limit::{ReadCommand, ReadOptions, limit, read};
pub use processes::{ReaderOptions, reader};
