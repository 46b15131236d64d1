//! What peers may cost.

use std::time::Duration;

/// What peers may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest payload of a request.
    pub frame_bytes_max: usize,
    /// Connections at a time; one more is told so and closed.
    pub connections_max: usize,
    /// Connections of one user at a time, root excepted: no user can lock the others out, and none
    /// the administrator.
    pub connections_per_uid_max: usize,
    /// Bytes held for all peers together, in requests not complete and answers not read. Beyond it
    /// whoever has kept the daemon waiting longest loses its connection.
    pub buffer_bytes_max: usize,
    /// How long a peer may take to attach, to complete a request it has begun, or to read an answer.
    pub stall: Duration,
    /// How long the event loop looks at a mailbox in which requests come closer together than that,
    /// before it sleeps; zero: not at all.
    pub spin: Duration,
}
