//! Versions of the protocol, and how neighbours agree on one.
//!
//! A client asks in the newest version that it speaks, and the daemon answers in the [agreed] one:
//! the lower of the client's and its own. From then on both keep to that version. The bytes of
//! [`Request::Attach`] are the same in every version. So are the fields of [`Response::Attached`],
//! but a later version may add fields at the end, which an older client skips.
//!
//! A daemon of version 4 does not negotiate: it answers any other version with
//! [`ErrorCode::WrongProtocol`] and hangs up. The client then asks it again, on a new connection,
//! in version 4.
//!
//! | version | new |
//! |---|---|
//! | 4 | |
//! | 5 | negotiation; `Attached` names the [layouts](super::Layouts) of table and mailbox and the policy's epoch; [operations](super::Operation); reservations; `ReloadPolicy`; `Keys`; `Access`; `Stored` names a life that is shorter than the one asked for |
//!
//! Who changes the vocabulary raises [`PROTOCOL_VERSION`], and keeps to these rules:
//!
//! - To a peer of an older version goes only what that version has: requests, fields, and the
//!   format of the policy. An error code that it does not have may go to it: it decodes as
//!   [`ErrorCode::Other`].
//! - A client of version 4 expects mailboxes of layout 1. Later ones are told the layout before
//!   they map anything, and use the socket if they do not know it.
//!
//! [agreed]: agreed_version
//! [`Request::Attach`]: super::Request::Attach
//! [`Response::Attached`]: super::Response::Attached
//! [`ErrorCode::WrongProtocol`]: super::ErrorCode::WrongProtocol
//! [`ErrorCode::Other`]: super::ErrorCode::Other

/// The newest version that this build speaks.
pub const PROTOCOL_VERSION: u32 = 5;

/// The oldest version that this build speaks.
pub const PROTOCOL_OLDEST: u32 = 4;

/// The first version whose daemons negotiate.
pub const PROTOCOL_NEGOTIATED: u32 = 5;

/// The first version with operations and reservations.
pub const PROTOCOL_OPERATIONS: u32 = 5;

const _: () = assert!(PROTOCOL_OLDEST <= PROTOCOL_VERSION);

/// The version in which a daemon of this build answers a client whose newest version is `client`;
/// `None` if that client is too old.
#[must_use]
pub const fn agreed_version(client: u32) -> Option<u32> {
    let version = if client < PROTOCOL_VERSION { client } else { PROTOCOL_VERSION };
    if version >= PROTOCOL_OLDEST { Some(version) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_of_both_newest_versions_is_agreed_on() {
        assert_eq!(agreed_version(PROTOCOL_OLDEST - 1), None);
        assert_eq!(agreed_version(0), None);
        for version in PROTOCOL_OLDEST..=PROTOCOL_VERSION {
            assert_eq!(agreed_version(version), Some(version));
        }
        for newer in [PROTOCOL_VERSION + 1, 99, u32::MAX] {
            assert_eq!(agreed_version(newer), Some(PROTOCOL_VERSION));
        }
    }
}
