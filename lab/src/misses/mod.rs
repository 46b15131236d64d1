//! `l1d-lab misses`: the cost of a miss and of a write through l1d, beside private connections and
//! a bare forwarder.
//!
//! | part | file |
//! |---|---|
//! | options | `options` |
//! | operations and contestants | `operation`, `contestant` |
//! | commands and replies of the tiers | `commands`, `stream` |
//! | the contestants | `direct`, `forwarder` with its `frame`; l1d is the client library |
//! | one client process | `worker`, and its access to the tiers: `access` |
//! | servers, daemon, forwarder and client processes | `cast` |
//! | filling the tiers beforehand | `prepare` |
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
