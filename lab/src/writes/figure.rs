//! The figures that `write` measures of l1d, and their limits.

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// A round trip of two processes that spin.
    SpinRoundTrip,
    /// A round trip of two processes that sleep.
    FutexRoundTrip,
    /// `set`, the daemon awake.
    SetAwake,
    /// `set`, the daemon asleep.
    SetAsleep,
    /// `set` without a mailbox.
    SetOverSocket,
    /// `get` of a key that no tier has.
    GetMissAwake,
    /// Sustained `set_with(no_wait)`.
    SetNoWait,
    /// `set_many`.
    SetMany,
    /// A set by the owner of the table.
    OwnerSet,
}

impl Figure {
    /// All figures, in the order of their turns.
    pub const ALL: [Figure; 9] = [
        Figure::SpinRoundTrip,
        Figure::FutexRoundTrip,
        Figure::SetAwake,
        Figure::SetAsleep,
        Figure::SetOverSocket,
        Figure::GetMissAwake,
        Figure::SetNoWait,
        Figure::SetMany,
        Figure::OwnerSet,
    ];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Figure::SpinRoundTrip => "spin_round_trip",
            Figure::FutexRoundTrip => "futex_round_trip",
            Figure::SetAwake => "set_awake",
            Figure::SetAsleep => "set_asleep",
            Figure::SetOverSocket => "set_over_socket",
            Figure::GetMissAwake => "get_miss_awake",
            Figure::SetNoWait => "set_no_wait",
            Figure::SetMany => "set_many",
            Figure::OwnerSet => "owner_set",
        }
    }

    /// The text in tables.
    pub fn text(self) -> &'static str {
        match self {
            Figure::SpinRoundTrip => "limit: round trip of two processes, both spin",
            Figure::FutexRoundTrip => "limit: round trip of two processes, both sleep (futex)",
            Figure::SetAwake => "set acknowledged, daemon awake",
            Figure::SetAsleep => "set acknowledged, daemon asleep",
            Figure::SetOverSocket => "set acknowledged, over the socket, awake",
            Figure::GetMissAwake => "get of an unknown key, daemon awake",
            Figure::SetNoWait => "set not waited for, sustained",
            Figure::SetMany => "set_many of 1,000, each value",
            Figure::OwnerSet => "limit: set by the owner of a table itself",
        }
    }

    /// The figure that it is compared with.
    pub fn limit(self) -> Option<Figure> {
        match self {
            Figure::SetAsleep => Some(Figure::FutexRoundTrip),
            Figure::SetAwake | Figure::GetMissAwake => Some(Figure::SpinRoundTrip),
            Figure::SetNoWait => Some(Figure::OwnerSet),
            _ => None,
        }
    }

    /// It can be measured with both sides on one core: neither side spins for the other.
    pub fn is_for_one_core(self) -> bool {
        self != Figure::SpinRoundTrip
    }
}
