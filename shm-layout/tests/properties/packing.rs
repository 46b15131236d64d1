//! The hazard: a packed word that spills into its neighbour, or a store that hits another word.

use super::guarded::Guarded;
use super::table;
use proptest::prelude::*;
use shm_layout::entry::{EntrySizes, MARK_ABSENT, MARK_FLAGS};
use shm_layout::header::{self, Identity};
use shm_layout::segment::{self, Role};
use shm_layout::slot::POSITION_BITS;
use shm_layout::{
    Entry, EntryHeader, Geometry, KeyHash, Location, Memory, MemoryMut, Plan, SlotWord, Writer,
};

proptest! {
    #[test]
    fn an_identity_comes_back_as_it_was_packed(words in any::<[u64; 10]>()) {
        let identity = Identity {
            table_id: words[0],
            table_bytes: words[1],
            segment_bytes: words[2],
            segment_count: words[3],
            bucket_count: words[4],
            value_bytes_max: words[5],
            hash_seed: words[6],
            boot_id: [words[7], words[8]],
            epoch_ns: words[9],
        };
        prop_assert_eq!(Identity::unpack(&identity.pack()).unwrap(), identity);
    }

    #[test]
    fn an_entry_header_comes_back_as_it_was_packed(
        value_bytes: u32, key_bytes: u16, policy: u8, marks: u8, version: u64, expiry: u32,
        checksum: u32,
    ) {
        let header =
            EntryHeader { value_bytes, key_bytes, policy, marks, version, expiry, checksum };
        let words = header.pack();
        prop_assert_eq!(EntryHeader::unpack(words), header);
        let sizes = EntrySizes(words[0]);
        prop_assert_eq!(sizes.value_bytes(), value_bytes);
        prop_assert_eq!(sizes.key_bytes(), usize::from(key_bytes));
        prop_assert_eq!((sizes.policy(), sizes.marks()), (policy, marks));
        prop_assert_eq!(sizes.key_word(), 3 + usize::from(marks & MARK_FLAGS));
        if sizes.is_plausible(1000) {
            prop_assert!(key_bytes >= 1 && value_bytes <= 1000);
            prop_assert!(marks & MARK_ABSENT == 0 || value_bytes == 0);
        }
    }

    /// A field changes its own bits and no others.
    #[test]
    fn no_field_of_an_entry_header_spills(
        value_bytes: u32, key_bytes: u16, policy: u8, marks: u8, version: u64, expiry: u32,
        checksum: u32,
    ) {
        let zero = EntryHeader {
            value_bytes: 0, key_bytes: 0, policy: 0, marks: 0, version: 0, expiry: 0, checksum: 0,
        };
        for (header, mask) in [
            (EntryHeader { value_bytes, ..zero }, [0xffff_ffff, 0, 0]),
            (EntryHeader { key_bytes, ..zero }, [0xffff << 32, 0, 0]),
            (EntryHeader { policy, ..zero }, [0xff << 48, 0, 0]),
            (EntryHeader { marks, ..zero }, [0xff << 56, 0, 0]),
            (EntryHeader { version, ..zero }, [0, u64::MAX, 0]),
            (EntryHeader { expiry, ..zero }, [0, 0, 0xffff_ffff]),
            (EntryHeader { checksum, ..zero }, [0, 0, 0xffff_ffff << 32]),
        ] {
            for (word, mask) in header.pack().into_iter().zip(mask) {
                prop_assert_eq!(word & !mask, 0, "{:?}", header);
            }
        }
    }

    #[test]
    fn a_slot_word_keeps_tag_and_position(hash: u64, position in 0..1u64 << 48) {
        let word = SlotWord::pack(KeyHash(hash), position);
        prop_assert_eq!(word.position(), position);
        prop_assert_eq!(word.tag(), KeyHash(hash).tag());
        prop_assert!(!word.is_empty() && word.tag() != 0);
        // Both parts and nothing else.
        prop_assert_eq!(word.0, u64::from(word.tag()) << POSITION_BITS | position);
    }

    #[test]
    fn a_position_is_where_division_says(
        segment_pages in 128u64..20_000, table_mib in 64u64..100_000, at: u64,
    ) {
        let plan = Plan {
            table_bytes: table_mib << 20,
            value_bytes_max: 1000,
            segment_bytes: Some(segment_pages * 4096),
            ..Plan::default()
        };
        let Ok(geometry) = Geometry::plan(&plan) else { return Ok(()) };
        let words = geometry.log_bytes() / 8;
        let segment_words = geometry.segment_words() as u64;
        for position in [at % words, at % words / segment_words * segment_words, words - 3] {
            let (word, location) = geometry.locate(position).unwrap();
            prop_assert_eq!(u64::from(location.segment), position / segment_words);
            prop_assert_eq!(u64::from(location.word), position % segment_words);
            prop_assert_eq!(geometry.position(location), position);
            if location.word as usize + 3 <= geometry.segment_words() {
                prop_assert_eq!(geometry.resolve(location), Some(word));
            }
        }
        for position in [words - 2, words, (1 << 48) - 1] {
            prop_assert!(geometry.locate(position).is_none());
        }
    }
}

