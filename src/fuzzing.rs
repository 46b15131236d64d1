//! The targets of `./dev fuzz` in this package: each takes any bytes, and panics where the daemon
//! would have done something wrong. `fuzz/README.md` tells what each of them looks for.

mod frames;
mod texts;

pub use crate::config::fuzzing::config;
pub use crate::doors::mailbox_owner;
pub use crate::owner::fuzzing::operations;
pub use crate::table::fuzzing::restart;
pub use crate::tiers::fuzzing::{memcached, redis};
pub use frames::frames;
pub use texts::texts;

/// Every target on its corpus and on mutations of it, for as long as `cargo test` can spare.
#[cfg(test)]
mod tests {
    use crate::tiers::fuzzing::seeds as tiers;
    use crate::{config, doors, owner, table};
    use fuzz_driver::short_run;

    #[test]
    fn memcached_may_say_anything() {
        short_run("memcached", &tiers::memcached(), super::memcached);
    }

    #[test]
    fn redis_may_say_anything() {
        short_run("redis", &tiers::redis(), super::redis);
    }

    #[test]
    fn a_configuration_may_be_any_text() {
        short_run("config", &config::fuzzing::seeds(), super::config);
    }

    #[test]
    fn a_client_may_write_anything_into_its_mailbox() {
        short_run("mailbox_owner", &doors::mailbox_seeds(), super::mailbox_owner);
    }

    #[test]
    fn a_daemon_may_find_anything_in_its_table() {
        short_run("table_restart", &table::fuzzing::seeds(), super::restart);
    }

    #[test]
    fn requests_and_failures_may_come_in_any_order() {
        short_run("operations", &owner::fuzzing::seeds(), super::operations);
    }

    #[test]
    fn either_side_may_send_any_frame() {
        short_run("frames", &super::frames::seeds(), super::frames);
    }

    #[test]
    fn a_key_may_be_named_by_any_text() {
        short_run("texts", &super::texts::seeds(), super::texts);
    }
}
