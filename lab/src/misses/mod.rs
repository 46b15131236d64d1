//! `l1d-lab misses`: what a miss and a write cost through l1d, beside a connection of one's own and beside a
//! bare forwarder.
//!
//! | part | file |
//! |---|---|
//! | options | `options` |
//! | operations and contestants | `operation`, `contestant` |
//! | commands and replies of the tiers | `commands`, `stream` |
//! | the contestants | `direct`, `forwarder` with its `frame`; l1d is the client library |
//! | one client process | `worker`, and how it reaches the tiers: `access` |
//! | servers, daemon, forwarder and client processes | `cast` |
//! | keys that are in the tiers beforehand | `prepare` |
//! | rounds | `run` |
//! | the daemon's system calls | `lockstep`, `strace` |
//! | figures and tables | `report`, `text` |

mod access;
mod cast;
mod commands;
mod contestant;
mod direct;
mod forwarder;
mod frame;
mod lockstep;
mod operation;
mod options;
mod prepare;
mod report;
mod run;
mod strace;
mod stream;
mod text;
mod worker;

pub use forwarder::{ForwarderOptions, run as forwarder};
pub use options::MissesOptions;
pub use run::misses;
pub use worker::{WorkerOptions, run as worker};
