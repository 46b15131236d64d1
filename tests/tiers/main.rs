//! The tiers against real memcached and redis-server processes.

mod bench;
mod debts;
mod doubt;
mod errors;
mod failures;
mod limits;
mod pieces;
mod quiet;
mod reads;
mod shared;
mod unique;
mod writes;
