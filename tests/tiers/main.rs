//! The tiers' thread against real memcached and redis-server processes.

mod bench;
mod failures;
mod limits;
mod reads;
mod writes;
