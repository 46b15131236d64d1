//! Messages between a client and the daemon.
//!
//! [`Request`] and [`Response`] are the whole vocabulary, however they travel: as frames
//! ([`frame`]) on the control socket, or as records in a mailbox ([`shm_layout::mailbox`]). The
//! bytes of each message are in `codec`; both sides use the same functions. [`version`] has the
//! versions, and the rules by which neighbouring ones work together.

mod codec;
pub mod frame;
mod operation;
pub mod version;

pub use codec::{DecodeError, EncodeError};
pub use operation::{NotChanged, Operate, Operation};
pub use version::PROTOCOL_VERSION;

use crate::policy::WriteMode;
use crate::snapshot::KeyOrder;
use shm_layout::Layout;
use std::borrow::Cow;
use std::time::Duration;

/// A request of a client to the daemon. Borrows its bytes from the caller or from a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// First request on every connection: hands over the table. Its bytes are the same in every
    /// version.
    Attach {
        /// The newest version that the client speaks, or an older one that it falls back to.
        protocol: u32,
        /// Whether the client wants a mailbox on this connection. With one, all further requests
        /// travel in it, and what it sends on the socket only wakes the daemon.
        mailbox: bool,
    },
    /// Look a key up in the table, then in the tiers.
    Get {
        /// The key.
        key: &'a [u8],
    },
    /// The same for many keys; one [`Response::Many`] answers, in the order asked. It may answer
    /// only the first of them, at least one, where all would make too large a frame
    /// ([`frame::MANY_BYTES`]); the client asks again for the rest.
    GetMany {
        /// The keys.
        keys: Vec<&'a [u8]>,
    },
    /// Store a value.
    Set(Set<'a>),
    /// Store many values, each as by a [`Request::Set`]; one [`Response::Many`] answers, in the
    /// order asked, with one answer for each.
    SetMany {
        /// The values.
        sets: Vec<Set<'a>>,
    },
    /// Remove a key from the table and, by policy, from the tiers.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Change a key in one step that depends on what it holds; answered by [`Response::Changed`],
    /// [`Response::NotChanged`], or [`Response::Found`] for [`Operation::GetAndTouch`]. From
    /// version 5 on.
    Operate(Operate<'a>),
    /// Become the one process of the host that computes the value of a key which nobody has. Answered
    /// with the value if the table has it, with [`Response::Reserved`], with [`Response::Loading`]
    /// if another process does so already, or with the error of that process.
    Reserve {
        /// The key.
        key: &'a [u8],
        /// How long it may take to compute the value.
        lease: Duration,
        /// The token in the last [`Response::Loading`] about this key; 0: there was none.
        waits_for: u64,
    },
    /// Store the value that a reservation is for.
    Fill {
        /// Of the reservation.
        token: u64,
        /// The value.
        set: Set<'a>,
    },
    /// End a reservation without a value.
    Abandon {
        /// The key.
        key: &'a [u8],
        /// Of the reservation.
        token: u64,
        /// The error for all who wait; empty: the next of them takes over.
        error: &'a str,
    },
    /// Make every entry whose policy or key has this prefix invisible in L1; empty: all.
    Flush {
        /// The prefix.
        prefix: &'a [u8],
    },
    /// Figures of the daemon, as JSON.
    Stats,
    /// Figures of each client, as JSON.
    Clients,
    /// What the daemon knows of one key, as JSON.
    Explain {
        /// The key.
        key: &'a [u8],
    },
    /// Check every invariant of the table; JSON.
    Check,
    /// The policy in force, as JSON.
    Policy,
    /// Read the configuration again; answered in JSON when its policy is in force. Only for root,
    /// the daemon's own user, and whom an access rule grants `admin`. New in version 5.
    ReloadPolicy,
    /// What hit ratio the table would have at other sizes, as JSON.
    Advise,
    /// What the access rules let a process do, and which of them holds for it, as JSON. New in
    /// version 5.
    Access {
        /// Whose process; `None`: the one that asks.
        of: Option<Identity>,
    },
    /// The hottest or largest keys with a prefix, from samples, as JSON. From version 5 on.
    Keys {
        /// What they begin with; empty: all.
        prefix: &'a [u8],
        /// The most keys to name.
        top: u16,
        /// Which come first.
        by: KeyOrder,
    },
    /// Move all entries to a table of another shape while everybody goes on; answered in JSON when
    /// that is done. Only for root, the daemon's own user, and whom an access rule grants `admin`.
    Resize {
        /// Bytes of the new table; `None`: as many as now.
        table_bytes: Option<u64>,
        /// Expected bytes of an entry, which sizes the index; `None`: as configured, 0: as entries
        /// are now.
        entry_bytes: Option<u32>,
    },
}

impl Request<'_> {
    /// The oldest version of the protocol that has this request.
    #[must_use]
    pub fn since(&self) -> u32 {
        match self {
            Request::Operate(_)
            | Request::Reserve { .. }
            | Request::Fill { .. }
            | Request::Abandon { .. }
            | Request::Keys { .. }
            | Request::Access { .. } => version::PROTOCOL_OPERATIONS,
            _ => version::PROTOCOL_OLDEST,
        }
    }
}

/// The user and the groups of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A value to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value, zero bytes included.
    pub value: &'a [u8],
    /// Life of the L1 copy; `None`: by policy. Never longer than policy allows.
    pub ttl: Option<Duration>,
    /// Client flags, kept and written to L2 as they are.
    pub flags: u32,
    /// How far down; `None`: by policy.
    pub write: Option<WriteMode>,
    /// `false`: the daemon sends no response.
    pub reply: bool,
}

