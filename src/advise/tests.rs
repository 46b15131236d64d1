//! The advisor on streams whose hit ratios are known.

use super::*;
use shm_layout::hash::TableHasher;

const NEVER: u32 = shm_layout::entry::NEVER;

fn hash(key: u64) -> KeyHash {
    TableHasher::new(3).hash(&key.to_le_bytes())
}

fn entry(bytes: u32) -> Known {
    Known { bytes, policy: 0, is_absent: false, expiry: NEVER }
}

/// The owner's side of a cache that holds nothing but what `in_table` says.
fn request(advisor: &mut Advisor, key: u64, policy: u8, known: Known, is_in_table: bool) {
    let known = Known { policy, ..known };
    if is_in_table {
        return advisor.hit(hash(key), 1, 0, || Some(known));
    }
    advisor.missed(hash(key), policy, 0);
    advisor.stored(hash(key), known);
}

#[test]
fn a_uniform_stream_hits_as_much_as_fits() {
    let keys = 40_000;
    // Room for half of them in the table.
    let mut advisor = Advisor::new(keys / 2 * 200);
    let mut random = 1_u64;
    for _ in 0..400_000 {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = (random >> 33) % keys;
        request(&mut advisor, key, 0, entry(200), key < keys / 2);
    }
    let advice = advisor.estimate();
    assert!(advice.sampled_one_in >= 4, "{advice:?}");
    assert!(advisor.objects() <= OBJECTS_MAX && advisor.bytes() < 1 << 20, "{}", advisor.bytes());
    let ratios = advice.overall.unwrap();
    // The first reads of all keys miss at every size.
    for (found, wanted) in ratios.into_iter().zip([0.25, 0.50, 0.93, 0.93]) {
        assert!((found - wanted).abs() < 0.06, "{ratios:?}");
    }
    assert!(ratios.is_sorted());
}

#[test]
fn policies_have_figures_of_their_own_and_hot_keys_count_whether_sampled_or_not() {
    let mut advisor = Advisor::new(1000 * 100);
    for round in 0..400_u64 {
        for key in 0..1000 {
            // A scan of 100,000 keys under one policy, and one hot key under another.
            let scanned = 10 + (round * 1000 + key) % 100_000;
            request(&mut advisor, scanned, 1, entry(100), false);
            request(&mut advisor, key % 5, 2, entry(100), true);
        }
    }
    let advice = advisor.estimate();
    let of = |id: u8| advice.policies.iter().find(|policy| policy.0 == id).unwrap();
    assert!(of(1).2.unwrap().iter().all(|hit| *hit < 0.1), "{advice:?}");
    assert!(advice.sampled_one_in > 1 || (of(1).1 - 0.5).abs() < 0.01, "{advice:?}");
    let overall = advice.overall.unwrap();
    assert!(overall.iter().all(|hit| (0.45..0.55).contains(hit)), "{advice:?}");
}

#[test]
fn what_expired_or_was_removed_hits_at_no_size() {
    let mut advisor = Advisor::new(1 << 20);
    let short = Known { bytes: 100, policy: 0, is_absent: false, expiry: 10 };
    for key in 0..300 {
        advisor.stored(hash(key), short);
        advisor.stored(hash(1000 + key), entry(100));
        advisor.removed(hash(1000 + key));
    }
    for key in 0..300 {
        advisor.missed(hash(key), 0, 10);
        advisor.missed(hash(1000 + key), 0, 0);
    }
    assert_eq!(advisor.estimate().overall, Some([0.0; SIZES]));
    for key in 0..300 {
        advisor.stored(hash(key), short);
        advisor.hit(hash(key), 1, 9, || Some(short));
    }
    let ratios = advisor.estimate().overall.unwrap();
    assert!(ratios.iter().all(|ratio| (ratio - 1.0 / 3.0).abs() < 0.01), "{ratios:?}");
    advisor.flushed();
    assert_eq!(advisor.objects(), 0);
}

#[test]
fn without_reads_there_is_no_advice() {
    let advisor = Advisor::new(1 << 20);
    assert_eq!(advisor.estimate().overall, None);
    assert!(advisor.estimate().policies.is_empty());
}

#[test]
fn keys_that_expire_and_come_back_take_no_more_memory() {
    // Nothing is ever evicted: there is room for all.
    let mut advisor = Advisor::new(1 << 20);
    for now in 0..2000 {
        for key in 0..100 {
            advisor.missed(hash(key), 0, now);
            advisor.stored(
                hash(key),
                Known { bytes: 100, policy: 0, is_absent: false, expiry: now + 1 },
            );
        }
    }
    assert_eq!(advisor.objects(), 100);
    assert!(advisor.bytes() < 1 << 18, "{}", advisor.bytes());
}

fn next(random: &mut u64, below: u64) -> u64 {
    *random =
        random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*random >> 33) % below
}

#[test]
fn a_policy_has_its_hottest_key_counted_whether_that_is_sampled_or_not() {
    let mut advisor = Advisor::new(40_000 * 100);
    let mut random = 2;
    for n in 0..400_000 {
        let key = 100 + next(&mut random, 30_000);
        request(&mut advisor, key, 0, entry(100), true);
        // Of each of the others, half of the reads are for one key.
        let policy = u8::try_from(1 + n % 5).unwrap();
        if n % 2 == 0 {
            request(&mut advisor, policy.into(), policy, entry(100), true);
        } else {
            request(&mut advisor, 1_000_000 + n, policy, entry(100), false);
        }
    }
    let advice = advisor.estimate();
    let hot = (1..=5).filter(|key| advisor.samples(hash(*key))).count();
    assert!(advice.sampled_one_in >= 8 && hot < 5, "{advice:?}");
    for policy in &advice.policies[1..] {
        let own = policy.2.unwrap()[OWN];
        assert!((own - 0.5).abs() < 0.02 && (policy.1 - 0.1).abs() < 0.01, "{advice:?}");
    }
}

#[test]
fn more_keys_are_sampled_when_entries_become_larger() {
    let mut advisor = Advisor::new(100_000 * 100);
    let mut random = 3;
    for _ in 0..300_000 {
        request(&mut advisor, next(&mut random, 200_000), 0, entry(100), false);
    }
    let before = advisor.estimate().sampled_one_in;
    assert!(before >= 64, "{before}");
    for n in 0..300_000 {
        request(&mut advisor, 1 << 40 | next(&mut random, 5000), 0, entry(10_000), false);
        if n % 100 == 0 {
            advisor.set_capacity(100_000 * 100);
        }
    }
    let after = advisor.estimate().sampled_one_in;
    assert!(after <= 8 && advisor.objects() >= 64, "{after}, {}", advisor.objects());
}

#[test]
fn a_share_binds_the_miniatures_too() {
    let mut advisor = Advisor::new(10_000 * 100);
    // Of the log: 11,111 entries.
    advisor.limit_policy(1, Some(100));
    let mut random = 4;
    for _ in 0..300_000 {
        let key = next(&mut random, 5000);
        request(&mut advisor, key, 0, entry(100), true);
        let key = next(&mut random, 5000);
        request(&mut advisor, 1 << 40 | key, 1, entry(100), key < 1111);
    }
    let advice = advisor.estimate();
    let limited = advice.policies[1].2.unwrap();
    for (found, wanted) in limited.into_iter().zip([0.11, 0.22, 0.44, 0.89]) {
        assert!((found - wanted).abs() < 0.05, "{advice:?}");
    }
    assert!(advice.policies[0].2.unwrap()[OWN] > 0.98, "{advice:?}");
}
