//! `l1d-lab hit-ratio`: the share of requests that each cache answers from memory.
//!
//! | part | file |
//! |---|---|
//! | the command: each stream, at each size, with each contestant | `run` |
//! | one replay | `replay` |
//! | requests as numbers, of a trace or synthetic | `stream`, `synthetic` |
//! | capacities | `size` |
//! | the contestants | `contestant`, and a file for each |
//! | l1d: the size of its table, how hits are reported | `table`, `shape`, `reports` |
//! | the table's own estimate of other sizes, beside replays | `advise` |
//! | the results | `report`, `text`, `plot` |

mod advise;
mod contestant;
mod foyer;
mod hasher;
mod lru;
mod moka;
mod optimum;
mod options;
mod plot;
mod quick;
mod replay;
mod report;
mod reports;
mod run;
mod shape;
mod size;
mod stream;
mod synthetic;
mod table;
mod text;

pub use options::HitRatioOptions;
pub use run::hit_ratio;
