//! The state of the peer's end of a socket.

use crate::reactor::Readiness;

/// The state of the peer's end of a socket.
///
/// ```text
///                 event                  end of stream
///   Drained <---------------> Readable -----------------> Ended
///      |         received        |                          ^
///      +----------> HungUp <-----+                          |
///        hangup        +------------------------------------+
///                                  end of stream
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::doors) enum Incoming {
    /// Nothing is there to be received.
    Drained,
    /// There is something to receive: bytes, or the end of the stream.
    Readable,
    /// The peer neither sends nor receives any more. What it sent before may not be received yet.
    HungUp,
    /// All has been received; the peer sends nothing more.
    Ended,
}

impl Incoming {
    /// Takes note of an event.
    pub(in crate::doors) fn notice(&mut self, readiness: Readiness) {
        *self = match *self {
            Incoming::Ended => Incoming::Ended,
            _ if readiness.hung_up => Incoming::HungUp,
            Incoming::Drained if readiness.readable => Incoming::Readable,
            other => other,
        };
    }

    /// Returns whether a receive can bring something.
    pub(super) fn is_readable(self) -> bool {
        matches!(self, Incoming::Readable | Incoming::HungUp)
    }

    /// Nobody has watched for a while: something may be there.
    pub(in crate::doors) fn suspect(&mut self) {
        if *self == Incoming::Drained {
            *self = Incoming::Readable;
        }
    }

    /// The peer has hung up, or all that it sent has been received.
    pub(in crate::doors) fn is_over(self) -> bool {
        matches!(self, Incoming::HungUp | Incoming::Ended)
    }

    /// A receive took what was there; if that `ended` the stream, nothing more comes.
    pub(super) fn received(&mut self, ended: bool) {
        *self = match *self {
            _ if ended => Incoming::Ended,
            Incoming::Readable => Incoming::Drained,
            // A hangup is reported by every wait, and each time more can be received.
            other => other,
        };
    }
}
