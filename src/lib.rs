//! The library behind `l1d`, the daemon, and `l1ctl`, which asks it: one shared L1 cache for every
//! process of a host, in front of memcached and Redis.

// These macros panic on a closed pipe; `cli::print` and `cli::print_error` do not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod access;
pub mod advise;
pub mod cli;
pub mod clock;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod doors;
pub mod event_loop;
pub mod listening_socket;
pub mod log;
pub mod manager;
pub mod owner;
pub mod reactor;
pub mod signals;
pub mod status;
pub mod table;
pub mod tiers;
