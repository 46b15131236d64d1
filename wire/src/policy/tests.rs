//! Would catch: a key under another rule than the longest prefix, a policy that changes on its way
//! to a client, damaged bytes that bring a client down.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![0..u64::MAX, 0..10_000_000_000_u64].prop_map(Duration::from_nanos)
}

prop_compose! {
    fn rule()(
        prefix in vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0), Just(255)], 0..6),
        (process, l1_only, publish) in any::<(bool, bool, bool)>(),
        ttl in duration(), l2_ttl in duration(), l3_ttl in proptest::option::of(duration()),
        negative_ttl in duration(), value_bytes_max in any::<u32>(),
        share_max_permille in proptest::option::of(1..=1000u16),
    ) -> Rule {
        Rule {
            id: 0, prefix,
            scope: if process { Scope::Process } else { Scope::Host },
            write: if l1_only { WriteMode::L1Only } else { WriteMode::Through },
            on_write_error: if publish { OnWriteError::Publish } else { OnWriteError::Refuse },
            ttl, l2_ttl, l3_ttl, negative_ttl, value_bytes_max, share_max_permille,
            ..Rule::default()
        }
    }
}

prop_compose! {
    fn policy()(rules in vec(rule(), 1..20)) -> PolicySet {
        let mut rules = rules;
        rules[0].prefix.clear();
        let mut seen = std::collections::HashSet::new();
        rules.retain(|rule| seen.insert(rule.prefix.clone()));
        for (id, rule) in rules.iter_mut().enumerate() {
            rule.id = u8::try_from(id).unwrap();
        }
        PolicySet::new(rules).unwrap()
    }
}

proptest! {
    #[test]
    fn the_longest_prefix_wins(
        policy in policy(),
        keys in vec(
            vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'c'), Just(0), Just(255)], 0..9),
            1..50
        ),
    ) {
        for key in keys {
            let expected = policy.rules().iter().filter(|rule| key.starts_with(&rule.prefix))
                .max_by_key(|rule| rule.prefix.len()).unwrap();
            prop_assert_eq!(policy.rule(&key), expected);
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(policy in policy()) {
        let bytes = policy.encode();
        let decoded = PolicySet::decode(&bytes).unwrap();
        prop_assert_eq!(decoded.fingerprint(), policy.fingerprint());
        prop_assert_eq!(decoded, policy);
    }

    /// Bytes that are accepted are those that the encoder makes of what they were taken for.
    #[test]
    fn damaged_bytes_are_refused_or_mean_something_else(
        policy in policy(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = policy.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(decoded) = PolicySet::decode(&bytes) {
            prop_assert_eq!(decoded.encode(), bytes);
        }
    }

    #[test]
    fn cut_bytes_are_refused(policy in policy(), at in any::<prop::sample::Index>()) {
        let bytes = policy.encode();
        prop_assert!(PolicySet::decode(&bytes[..at.index(bytes.len())]).is_err());
        prop_assert!(PolicySet::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn any_bytes_are_safe(mut bytes in vec(any::<u8>(), 0..400), rules in any::<u8>()) {
        let _ = PolicySet::decode(&bytes);
        bytes.splice(0..0, [2, rules % 4]);
        let _ = PolicySet::decode(&bytes);
    }
}

fn numbered(prefixes: &[&[u8]]) -> Vec<Rule> {
    let rule = |(id, prefix): (usize, &&[u8])| Rule {
        id: u8::try_from(id % 256).unwrap(),
        prefix: prefix.to_vec(),
        ..Rule::default()
    };
    prefixes.iter().enumerate().map(rule).collect()
}

#[test]
fn rules_that_make_no_policy_are_refused() {
    let error = |rules| PolicySet::new(rules).unwrap_err();
    assert_eq!(error(vec![]), PolicyError::Count { count: 0 });
    assert_eq!(error(numbered(&[b"a"])), PolicyError::NoDefault);
    assert_eq!(
        error(numbered(&[b"", b"a", b"b", b"a"])),
        PolicyError::SamePrefix { first: 1, second: 3 }
    );
    assert_eq!(error(numbered(&[b"", b""])), PolicyError::SamePrefix { first: 0, second: 1 });
    assert_eq!(
        error(numbered(&[b"", &[b'x'; 256]])),
        PolicyError::PrefixTooLong { id: 1, bytes: 256 }
    );
    let names: Vec<Vec<u8>> =
        (0..=256_u16).map(|n| if n == 0 { vec![] } else { n.to_be_bytes().to_vec() }).collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    assert_eq!(error(numbered(&names)), PolicyError::Count { count: 257 });
    assert_eq!(PolicySet::new(numbered(&names[..256])).unwrap().rule(&[0, 255, 7]).id, 255);
    let mut rules = numbered(&[b"", b"a"]);
    rules[1].id = 0;
    assert_eq!(error(rules), PolicyError::Id { id: 0, position: 1 });
    let mut rules = numbered(&[b""]);
    rules[0].id = 1;
    assert_eq!(error(rules), PolicyError::Id { id: 1, position: 0 });
    let mut rules = numbered(&[b""]);
    rules[0].ttl = Duration::MAX;
    assert_eq!(error(rules), PolicyError::TtlTooLong { id: 0 });
}

#[test]
fn the_default_policy_is_what_new_makes_of_the_default_rule() {
    assert_eq!(PolicySet::default(), PolicySet::new(vec![Rule::default()]).unwrap());
    assert_eq!(PolicySet::default().rule(b"anything").id, 0);
    assert!(!PolicySet::default().has_process_scope());
}

/// Only in L3 is anything kept forever; elsewhere the encoding of that is refused.
#[test]
fn a_lifetime_without_end_is_refused_where_there_is_none() {
    let bytes = PolicySet::default().encode();
    for (at, is_l3) in [(6, false), (14, false), (22, true), (30, false)] {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].fill(0xff);
        let expected =
            if is_l3 { Ok(PolicySet::default()) } else { Err(PolicyError::TtlTooLong { id: 0 }) };
        assert_eq!(PolicySet::decode(&bytes), expected);
    }
}

/// A table remembers the fingerprint over restarts, so it may change with the encoding only.
#[test]
fn the_fingerprint_is_stable() {
    assert_eq!(PolicySet::default().fingerprint(), 0x8f25_cc53_e3fc_0c27);
}

/// The hazard: entries of a removed rule's number pass for those of its neighbour.
#[test]
fn ids_may_have_gaps_which_the_fingerprint_tells() {
    let mut rules = numbered(&[b"", b"a", b"ab", b"c"]);
    let dense = PolicySet::new(rules.clone()).unwrap();
    rules[2].id = 7;
    rules[3].id = 255;
    let policy = PolicySet::new(rules).unwrap();
    let ids = [b"x".as_slice(), b"a", b"abc", b"c", b"b"].map(|key| policy.rule(key).id);
    assert_eq!(ids, [0, 1, 7, 255, 0]);
    assert_eq!(policy.by_id(7).unwrap().prefix, b"ab");
    assert_eq!(policy.by_id(255).unwrap().prefix, b"c");
    assert!([2, 3, 8, 254].iter().all(|&id| policy.by_id(id).is_none()));
    assert_eq!(policy.encode(), dense.encode());
    assert_ne!(policy.fingerprint(), dense.fingerprint());
    assert_eq!(PolicySet::decode(&policy.encode()).unwrap(), dense);
}
