//! The hazard: an in-place read of a value that sees bytes beside it, or leaves the table.

use super::guarded::Bounded;
use super::table::{Filled, KEYS, is_absent, key, value};
use proptest::prelude::*;
use shm_layout::{InPlace, Look, Outcome};
use std::cell::OnceCell;

thread_local! {
    static TABLE: OnceCell<Filled> = const { OnceCell::new() };
}

proptest! {
    #[test]
    fn a_part_of_a_value_in_place_is_that_part(
        number in 0..KEYS, offset in 0usize..400, count in 0usize..200,
    ) {
        prop_assume!(!is_absent(number));
        let whole = value(number);
        let expected = whole.get(offset..offset + count);
        let mut looks = 0;
        let outcome = TABLE.with(|table| {
            let reader = table.get_or_init(Filled::new).reader();
            reader.read(&key(number), || Some(0), &mut Look(|found: InPlace<'_, Bounded>| {
                looks += 1;
                assert_eq!(found.len(), whole.len());
                let mut part = vec![0xaa; count];
                assert_eq!(found.copy_to(offset, &mut part), expected.is_some());
                let Some(expected) = expected else {
                    assert!(part.iter().all(|byte| *byte == 0xaa));
                    assert!(!found.has_at(offset, &part));
                    return;
                };
                assert_eq!(part, expected);
                assert!(found.has_at(offset, expected));
                if let Some(last) = part.last_mut() {
                    *last ^= 1;
                    assert!(!found.has_at(offset, &part));
                }
            }))
        });
        prop_assert!(looks == 1 && matches!(outcome, Outcome::Hit(_)));
    }
}
