//! The hazard: the owner's code passes a slot, a bucket, a location or a header that does not
//! belong to its table, and safe calls load or store outside it.

use super::table::{Filled, KEYS, flags, key, plan, value};
use proptest::prelude::*;
use shm_layout::slot::SLOTS;
use shm_layout::{Entry, EntryHeader, Geometry, KeyHash, Location, Plan};

/// Words of all magnitudes, many of them near the boundaries of a table's parts.
fn word() -> impl Strategy<Value = usize> {
    let geometry = Geometry::plan(&plan()).unwrap();
    let first = geometry.bucket(0).word();
    let ends = [0, first, first + geometry.bucket_count() as usize * SLOTS, geometry.words()];
    prop_oneof![
        (prop::sample::select(ends.to_vec()), 0..20_usize)
            .prop_map(|(end, near)| (end + near).saturating_sub(10)),
        (any::<usize>(), 0..64_u32).prop_map(|(word, shift)| word >> shift),
    ]
}

fn location() -> impl Strategy<Value = Location> {
    let geometry = Geometry::plan(&plan()).unwrap();
    let (segments, words) = (geometry.segment_count(), geometry.segment_words());
    let words = u32::try_from(words).unwrap();
    let segment = prop_oneof![4 => 0..segments, 1 => segments..segments + 3, 1 => any::<u32>()];
    let word = prop_oneof![4 => 0..words, 2 => words - 200..words + 10, 1 => any::<u32>()];
    (segment, word).prop_map(|(segment, word)| Location { segment, word })
}

proptest! {
    #[test]
    fn no_slot_leads_out_of_the_table(
        slot in word(), other in word(), at in location(), hash: u64
    ) {
        let table = Filled::new();
        let writer = table.writer();
        let hash = KeyHash(hash);
        let is_slot = table.geometry.is_slot(slot);
        prop_assert!(is_slot || writer.slot(slot).is_empty());
        prop_assert!(is_slot || writer.entry_of(slot).is_none());
        writer.swap_slots(slot, other);
        writer.clear(slot);
        if table.geometry.position(at) < 1 << 48 {
            writer.publish(other, hash, at);
            writer.move_slot(slot, other, hash, at);
        }
        let _ = writer.entry_of(other);
        writer.prefetch_entry(hash);
        let _ = writer.find(&key(1), hash);
    }

    #[test]
    fn no_bucket_of_another_table_leads_out_of_this_one(entry_bytes in 32..5000_u32, bucket: u32) {
        let table = Filled::new();
        let larger = Plan { table_bytes: 16 << 20, entry_bytes, ..plan() };
        let bucket = Geometry::plan(&larger).unwrap().bucket(bucket);
        if let Some(slot) = table.writer().empty_slot(bucket) {
            prop_assert!(table.geometry.is_slot(slot));
        }
    }

    #[test]
    fn no_location_or_header_leads_out_of_the_table(
        from in location(), to in location(), words in word(), header: [u64; 3],
    ) {
        let table = Filled::new();
        let writer = table.writer();
        let _ = writer.header_at(from);
        if let Some(view) = writer.view(from, &EntryHeader::unpack(header)) {
            let mut bytes = vec![0; view.key().len() + view.value().len()];
            let (key, value) = bytes.split_at_mut(view.key().len());
            prop_assert!(view.key().copy_to(0, key) && view.value().copy_to(0, value));
            let _ = (view.key().equals(key), view.flags());
        }
        let is_inside = |at: Location| {
            let fits = at.word as usize + 3.max(words) <= table.geometry.segment_words();
            at.segment < table.geometry.segment_count() && fits
        };
        let words = words.min(1 << 40);
        prop_assert_eq!(writer.copy(from, to, words).is_ok(), is_inside(from) && is_inside(to));
        let _ = writer.copy(from, to, usize::MAX);
        let entry = Entry { key: &[7; 60], value: &[8; 900], ..Entry::default() };
        let _ = writer.append(to, &writer.prepare(&entry).unwrap(), KeyHash(header[0]));
    }
}

#[test]
fn a_key_is_found_by_its_tag_with_all_that_was_stored() {
    let table = Filled::new();
    let writer = table.writer();
    for number in 0..KEYS {
        let (key, value) = (key(number), value(number));
        let hash = table.geometry.hasher().hash(&key);
        let slot = table.slots[number as usize];
        assert!(writer.tagged_slots(hash).any(|tagged| tagged == slot), "key {number}");
        let (at, header) = writer.entry_of(slot).unwrap();
        assert_eq!(writer.header_at(at), Some(header));
        assert_eq!(writer.find(&key, hash), Some((slot, at, header)));
        let view = writer.view(at, &header).unwrap();
        assert!(view.key().equals(&key) && !view.key().equals(&key[1..]), "key {number}");
        assert!(view.value().equals(&value), "key {number}");
        assert_eq!(view.flags(), flags(number), "key {number}");
    }
}
