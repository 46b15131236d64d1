//! The hazard: a peer that is slow, silent, broken or hostile costs the daemon or another peer
//! anything, or an answer reaches somebody who did not ask. Real unix sockets, the real event loop.

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

/// Nothing that a test waits for takes this long, unless it never comes.
const NEVER: Duration = Duration::from_secs(30);

/// Limits that no test meets by accident.
fn limits() -> Limits {
    Limits {
        frame_bytes_max: 1 << 20,
        connections_max: 100,
        connections_per_uid_max: 100,
        buffer_bytes_max: 64 << 20,
        stall: 4 * NEVER,
        spin: Duration::ZERO,
    }
}
