//! `l1d-lab hot-key`: readers of a few keys while a writer updates them all the time.
//!
//! | part | file |
//! |---|---|
//! | the command: rounds without and with the writer | `run` |
//! | the timed loop | `view` |
//! | a reader in a process or a thread of its own | `reader` |
//! | the writer, at a steady pace | `writer` |
//! | contestants: the limit, l1d, its owner alone | `cells`, `service`, `owner` |
//! | rivals in shared memory, and in one process | `lmdb`, `blackboard`, `maps` |
//! | how each contestant is started | `contestant` |
//! | the results | `report` |

pub mod blackboard;
pub mod cells;
mod contestant;
pub mod lmdb;
pub mod maps;
pub mod owner;
mod reader;
mod report;
mod run;
pub mod service;
pub mod view;
pub mod writer;

pub use reader::{HotReaderPlace, hot_reader};
pub use run::{HotKeyOptions, hot_key};
