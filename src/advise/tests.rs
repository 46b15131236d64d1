//! The advisor on streams whose hit ratios are known.

use super::*;
use shm_layout::hash::TableHasher;

const NEVER: u32 = shm_layout::entry::NEVER;

fn hash(key: u64) -> KeyHash {
    TableHasher::new(3).hash(&key.to_le_bytes())
}

fn entry(bytes: u32) -> Known {
    Known { bytes, policy: 0, expiry: NEVER }
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
    for _ in 0..600_000 {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = (random >> 33) % keys;
        request(&mut advisor, key, 0, entry(200), key < keys / 2);
    }
    let advice = advisor.advice();
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
    let advice = advisor.advice();
    let of = |id: u8| advice.policies.iter().find(|policy| policy.0 == id).unwrap();
    assert!(of(1).2.unwrap().iter().all(|hit| *hit < 0.1), "{advice:?}");
    assert!(advice.sampled_one_in > 1 || (of(1).1 - 0.5).abs() < 0.01, "{advice:?}");
    let overall = advice.overall.unwrap();
    assert!(overall.iter().all(|hit| (0.45..0.55).contains(hit)), "{advice:?}");
}

#[test]
fn what_expired_or_was_removed_hits_at_no_size() {
    let mut advisor = Advisor::new(1 << 20);
    let short = Known { bytes: 100, policy: 0, expiry: 10 };
    for key in 0..300 {
        advisor.stored(hash(key), short);
        advisor.stored(hash(1000 + key), entry(100));
        advisor.removed(hash(1000 + key));
    }
    for key in 0..300 {
        advisor.missed(hash(key), 0, 10);
        advisor.missed(hash(1000 + key), 0, 0);
    }
    assert_eq!(advisor.advice().overall, Some([0.0; SIZES]));
    for key in 0..300 {
        advisor.stored(hash(key), short);
        advisor.hit(hash(key), 1, 9, || Some(short));
    }
    let ratios = advisor.advice().overall.unwrap();
    assert!(ratios.iter().all(|ratio| (ratio - 1.0 / 3.0).abs() < 0.01), "{ratios:?}");
    advisor.flushed();
    assert_eq!(advisor.objects(), 0);
}

#[test]
fn without_reads_there_is_no_advice() {
    let advisor = Advisor::new(1 << 20);
    assert_eq!(advisor.advice().overall, None);
    assert!(advisor.advice().policies.is_empty());
}
