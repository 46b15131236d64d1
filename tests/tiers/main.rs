//! The tiers against real memcached and redis-server processes.

mod bench;
mod debts;
mod doubt;
mod failures;
mod limits;
mod pieces;
mod reads;
mod writes;
