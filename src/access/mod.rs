//! Access control: the rules of `[[access]]`, by the user and the groups of a client's process.
//!
//! The first rule that a process matches holds for it, and only that one. It is looked up when the
//! client connects, and again when the rules change; a request only looks at its result, a
//! [`Grant`]. Without rules, whoever may connect may do everything but administrate. Root and the
//! daemon's own user may do everything, whatever the rules say.
//!
//! | part | file |
//! |---|---|
//! | what a rule grants, and how much a user may have under way | `rights` |
//! | what the kernel knows of a client | `peer` |
//! | refusals in the log, at a bounded rate | `refusals` |

mod peer;
mod refusals;
mod rights;
#[cfg(test)]
mod tests;

pub use peer::identity_of;
pub use refusals::Refusals;
pub use rights::{Keys, Quota, Right, Rights};

use l1d_wire::protocol::Identity;
use serde_json::{Value, json};

/// A user or group of a rule, as the configuration names it and as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// As it is written.
    pub name: String,
    /// The number.
    pub id: u32,
}

/// A rule of `[[access]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// It holds for processes of these users,
    pub users: Vec<Named>,
    /// and for those in these groups; if both are empty, for all.
    pub groups: Vec<Named>,
    /// The line of the configuration in which it begins.
    pub line: usize,
    /// What it grants.
    pub rights: Rights,
}

/// The place of a client's rights in [`Access`], until the rules change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant(u16);

impl Grant {
    /// Root's: everything, without quotas.
    pub const ROOT: Grant = Grant(0);
    /// The daemon's own user's: everything.
    const OWN: Grant = Grant(1);
    /// Of all others, where there are no rules.
    const OPEN: Grant = Grant(2);
    /// Of those that no rule is for.
    pub const NOBODY: Grant = Grant(3);
}

/// Rights that no rule of the configuration grants.
const BUILT_IN: usize = 4;

/// All rules, in the order of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    rules: Vec<AccessRule>,
    /// By [`Grant`]: the built-in ones, then those of the rules.
    rights: Vec<Rights>,
    own_uid: u32,
}

impl Access {
    /// `limits` hold for each user, where a rule has no limits of its own. The most rules are
    /// 65,000; more are ignored, which the configuration does not let happen.
    #[must_use]
    pub fn new(rules: Vec<AccessRule>, limits: Quota) -> Access {
        let root = Rights { quota: Quota::UNLIMITED, ..Rights::all() };
        let own = Rights { quota: limits, ..Rights::all() };
        let open = Rights { admin: false, ..own.clone() };
        let nobody = Rights { quota: limits, ..Rights::none() };
        let mut rights = vec![root, own, open, nobody];
        rights.extend(rules.iter().map(|rule| {
            let quota = rule.rights.quota.or(&limits);
            Rights { quota, ..rule.rights.clone() }
        }));
        Access { rules, rights, own_uid: nix::unistd::Uid::effective().as_raw() }
    }

    /// The rules, in the order of the configuration.
    #[must_use]
    pub fn rules(&self) -> &[AccessRule] {
        &self.rules
    }

    /// The limits that hold where no rule has others.
    #[must_use]
    pub fn limits(&self) -> Quota {
        self.rights(Grant::OWN).quota
    }

    /// Whether a process's supplementary groups make a difference.
    #[must_use]
    pub fn asks_for_groups(&self) -> bool {
        self.rules.iter().any(|rule| !rule.groups.is_empty())
    }

    /// What holds for a process: its first rule.
    #[must_use]
    pub fn grant(&self, who: &Identity) -> Grant {
        match who.uid {
            0 => Grant::ROOT,
            uid if uid == self.own_uid => Grant::OWN,
            _ if self.rules.is_empty() => Grant::OPEN,
            _ => match self.rules.iter().position(|rule| rule.is_for(who)) {
                Some(place) => u16::try_from(BUILT_IN + place).map_or(Grant::NOBODY, Grant),
                None => Grant::NOBODY,
            },
        }
    }

    /// What a grant lets its client do.
    #[must_use]
    pub fn rights(&self, grant: Grant) -> &Rights {
        self.rights.get(usize::from(grant.0)).unwrap_or(&self.rights[usize::from(Grant::NOBODY.0)])
    }

    /// The rule behind a grant, in words.
    #[must_use]
    pub fn source(&self, grant: Grant) -> String {
        match grant {
            Grant::ROOT => "root may do everything".to_owned(),
            Grant::OWN => "the daemon's own user may do everything".to_owned(),
            Grant::OPEN => {
                "without [[access]], whoever may connect may do everything but administrate"
                    .to_owned()
            }
            _ => match self.rule(grant) {
                Some(rule) => format!("[[access]] in line {}, {}", rule.line, rule.whom()),
                None => "no [[access]] is for it".to_owned(),
            },
        }
    }

    fn rule(&self, grant: Grant) -> Option<&AccessRule> {
        self.rules.get(usize::from(grant.0).checked_sub(BUILT_IN)?)
    }

    /// Why a client of user `uid` is refused, and what to do. `keys` names the keys concerned;
    /// empty: none are.
    #[must_use]
    pub fn refusal(&self, (uid, grant): (u32, Grant), right: Right, keys: &str) -> String {
        let what = right.verb(keys);
        let source = self.source(grant);
        let name = right.name();
        if grant == Grant::OPEN {
            let own = self.own_uid;
            return format!(
                "user {uid} may not {what}: without an [[access]] rule that grants {name}, only \
                 root and user {own}, the daemon's, may"
            );
        }
        let advice = match right {
            _ if grant == Grant::NOBODY => {
                "have a rule with its user or a group of it added to l1d.toml".to_owned()
            }
            Right::Attach => "have attach = false taken out of that rule".to_owned(),
            _ if keys.is_empty() => format!("have {name} = true added to that rule"),
            _ => format!("have the prefix added to {name} of that rule"),
        };
        format!("user {uid} may not {what} ({source}): {advice}, then run l1ctl policy reload")
    }

    /// What a grant lets its client do, for people and programs.
    #[must_use]
    pub fn json(&self, uid: u32, grant: Grant) -> Value {
        let mut answer = self.rights(grant).json();
        answer["uid"] = uid.into();
        answer["rule"] = self.source(grant).into();
        answer["line"] = json!(self.rule(grant).map(|rule| rule.line));
        answer
    }
}

impl Default for Access {
    fn default() -> Access {
        Access::new(Vec::new(), Quota::default())
    }
}

impl AccessRule {
    fn is_for(&self, who: &Identity) -> bool {
        let is_in = |group: &Named| group.id == who.gid || who.groups.contains(&group.id);
        (self.users.is_empty() && self.groups.is_empty())
            || self.users.iter().any(|user| user.id == who.uid)
            || self.groups.iter().any(is_in)
    }

    /// For whom it is, in words.
    #[must_use]
    pub fn whom(&self) -> String {
        let names = |named: &[Named]| {
            named.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        match (self.users.as_slice(), self.groups.as_slice()) {
            ([], []) => "for everyone".to_owned(),
            (users, []) => format!("user {}", names(users)),
            ([], groups) => format!("group {}", names(groups)),
            (users, groups) => format!("user {} or group {}", names(users), names(groups)),
        }
    }
}