/// The words that differ between two snapshots of a table.
fn changed(before: &[u64], after: &[u64]) -> Vec<(usize, u64)> {
    let pairs = before.iter().zip(after).enumerate();
    pairs.filter(|(_, (old, new))| old != new).map(|(word, (_, new))| (word, *new)).collect()
}

fn words(guarded: &Guarded, geometry: &Geometry) -> Vec<u64> {
    // Up to the index; nothing here writes after that.
    //
    // SAFETY: words of the table.
    (0..geometry.bucket(0).word()).map(|word| unsafe { guarded.memory().load(word) }).collect()
}

proptest! {
    /// Every word outside index and log: a stored value reads back, and nothing else changes.
    #[test]
    fn each_store_changes_its_own_words_only(
        policy: u8, segment in 0..16u32, figure in 1u64.., other in 1u64.., tick in 1u32..,
    ) {
        let geometry = Geometry::plan(&table::plan()).unwrap();
        let guarded = Guarded::new(geometry.words() * 8);
        // SAFETY: the memory has the bytes of this geometry, all zero.
        let writer = unsafe { Writer::create(guarded.memory_mut(), geometry) };
        let mut before = words(&guarded, &geometry);
        let mut expect = |expected: &[(usize, u64)]| {
            let after = words(&guarded, &geometry);
            let found = changed(&before, &after);
            before = after;
            prop_assert_eq!(&found, expected);
            Ok(())
        };
        writer.open_for_readers();
        expect(&[(header::STATE, header::STATE_SERVING)])?;
        writer.supersede();
        expect(&[(header::STATE, header::STATE_SUPERSEDED)])?;
        writer.set_version_ceiling(figure);
        expect(&[(header::VERSION_CEILING, figure)])?;
        prop_assert_eq!(writer.version_ceiling(), figure);
        writer.set_version_ceiling(figure - 1);
        expect(&[])?;
        prop_assert_eq!(writer.next_instance(), 1);
        expect(&[(header::INSTANCE, 1)])?;
        writer.set_policy_fingerprint(other);
        expect(&[(header::POLICY_FINGERPRINT, other)])?;
        prop_assert_eq!(writer.policy_fingerprint(), other);
        writer.raise_policy_floor(policy, figure);
        expect(&[(header::POLICY_FLOORS + usize::from(policy), figure)])?;
        prop_assert_eq!(writer.policy_floor(policy), figure);
        writer.raise_policy_floor(policy, figure - 1);
        expect(&[])?;
        writer.raise_strict_floor(other);
        expect(&[(header::STRICT_FLOOR, other)])?;
        prop_assert_eq!(writer.strict_floor(), other);
        writer.raise_strict_floor(other - 1);
        expect(&[])?;
        writer.set_lease_until(figure);
        expect(&[(header::LEASE_UNTIL, figure)])?;
        writer.set_clock_offset(other);
        expect(&[(header::CLOCK_OFFSET, other)])?;
        prop_assert_eq!(writer.clock_offset(), other);

        let at = geometry.segment_header(segment).unwrap();
        writer.set_segment(segment, Role::Closed, figure);
        expect(&[(at + segment::ROLE, 2), (at + segment::SEQUENCE, figure)])?;
        writer.set_filled(segment, other, tick);
        expect(&[(at + segment::FILLED, other), (at + segment::EARLIEST_EXPIRY, u64::from(tick))])?;
        let stored = (Some(Role::Closed), figure, other, u64::from(tick));
        prop_assert_eq!(writer.segment(segment), Some(stored));

        let generation = geometry.generation(segment).unwrap();
        writer.begin_recycling(segment);
        expect(&[(generation, 3)])?;
        prop_assert!(writer.is_recycling(segment));
        writer.end_recycling(segment);
        expect(&[(generation, 4)])?;
        prop_assert!(!writer.is_recycling(segment));
    }

    /// Whatever a generation was, damaged or left by a kill: it is unstable while its segment is
    /// recycled, then stable and different.
    #[test]
    fn a_generation_is_unstable_then_stable_and_new(
        generation in prop_oneof![any::<u64>(), 0..4u64, u64::MAX - 3..=u64::MAX],
    ) {
        let geometry = Geometry::plan(&table::plan()).unwrap();
        let guarded = Guarded::new(geometry.words() * 8);
        // SAFETY: the memory has the bytes of this geometry, all zero.
        let writer = unsafe { Writer::create(guarded.memory_mut(), geometry) };
        let word = geometry.generation(3).unwrap();
        // SAFETY: words of the table.
        let load = || unsafe { guarded.memory().load(word) };
        // SAFETY: as above.
        unsafe { guarded.memory_mut().store(word, generation) };
        writer.begin_recycling(3);
        prop_assert!(!segment::is_stable(load()));
        writer.end_recycling(3);
        prop_assert!(segment::is_stable(load()));
        prop_assert!(load() != generation);
        prop_assert!(generation >= u64::MAX - 1 || load() > generation);
    }

    #[test]
    fn a_stored_header_is_the_prepared_one_with_its_checksum(
        key in prop::collection::vec(any::<u8>(), 1..60),
        value in prop::collection::vec(any::<u8>(), 0..60),
        flags: u32, policy: u8, absent: bool, strict: bool, version: u64, expiry: u32,
    ) {
        let geometry = Geometry::plan(&table::plan()).unwrap();
        let guarded = Guarded::new(geometry.words() * 8);
        // SAFETY: the memory has the bytes of this geometry, all zero.
        let writer = unsafe { Writer::create(guarded.memory_mut(), geometry) };
        let value = if absent { &[] } else { value.as_slice() };
        let entry = Entry { key: &key, value, flags, policy, absent, strict, version, expiry };
        let (hasher, at) = (geometry.hasher(), Location { segment: 2, word: 40 });
        let prepared = writer.prepare(&entry).unwrap();
        writer.append(at, &prepared, hasher.hash(&key)).unwrap();
        let header = writer.header_at(at).unwrap();
        let without = prepared.header();
        prop_assert_eq!(without, EntryHeader { checksum: 0, ..header });
        let expected = hasher.checksum(without.pack(), flags, hasher.hash(&key), value);
        prop_assert_eq!(header.checksum, expected);
        let bytes = 24 + if flags == 0 { 0 } else { 8 }
            + key.len().next_multiple_of(8) + value.len().next_multiple_of(8);
        prop_assert_eq!(header.bytes(), bytes);
    }
}
