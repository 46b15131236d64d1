//! The hazard: a slow, silent, broken or hostile peer harms the daemon or another peer, or a reply
//! reaches the wrong one. Real unix sockets, the real event loop.

mod allocation;
mod arbitrary;
mod budget;
mod daemon;
mod deferred;
mod hostile;
mod limits;
mod mailbox;
mod memory;
mod peer;

use super::{Limits, Origin};
use daemon::{Daemon, Heard};
use peer::Peer;
use std::time::Duration;

/// A test that waits this long has failed.
const NEVER: Duration = Duration::from_secs(30);

/// Limits that no test reaches by accident.
fn limits() -> Limits {
    Limits {
        frame_bytes_max: 1 << 20,
        connections_max: 100,
        connections_per_uid_max: 100,
        buffer_bytes_per_uid_max: usize::MAX,
        buffer_bytes_max: 64 << 20,
        stall: 4 * NEVER,
        spin: Duration::ZERO,
        grace: Duration::ZERO,
    }
}
