//! The rights and limits of a rule.

use serde_json::{Value, json};

/// A kind of request that a rule can grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Connect, and read everything in the table.
    Attach,
    /// Have a key fetched from the tiers.
    Fetch,
    /// Set a key, change it by an operation, or load it.
    Write,
    /// Delete a key.
    Delete,
    /// Remove all keys with a prefix from L1.
    Flush,
    /// See clients and keys, and where a key stands.
    Observe,
    /// Have the configuration read again, or move the table.
    Admin,
}

impl Right {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Right::Attach => "attach",
            Right::Fetch => "fetch",
            Right::Write => "write",
            Right::Delete => "delete",
            Right::Flush => "flush",
            Right::Observe => "observe",
            Right::Admin => "admin",
        }
    }

    /// The act that the right allows, on `keys`, after "may not".
    pub(super) fn verb(self, keys: &str) -> String {
        match self {
            Right::Attach => "use this cache".to_owned(),
            Right::Fetch => format!("have {keys} fetched from the tiers"),
            Right::Write | Right::Delete | Right::Flush => format!("{} {keys}", self.name()),
            Right::Observe => "look at clients and keys".to_owned(),
            Right::Admin => "reload the policy or move the table".to_owned(),
        }
    }
}

/// Keys for which a right holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// All.
    All,
    /// Those that begin with one of these; without any: none.
    With(Vec<Vec<u8>>),
}

impl Keys {
    /// No keys.
    pub const NONE: Keys = Keys::With(Vec::new());

    /// Whether `key` is one of them; for a prefix: whether all keys with it are.
    #[must_use]
    pub fn hold(&self, key: &[u8]) -> bool {
        match self {
            Keys::All => true,
            Keys::With(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix)),
        }
    }

    fn json(&self) -> Value {
        match self {
            Keys::All => true.into(),
            Keys::With(prefixes) if prefixes.is_empty() => false.into(),
            Keys::With(prefixes) => {
                prefixes.iter().map(|prefix| String::from_utf8_lossy(prefix)).collect()
            }
        }
    }
}

/// How much each user may have under way; `None`: the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Connections.
    pub connections: Option<usize>,
    /// Of these, connections with a mailbox.
    pub mailboxes: Option<usize>,
    /// Fetches from the tiers, and keys that are being loaded: of each so many.
    pub fetches: Option<usize>,
    /// Changes that wait for the tiers.
    pub writes: Option<usize>,
    /// Bytes of values that wait for the tiers; and as many of requests and replies that the user's
    /// processes have not completed or taken.
    pub bytes: Option<usize>,
}

impl Quota {
    /// As much as there is.
    pub const UNLIMITED: Quota = {
        let all = Some(usize::MAX);
        Quota { connections: all, mailboxes: all, fetches: all, writes: all, bytes: all }
    };

    /// This, and what it leaves open as in `other`.
    #[must_use]
    pub fn or(&self, other: &Quota) -> Quota {
        Quota {
            connections: self.connections.or(other.connections),
            mailboxes: self.mailboxes.or(other.mailboxes),
            fetches: self.fetches.or(other.fetches),
            writes: self.writes.or(other.writes),
            bytes: self.bytes.or(other.bytes),
        }
    }

    /// For people and programs; `null`: the default.
    #[must_use]
    pub fn json(&self) -> Value {
        let shown = |limit: Option<usize>| limit.filter(|limit| *limit != usize::MAX);
        json!({
            "connections_max": shown(self.connections),
            "mailboxes_max": shown(self.mailboxes),
            "fetches_max": shown(self.fetches),
            "writes_max": shown(self.writes),
            "bytes_max": shown(self.bytes),
        })
    }
}

/// Everything that a rule grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// See [`Right::Attach`]. Without it nothing else counts.
    pub attach: bool,
    /// See [`Right::Fetch`].
    pub fetch: Keys,
    /// See [`Right::Write`].
    pub write: Keys,
    /// See [`Right::Delete`].
    pub delete: Keys,
    /// See [`Right::Flush`].
    pub flush: Keys,
    /// See [`Right::Observe`].
    pub observe: bool,
    /// See [`Right::Admin`].
    pub admin: bool,
    /// How much each user that the rule is for may have under way.
    pub quota: Quota,
}

impl Rights {
    pub(super) fn all() -> Rights {
        let all = || Keys::All;
        Rights {
            attach: true,
            fetch: all(),
            write: all(),
            delete: all(),
            flush: all(),
            observe: true,
            admin: true,
            quota: Quota::default(),
        }
    }

    pub(super) fn none() -> Rights {
        Rights {
            attach: false,
            fetch: Keys::NONE,
            write: Keys::NONE,
            delete: Keys::NONE,
            flush: Keys::NONE,
            observe: false,
            admin: false,
            quota: Quota::default(),
        }
    }

    /// Whether the right holds, for `key` if it is one for keys.
    #[must_use]
    pub fn hold(&self, right: Right, key: &[u8]) -> bool {
        self.attach
            && match right {
                Right::Attach => true,
                Right::Fetch => self.fetch.hold(key),
                Right::Write => self.write.hold(key),
                Right::Delete => self.delete.hold(key),
                Right::Flush => self.flush.hold(key),
                Right::Observe => self.observe,
                Right::Admin => self.admin,
            }
    }

    /// For people and programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "attach": self.attach,
            "fetch": self.fetch.json(),
            "write": self.write.json(),
            "delete": self.delete.json(),
            "flush": self.flush.json(),
            "observe": self.observe,
            "admin": self.admin,
            "limits": self.quota.json(),
        })
    }
}
