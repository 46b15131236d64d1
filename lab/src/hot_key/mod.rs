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

mod blackboard;
mod cells;
mod contestant;
mod lmdb;
mod maps;
mod owner;
mod reader;
mod report;
mod run;
mod service;
mod view;
mod writer;

pub use reader::{HotReaderPlace, hot_reader};
pub use run::{HotKeyOptions, hot_key};
