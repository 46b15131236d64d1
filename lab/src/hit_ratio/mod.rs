//! `l1d-lab hit-ratio`: what stays in memory, and what of it is asked for again.
//!
//! | part | file |
//! |---|---|
//! | the command: every stream, at every size, with every contestant | `run` |
//! | one replay | `replay` |
//! | requests as numbers: of a trace, or drawn | `stream`, `synthetic` |
//! | capacities | `size` |
//! | who takes part | `contestant`, and a file for each |
//! | l1d: how large a table, how hits are reported | `table`, `shape`, `reports` |
//! | the table's own estimate of other sizes, beside replays | `advise` |
//! | what it came to | `report`, `text`, `plot` |

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
