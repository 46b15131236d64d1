//! The life of a connection.

use super::super::mailbox::OwnerEnd;

/// How far a connection has come.
///
/// ```text
///                request: attach             reply: table and mailbox
///   Greeting ----------------------> Attaching --------------------> Mailbox
///      |                              |  |  ^                           |
///      |                 reply: table |  |  | request: attach           | the peer
///      |      +-----------------------+  |  |                           | hangs up
///      |      |   +--------------------------+                          v
///      |      v   |    request           |                           Leaving
///      |     Idle ----------> Asking     | reply: error                 |
///      |      ^  |  <--------            |                              | the ring
///      |         |     reply             |                              | is empty
///      | refused | refused               |                              v
///      +-------->+---------> Closing <---+                           (closed)
///                               |
///                               | all is sent
///                               v
///                            (closed)
/// ```
///
/// Any phase also ends when the connection breaks, a deadline passes, or the client breaks a rule.
/// `Greeting` and `Idle` also end when the peer has ended its stream and all replies are sent.
#[derive(Debug)]
pub(in crate::doors) enum Phase {
    /// The first request, which must be an attach, has not come.
    Greeting,
    /// An attach is with the service.
    Attaching {
        /// The client asks for a mailbox.
        wants_mailbox: bool,
    },
    /// Attached without a mailbox; the next request may come over the socket.
    Idle,
    /// A request that came over the socket is with the service.
    Asking,
    /// Requests come through the mailbox. Bytes on the socket are wakeups, without meaning.
    Mailbox(Box<OwnerEnd>),
    /// The peer has hung up. The requests that it left in its ring are still to be served.
    Leaving(Box<OwnerEnd>),
    /// The connection closes as soon as its last reply is sent.
    Closing,
}

impl Phase {
    pub(in crate::doors) fn mailbox(&self) -> Option<&OwnerEnd> {
        match self {
            Phase::Mailbox(mailbox) | Phase::Leaving(mailbox) => Some(mailbox),
            _ => None,
        }
    }

    pub(in crate::doors) fn mailbox_mut(&mut self) -> Option<&mut OwnerEnd> {
        match self {
            Phase::Mailbox(mailbox) | Phase::Leaving(mailbox) => Some(mailbox),
            _ => None,
        }
    }

    /// Returns whether the client has the table.
    pub(in crate::doors) fn is_attached(&self) -> bool {
        matches!(self, Phase::Idle | Phase::Asking | Phase::Mailbox(_) | Phase::Leaving(_))
    }

    /// Returns whether the service owes a reply to the socket.
    pub(in crate::doors) fn awaits_reply(&self) -> bool {
        matches!(self, Phase::Attaching { .. } | Phase::Asking)
    }

    pub(in crate::doors) fn is_leaving(&self) -> bool {
        matches!(self, Phase::Leaving(_))
    }

    /// `Mailbox` becomes `Leaving`; others stay.
    pub(super) fn leave(&mut self) {
        *self = match std::mem::replace(self, Phase::Closing) {
            Phase::Mailbox(mailbox) => Phase::Leaving(mailbox),
            other => other,
        };
    }
}
