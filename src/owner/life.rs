//! How long a value lives in each place (P16). A life given with a set is the record's: that of L3,
//! of L2 where it is alone, of L1 where there are no tiers. A rule's lives hold where a set gives
//! none, and cap the copies above the record. No copy outlives the record.

use crate::tiers::L2Change;
use l1d_wire::policy::Rule;
use std::time::Duration;

/// What lives shorter is not stored in memcached, which counts whole seconds.
const L2_TTL_MIN: Duration = Duration::from_secs(1);

/// The longest life that a request can carry, which asks for one without end.
const FOREVER: Duration = Duration::from_nanos(u64::MAX);

/// The lives of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lives {
    /// In the table.
    pub(super) l1: Duration,
    /// In L2.
    pub(super) l2: L2Change,
    /// In L3; `None`: without end.
    pub(super) l3: Option<Duration>,
    /// The life that the set has asked for, if any.
    pub(super) asked: Option<Duration>,
}

/// Where the record of a key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    L1,
    L2,
    L3,
}

impl Lives {
    /// The lives under `rule` of a value for which a set has asked for `asked`; [`FOREVER`] asks
    /// for a life without end. No value of which L1 has the record lives longer than
    /// `l1_max`.
    pub(super) fn new(
        rule: &Rule,
        asked: Option<Duration>,
        record: Record,
        l1_max: Duration,
    ) -> Lives {
        let finite = |ttl: Duration| (ttl < FOREVER).then_some(ttl);
        let below = |life: Option<Duration>, most: Duration| life.map_or(most, |l| l.min(most));
        let store = |life: Option<Duration>| match life {
            Some(life) if life < L2_TTL_MIN => L2Change::Delete,
            life => L2Change::Store(life),
        };
        match record {
            Record::L1 => {
                let l1 = asked.unwrap_or(rule.ttl).min(l1_max);
                Lives { l1, l2: L2Change::None, l3: None, asked }
            }
            Record::L2 => {
                let life = asked.map_or(Some(rule.l2_ttl), finite);
                Lives { l1: below(life, rule.ttl), l2: store(life), l3: None, asked }
            }
            Record::L3 => {
                let l3 = asked.map_or(rule.l3_ttl, finite);
                let l2 = match rule.l2 {
                    true => store(Some(below(l3, rule.l2_ttl))),
                    false => L2Change::None,
                };
                Lives { l1: below(l3, rule.ttl), l2, l3, asked }
            }
        }
    }

    /// The life of a value that only L1 has, if that is shorter than the one asked for. (A record
    /// in a tier has the life asked for.)
    pub(super) fn shortened_in_l1(&self) -> Option<Duration> {
        self.asked.filter(|asked| *asked > self.l1).map(|_| self.l1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn lives(asked: Option<Duration>, record: Record) -> (Duration, L2Change, Option<Duration>) {
        let rule = Rule { ttl: 20 * S, l2_ttl: 300 * S, l3_ttl: Some(900 * S), ..Rule::default() };
        let Lives { l1, l2, l3, .. } = Lives::new(&rule, asked, record, 3600 * S);
        (l1, l2, l3)
    }

    #[test]
    fn a_given_life_is_the_records_and_caps_all_copies() {
        let copy = |ttl| L2Change::Store(Some(ttl));
        assert_eq!(lives(None, Record::L3), (20 * S, copy(300 * S), Some(900 * S)));
        assert_eq!(lives(Some(S), Record::L3), (S, copy(S), Some(S)));
        assert_eq!(lives(Some(S / 2), Record::L3), (S / 2, L2Change::Delete, Some(S / 2)));
        assert_eq!(lives(Some(5000 * S), Record::L3), (20 * S, copy(300 * S), Some(5000 * S)));
        assert_eq!(lives(Some(FOREVER), Record::L3), (20 * S, copy(300 * S), None));
        assert_eq!(lives(None, Record::L2), (20 * S, copy(300 * S), None));
        assert_eq!(lives(Some(5 * S), Record::L2), (5 * S, copy(5 * S), None));
        assert_eq!(lives(Some(FOREVER), Record::L2), (20 * S, L2Change::Store(None), None));
        assert_eq!(lives(None, Record::L1).0, 20 * S);
        assert_eq!(lives(Some(60 * S), Record::L1).0, 60 * S, "a rule's life is only the default");
        assert_eq!(lives(Some(FOREVER), Record::L1).0, 3600 * S);
    }

    #[test]
    fn a_life_that_was_asked_for_and_not_given_is_told() {
        let rule = Rule { ttl: 20 * S, ..Rule::default() };
        let told = |asked| Lives::new(&rule, asked, Record::L1, 60 * S).shortened_in_l1();
        assert_eq!([told(None), told(Some(60 * S))], [None, None]);
        assert_eq!([told(Some(61 * S)), told(Some(FOREVER))], [Some(60 * S); 2]);
    }

    #[test]
    fn a_rule_may_leave_l2_out() {
        let rule = Rule { l2: false, ..Rule::default() };
        assert_eq!(Lives::new(&rule, None, Record::L3, 3600 * S).l2, L2Change::None);
    }

    #[test]
    fn a_rule_whose_record_is_short_lived_keeps_no_copy_longer() {
        let rule = Rule { l3_ttl: Some(2 * S), ..Rule::default() };
        let lives = Lives::new(&rule, None, Record::L3, 3600 * S);
        assert_eq!((lives.l1, lives.l2), (2 * S, L2Change::Store(Some(2 * S))));
    }
}
