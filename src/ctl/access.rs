//! `access`: the rights of a user, and the rule that grants them.

use super::{Failure, admin};
use crate::cli::print;
use l1d_client::{Client, Identity};
use nix::unistd::{Gid, Uid, User, getgrouplist};
use serde_json::Value;
use std::ffi::CString;
use std::process::ExitCode;

pub(super) fn show(client: &Client, user: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
    let of = user.map(identity).transpose()?;
    let text = client.admin().access_json(of)?;
    if json {
        print(format!("{text}\n"))?;
    } else {
        print(page(&admin::parse(&text)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A user as the system knows it. A number without a name has no groups.
fn identity(name: &str) -> Result<Identity, Failure> {
    let found = match name.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(name),
    };
    let user = found.map_err(|errno| {
        let why = errno.desc();
        Failure::Usage(format!(
            "the user {name:?} cannot be looked up: {why}; check it with \"getent passwd {name}\""
        ))
    })?;
    let Some(user) = user else {
        let number = name.parse().map_err(|_| {
            Failure::Usage(format!("this host has no user {name:?}; give a name or a number"))
        });
        return number.map(|uid| Identity {
            uid,
            gid: Gid::current().as_raw(),
            groups: Vec::new(),
        });
    };
    let groups = CString::new(user.name).ok().and_then(|name| getgrouplist(&name, user.gid).ok());
    let groups = groups.unwrap_or_default().into_iter().map(Gid::as_raw).collect();
    Ok(Identity { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
}

fn page(access: &Value) -> String {
    let text = |name: &str| match &access[name] {
        Value::Bool(true) => "yes".to_owned(),
        Value::Array(prefixes) => {
            let prefixes = prefixes.iter().map(|prefix| format!("keys with {prefix}"));
            prefixes.collect::<Vec<_>>().join(", ")
        }
        _ => "no".to_owned(),
    };
    let rule = access["rule"].as_str().unwrap_or_default();
    let mut page = format!("user {}: {rule}\n", access["uid"]);
    let rights = [
        ("attach", "connect, and read all that is in the table"),
        ("fetch", "have keys fetched from the tiers"),
        ("write", "set and change keys"),
        ("delete", "delete keys"),
        ("flush", "remove keys from L1"),
        ("observe", "see clients and keys"),
        ("admin", "reload the policy, move the table"),
    ];
    for (name, what) in rights {
        page.push_str(&format!("  {name:<8} {:<4} ({what})\n", text(name)));
    }
    for (name, limit) in access["limits"].as_object().into_iter().flatten() {
        if !limit.is_null() {
            page.push_str(&format!("  {name:<16} {limit}\n"));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_user_is_shown_what_it_may_do_and_by_which_rule() {
        let page = page(&json!({
            "uid": 33, "rule": "[[access]] in line 7, user www-data", "attach": true, "fetch": false,
            "write": ["page:", "session:"], "delete": [], "limits": { "fetches_max": 10 },
        }));
        assert!(page.starts_with("user 33: [[access]] in line 7, user www-data\n"), "{page}");
        assert!(page.contains("attach   yes") && page.contains("fetch    no"), "{page}");
        assert!(page.contains("write    keys with \"page:\", keys with \"session:\""), "{page}");
        assert!(page.contains("fetches_max      10"), "{page}");
    }

    #[test]
    fn a_user_has_the_groups_that_the_system_knows_of() {
        let root = identity("root").ok().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(identity("4000000000").ok().unwrap().uid, 4_000_000_000);
        assert!(identity("no-such-user-here").is_err());
    }
}
