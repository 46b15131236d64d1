//! The tiers against real memcached and redis-server processes.

mod bench;
mod failures;
mod limits;
mod pieces;
mod reads;
mod writes;
