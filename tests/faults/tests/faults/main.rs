//! The hazard: a daemon or a client that dies between two stores leaves a wrong or torn value, a
//! table that the next daemon cannot use, or a caller that waits without end.
//!
//! The fault points come from the sources (`scan`), so each new one is killed without being listed
//! anywhere. `L1D_FAULT_ROUNDS=N` goes through all of them N times, with other random hits
//! (`./dev faults N`), and `L1D_FAULT_POINT=NAME` through one alone.

mod clients;
mod daemons;
mod model;
mod protocol;
mod scan;
mod watched;
mod work;

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d-faults");
