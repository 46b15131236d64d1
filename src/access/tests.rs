//! The hazard: a process gets the rights of a rule that is not the first one that names it, or a
//! right for a key that its prefixes do not cover.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn named(ids: &[u32]) -> Vec<Named> {
    ids.iter().map(|&id| Named { name: id.to_string(), id }).collect()
}

fn keys() -> impl Strategy<Value = Keys> {
    prop_oneof![
        Just(Keys::All),
        vec("[ab]{0,2}", 0..3).prop_map(|prefixes| {
            Keys::With(prefixes.into_iter().map(String::into_bytes).collect())
        })
    ]
}

prop_compose! {
    fn rights()(
        attach: bool, fetch in keys(), write in keys(), delete in keys(), flush in keys(),
        observe: bool, admin: bool, connections in prop::option::of(0_usize..9),
    ) -> Rights {
        let quota = Quota { connections, ..Quota::default() };
        Rights { attach, fetch, write, delete, flush, observe, admin, quota }
    }
}

prop_compose! {
    fn rule()(
        users in vec(1_u32..6, 0..3), groups in vec(1_u32..6, 0..3), rights in rights(),
    ) -> AccessRule {
        AccessRule { users: named(&users), groups: named(&groups), line: 1, rights }
    }
}

/// The same, as the documents say it.
fn first_rule<'a>(rules: &'a [AccessRule], who: &Identity) -> Option<&'a AccessRule> {
    for rule in rules {
        let names_nobody = rule.users.len() + rule.groups.len() == 0;
        let mut groups = who.groups.clone();
        groups.push(who.gid);
        if names_nobody
            || rule.users.iter().any(|named| named.id == who.uid)
            || rule.groups.iter().any(|named| groups.contains(&named.id))
        {
            return Some(rule);
        }
    }
    None
}

/// A user that is neither root nor the one that runs the tests.
fn stranger(uid: u32) -> u32 {
    let own = nix::unistd::Uid::effective().as_raw();
    if (1..6).contains(&own) { uid + 1000 } else { uid }
}

proptest! {
    #[test]
    fn the_first_rule_that_names_a_process_holds_and_no_other(
        rules in vec(rule(), 1..6), uid in 1_u32..7, gid in 1_u32..7,
        groups in vec(1_u32..7, 0..3), key in "[abc]{1,3}",
    ) {
        let who = Identity { uid: stranger(uid), gid, groups };
        let limits = Quota { connections: Some(77), fetches: Some(5), ..Quota::default() };
        let access = Access::new(rules.clone(), limits);
        let rights = access.rights(access.grant(&who));
        let expected = first_rule(&rules, &who).map(|rule| rule.rights.clone());
        for right in [
            Right::Attach, Right::Fetch, Right::Write, Right::Delete, Right::Flush, Right::Observe,
            Right::Admin,
        ] {
            let holds = expected.as_ref().is_some_and(|rights| rights.attach && match right {
                Right::Attach => true,
                Right::Fetch => covers(&rights.fetch, &key),
                Right::Write => covers(&rights.write, &key),
                Right::Delete => covers(&rights.delete, &key),
                Right::Flush => covers(&rights.flush, &key),
                Right::Observe => rights.observe,
                Right::Admin => rights.admin,
            });
            prop_assert_eq!(rights.hold(right, key.as_bytes()), holds, "{:?}", right);
        }
        let own_limit = expected.and_then(|rights| rights.quota.connections);
        prop_assert_eq!(rights.quota.connections, own_limit.or(Some(77)));
        prop_assert_eq!(rights.quota.fetches, Some(5));
    }

    #[test]
    fn root_and_the_daemons_own_user_may_do_everything(rules in vec(rule(), 0..4), key: Vec<u8>) {
        let access = Access::new(rules, Quota::default());
        for uid in [0, nix::unistd::Uid::effective().as_raw()] {
            let rights = access.rights(access.grant(&Identity { uid, ..Identity::default() }));
            prop_assert!(rights.hold(Right::Admin, &key) && rights.hold(Right::Write, &key));
        }
    }
}

fn covers(keys: &Keys, key: &str) -> bool {
    match keys {
        Keys::All => true,
        Keys::With(prefixes) => {
            prefixes.iter().any(|prefix| key.as_bytes().get(..prefix.len()) == Some(prefix))
        }
    }
}

#[test]
fn without_rules_all_is_allowed_but_to_administrate() {
    let access = Access::default();
    let who = Identity { uid: stranger(3), ..Identity::default() };
    let rights = access.rights(access.grant(&who));
    assert!(rights.hold(Right::Write, b"k") && rights.hold(Right::Flush, b""));
    assert!(rights.hold(Right::Observe, b"") && !rights.hold(Right::Admin, b""));
}

#[test]
fn a_flush_is_allowed_only_within_the_prefixes() {
    let keys = Keys::With(vec![b"page:".to_vec()]);
    assert!(keys.hold(b"page:") && keys.hold(b"page:home"));
    assert!(!keys.hold(b"") && !keys.hold(b"page") && !keys.hold(b"other:"));
}
