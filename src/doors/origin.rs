//! The address of a reply.

/// The address of a reply: a connection, or a lane of its mailbox. Never reused while the daemon
/// lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(pub u64);

/// The low bits number the connection. Above them is the lane plus one, or zero for the connection
/// itself.
const LANE_SHIFT: u32 = 56;

impl Origin {
    /// A lane of this connection's mailbox.
    pub(super) fn with_lane(self, lane: u8) -> Origin {
        Origin(self.0 | (u64::from(lane) + 1) << LANE_SHIFT)
    }

    /// The connection, whatever the lane.
    #[must_use]
    pub fn connection(self) -> Origin {
        self.split().0
    }

    /// The connection, and the lane.
    pub(super) fn split(self) -> (Origin, Option<u8>) {
        let lane = (self.0 >> LANE_SHIFT).checked_sub(1);
        (Origin(self.0 & ((1 << LANE_SHIFT) - 1)), lane.and_then(|lane| u8::try_from(lane).ok()))
    }
}
