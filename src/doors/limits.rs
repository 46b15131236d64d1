//! Limits on the resources that clients may use.

use std::time::Duration;

/// Limits on the resources that clients may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest payload of a request.
    pub frame_bytes_max: usize,
    /// Connections at a time. One more gets an error and is closed.
    pub connections_max: usize,
    /// Connections of one user at a time, so that no user can lock the others out. Root is exempt,
    /// so that no user can lock the administrator out.
    pub connections_per_uid_max: usize,
    /// Of `buffer_bytes_max`, the share that one user can have. Root is exempt.
    pub buffer_bytes_per_uid_max: usize,
    /// Bytes buffered for all clients together: incomplete requests and unread replies. Beyond it
    /// the client that has stalled longest loses its connection.
    pub buffer_bytes_max: usize,
    /// How long a client may take to attach, to complete a request, or to read a reply.
    pub stall: Duration,
    /// The event loop polls a mailbox as long as its next request is expected within this time, and
    /// sleeps otherwise. Zero never polls.
    pub spin: Duration,
    /// How long pending work may still take when the daemon is to stop.
    pub grace: Duration,
}
