//! `l1d-lab hot-key`: readers of a few keys while another writes them all the time.
//!
//! | part | file |
//! |---|---|
//! | the command: rounds without and with the writer | `run` |
//! | the loop that is timed | `view` |
//! | a reader in a process or a thread of its own | `reader` |
//! | the writer, at a steady pace | `writer` |
//! | who takes part: the limit, l1d, its owner alone | `cells`, `service`, `owner` |
//! | rivals in shared memory, and in one process | `lmdb`, `blackboard`, `maps` |
//! | who is started how | `contestant` |
//! | what it came to | `report` |

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
