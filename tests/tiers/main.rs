//! The tiers against real memcached and redis-server processes.

mod bench;
mod errors;
mod failures;
mod limits;
mod pieces;
mod quiet;
mod reads;
mod shared;
mod writes;