/// A response of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response<'a> {
    /// Answer to [`Request::Attach`]; the table's read-only descriptor travels beside it, followed
    /// by the mailbox's, if there is one.
    Attached(Attached<'a>),
    /// The key has this value.
    Found {
        /// The value.
        value: &'a [u8],
        /// Client flags.
        flags: u32,
        /// Version of the table's entry; 0 when the value was not installed.
        version: u64,
        /// What remains of its life in L1.
        ttl: Duration,
    },
    /// The key is known to have no value, for this long.
    Absent {
        /// How long that is to be remembered.
        ttl: Duration,
    },
    /// Nobody who was asked has the key.
    Unknown,
    /// Answers to [`Request::GetMany`] and [`Request::SetMany`].
    Many(Vec<Response<'a>>),
    /// The value is stored and visible to every process.
    Stored {
        /// Version of the entry; 0 where the table holds no copy (process scope).
        version: u64,
        /// A tier could not take it, and policy said to publish all the same.
        degraded: bool,
        /// The life that it has, if that is shorter than the one asked for. From version 5 on.
        life: Option<Duration>,
    },
    /// The key is gone.
    Deleted {
        /// Whether L1 or a tier had it.
        existed: bool,
        /// A tier could not be told.
        degraded: bool,
    },
    /// The operation is done, and visible to every process.
    Changed {
        /// Version of the entry; 0 where the table holds no copy.
        version: u64,
        /// The counter's new value, after [`Operation::Count`].
        number: Option<i64>,
        /// L2 has not deleted its copy, and is not read for the key before it has.
        degraded: bool,
        /// The life that the operation gave, if that is shorter than the one asked for.
        life: Option<Duration>,
    },
    /// The operation's condition does not hold; nothing has changed.
    NotChanged {
        /// Which one.
        reason: NotChanged,
    },
    /// The requester is to compute the value of the key that it has reserved.
    Reserved {
        /// To be given with the value.
        token: u64,
    },
    /// Another process computes the value of the key: ask again soon.
    Loading {
        /// Of its reservation; 0: the key is being changed instead.
        token: u64,
    },
    /// The request was carried out.
    Done,
    /// Answer of an administrator's request: one JSON document.
    Json(&'a str),
    /// The request failed.
    Error {
        /// What kind of failure.
        code: ErrorCode,
        /// What happened, to what, and what to do next.
        message: &'a str,
    },
}

impl<'a> Response<'a> {
    /// This response without the fields that a peer of this version does not know.
    #[must_use]
    pub fn known_to(&self, protocol: u32) -> Cow<'_, Response<'a>> {
        match self {
            Response::Stored { version, degraded, life: Some(_) }
                if protocol < version::PROTOCOL_OPERATIONS =>
            {
                let (version, degraded) = (*version, *degraded);
                Cow::Owned(Response::Stored { version, degraded, life: None })
            }
            Response::Many(answers) if protocol < version::PROTOCOL_OPERATIONS => {
                let answers = answers.iter().map(|answer| answer.known_to(protocol).into_owned());
                Cow::Owned(Response::Many(answers.collect()))
            }
            known => Cow::Borrowed(known),
        }
    }
}

/// The daemon's answer to an attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached<'a> {
    /// The [agreed](version::agreed_version) version.
    pub protocol: u32,
    /// Identity of the table whose descriptor comes along.
    pub table_id: u64,
    /// Bytes of the table's file.
    pub table_bytes: u64,
    /// Counts the daemons that have owned this table.
    pub instance: u64,
    /// The daemon's CLOCK_MONOTONIC when it answered, in ns, to find the offset between time
    /// namespaces.
    pub clock_ns: u64,
    /// Bytes of the mailbox whose descriptor comes along; 0: none does, and requests go on over the
    /// socket.
    pub mailbox_bytes: u64,
    /// The policy, encoded by [`crate::policy::PolicySet::encode`].
    pub policy: &'a [u8],
    /// What the memory that comes along looks like; `None` in version 4, `Some` in later ones.
    pub layouts: Option<Layouts>,
    /// The table's epoch of the policy ([`POLICY_EPOCH`](shm_layout::header::POLICY_EPOCH)) at
    /// which `policy` holds; `None` from a daemon whose policy changes by a restart only. Travels
    /// only where there are `layouts`.
    pub policy_epoch: Option<u64>,
}

/// Layouts of the memory that a daemon hands out. A client that does not know the table's works
/// without the table; one that does not know the mailbox's sends its requests over the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layouts {
    /// The table's.
    pub table: Layout,
    /// The mailboxes', even if none comes along.
    pub mailbox: Layout,
}

impl Layouts {
    /// Those of this build.
    pub const OWN: Layouts = Layouts { table: Layout::TABLE, mailbox: Layout::MAILBOX };
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorCode {
    /// A kind that this build does not know: the peer is newer. It is not sent.
    Other = 0,
    /// The frame or its content could not be understood; the connection is closed.
    Malformed = 1,
    /// Key or value is larger than the table or the policy allows, or the key is empty.
    TooLarge = 2,
    /// The daemon refuses this request.
    Refused = 3,
    /// A tier could not answer or take the write; L1 is unchanged.
    TierFailed = 4,
    /// A write was begun and its outcome is not known.
    UnknownOutcome = 5,
    /// Too much is waiting already; try again.
    Busy = 6,
    /// The daemon is at fault.
    Internal = 7,
    /// The daemon does not speak the version of the attach.
    WrongProtocol = 8,
    /// The process that was computing the value of a key could not; the text is its own.
    LoadFailed = 9,
    /// The key's rule never evicts, and its entries have taken its share; nothing was changed.
    Full = 10,
    /// The access rules do not let the client do this; nothing was changed.
    Denied = 11,
}
