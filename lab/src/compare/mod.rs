//! `l1d-lab compare`: several reader processes and one writer, with real tiers below, in four ways:
//! no L1, an L1 in each process (30 s, or 2 s for shared keys), and l1d.

mod contestant;
mod keys;
mod options;
mod oracle;
mod outcome;
mod process;
mod report;
mod run;
mod servers;
mod store;
mod tally;
mod text;
mod tiers;
mod worker;

pub use options::{CompareOptions, WorkerOptions};
pub use run::compare;
pub use servers::Servers;
pub use worker::run as worker;
