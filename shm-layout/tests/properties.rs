//! The hazards: a packed word that spills into its neighbour; a header that is damaged and still
//! believed; a table that is damaged anywhere and sends a reader out of its memory, into a panic or
//! to another key's value; assembly that does something else than the plain code.

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use proptest::prelude::*;
use shm_layout::entry::{EntrySizes, MARK_ABSENT, MARK_FLAGS, NEVER};
use shm_layout::header::{HEADER_BYTES, IDENTITY_COPIES, IDENTITY_WORDS, Identity};
use shm_layout::{
    Entry, EntryHeader, Geometry, InPlace, KeyHash, Location, Look, Mapped, MappedMut, Memory,
    MemoryMut, Outcome, Plan, Reader, SlotWord, TableHasher, VecDestination, Writer,
};
use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::OnceLock;

const PAGE: usize = 4096;

/// Zeroed memory between two pages that nobody may touch.
struct Guarded {
    first: NonNull<c_void>,
    bytes: usize,
}

impl Guarded {
    fn new(bytes: usize) -> Guarded {
        let bytes = bytes.next_multiple_of(PAGE);
        let all = NonZeroUsize::new(bytes + 2 * PAGE).unwrap();
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: new private memory at a place of the kernel's choice.
        let first = unsafe { mmap_anonymous(None, all, access, MapFlags::MAP_PRIVATE) }.unwrap();
        for guard in [0, bytes + PAGE] {
            // SAFETY: both pages lie in the mapping.
            unsafe {
                let page = NonNull::new_unchecked(first.as_ptr().byte_add(guard));
                mprotect(page, PAGE, ProtFlags::PROT_NONE).unwrap();
            }
        }
        Guarded { first, bytes }
    }

    fn base(&self) -> *mut u8 {
        // SAFETY: behind the first guard page, inside the mapping.
        unsafe { self.first.as_ptr().cast::<u8>().add(PAGE) }
    }

    fn memory(&self) -> Mapped {
        // SAFETY: page-aligned, mapped until drop, reached as words only.
        unsafe { Mapped::new(self.base()) }
    }

    fn memory_mut(&self) -> MappedMut {
        // SAFETY: as above.
        unsafe { MappedMut::new(self.base()) }
    }
}

// SAFETY: addresses only; the memory is reached as atomics.
unsafe impl Send for Guarded {}
// SAFETY: as above.
unsafe impl Sync for Guarded {}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`.
        unsafe { munmap(self.first, self.bytes + 2 * PAGE) }.unwrap();
    }
}

/// The same memory by the definitions of the traits alone, without assembly.
#[derive(Clone)]
struct Plain(Mapped);

impl Memory for Plain {
    unsafe fn load(&self, index: usize) -> u64 {
        // SAFETY: passed on unchanged.
        unsafe { self.0.load(index) }
    }

    fn fence_acquire(&self) {
        self.0.fence_acquire();
    }
}

fn plan() -> Plan {
    Plan { table_bytes: 5 << 20, value_bytes_max: 1000, entry_bytes: 96, ..Plan::default() }
}

const KEYS: u32 = 400;

fn key(number: u32) -> Vec<u8> {
    let mut key = format!("key:{number}:").into_bytes();
    key.resize(8 + number as usize % 70, b'.');
    key
}

fn value(number: u32) -> Vec<u8> {
    (0..number % 300)
        .map(|at| (number / 256 * 77 + number * 31 + at * 7).to_le_bytes()[0])
        .collect()
}

/// A table with all keys in it.
fn filled(memory: MappedMut) -> Geometry {
    let geometry = Geometry::plan(&plan()).unwrap();
    // SAFETY: the memory has the bytes of this geometry, all zero.
    let writer = unsafe { Writer::create(memory, geometry) };
    writer.open_for_readers();
    let (mut segment, mut word) = (0, 0);
    for number in 0..KEYS {
        let (key, value) = (key(number), value(number));
        let flags = if number % 5 == 0 { number } else { 0 };
        let entry = Entry {
            key: &key,
            value: &value,
            version: 1,
            expiry: NEVER,
            flags,
            ..Entry::default()
        };
        let hash = geometry.hasher().hash(&key);
        if word + 200 > geometry.segment_words() || number % 50 == 49 {
            (segment, word) = (segment + 1, 0);
        }
        let at = Location { segment, word: u32::try_from(word).unwrap() };
        word += writer.append(at, &entry, hash).unwrap().words();
        let lines = geometry.buckets(hash);
        let mut slots = lines.iter().flat_map(|line| (0..8).map(move |slot| line.slot(slot)));
        // SAFETY: slots of the geometry.
        let empty = slots.find(|slot| unsafe { memory.load(*slot) } == 0).expect("a slot");
        writer.publish(empty, hash, at);
    }
    geometry
}

/// What somebody did to a table.
#[derive(Debug, Clone)]
enum Damage {
    Header {
        word: usize,
        to: u64,
    },
    Anywhere {
        word: prop::sample::Index,
        to: u64,
    },
    /// A slot that is in use keeps its tag and points elsewhere.
    Slot {
        slot: prop::sample::Index,
        position: u64,
    },
    /// An entry's length of value.
    ValueBytes {
        slot: prop::sample::Index,
        to: u32,
    },
    /// An entry's first word.
    Sizes {
        slot: prop::sample::Index,
        to: u64,
    },
}

fn extremes() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        any::<u32>().prop_map(u64::from),
        (any::<u32>(), any::<u16>())
            .prop_map(|(value, key)| u64::from(value) | u64::from(key) << 32),
        any::<u8>().prop_map(|marks| u64::from(marks) << 56 | 8 << 32 | 8),
        Just(u64::from(u32::MAX) | 8 << 32),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        // Not the state: a table that is not in use is not read.
        (0..HEADER_BYTES / 8, extremes()).prop_map(|(word, to)| Damage::Header { word, to }),
        (index(), extremes()).prop_map(|(word, to)| Damage::Anywhere { word, to }),
        (index(), prop_oneof![0..700_000u64, any::<u64>()])
            .prop_map(|(slot, position)| Damage::Slot { slot, position }),
        (index(), extremes()).prop_map(|(slot, to)| Damage::Sizes { slot, to }),
        (index(), 0..16u32 << 20).prop_map(|(slot, to)| Damage::ValueBytes { slot, to }),
    ]
}

fn apply(damage: &Damage, memory: MappedMut, geometry: &Geometry) {
    let used: Vec<usize> = (0..geometry.bucket_count())
        .flat_map(|bucket| (0..8).map(move |slot| (bucket, slot)))
        .map(|(bucket, slot)| geometry.bucket(bucket).slot(slot))
        // SAFETY: slots of the geometry.
        .filter(|slot| unsafe { memory.load(*slot) } != 0)
        .collect();
    let position_mask = (1u64 << 48) - 1;
    let (word, to) = match damage {
        Damage::Header { word, to } => (*word, *to),
        Damage::Anywhere { word, to } => (word.index(geometry.words()), *to),
        Damage::Slot { slot, position } => {
            let slot = used[slot.index(used.len())];
            // SAFETY: a slot of the geometry.
            let old = unsafe { memory.load(slot) };
            (slot, old & !position_mask | position & position_mask)
        }
        Damage::Sizes { slot, .. } | Damage::ValueBytes { slot, .. } => {
            // SAFETY: a slot of the geometry.
            let old = SlotWord(unsafe { memory.load(used[slot.index(used.len())]) });
            let Some((word, _)) = geometry.locate(old.position()) else { return };
            // SAFETY: `locate` says so.
            let sizes = unsafe { memory.load(word) };
            match damage {
                Damage::ValueBytes { to, .. } => (word, sizes >> 32 << 32 | u64::from(*to)),
                Damage::Sizes { to, .. } => (word, *to),
                _ => return,
            }
        }
    };
    // SAFETY: a word of the table.
    unsafe { memory.store(word, to) };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn damage_anywhere_sends_no_reader_astray(damages in prop::collection::vec(damage(), 1..12)) {
        let bytes = usize::try_from(plan().table_bytes).unwrap();
        let guarded = Guarded::new(bytes);
        let geometry = filled(guarded.memory_mut());
        // SAFETY: the memory has these bytes.
        let reader = unsafe { Reader::attach(guarded.memory(), bytes as u64) }.unwrap();
        for damage in &damages {
            apply(damage, guarded.memory_mut(), &geometry);
        }
        let mut found = VecDestination::default();
        let owner_of: HashMap<Vec<u8>, u32> =
            (0..KEYS).map(|number| (value(number), number)).filter(|(value, _)| value.len() > 8).collect();
        for number in 0..KEYS {
            if let Outcome::Hit(_) = reader.read(&key(number), || 0, &mut found) {
                // Bytes of its own that were damaged are for the owner's checksum to find.
                let owner = owner_of.get(found.bytes());
                prop_assert!(owner.is_none_or(|owner| *owner == number), "key {number}: {owner:?}");
            }
        }
        // A later attach refuses the table or reads it as safely.
        // SAFETY: the memory has these bytes.
        if let Ok(reader) = unsafe { Reader::attach(guarded.memory(), bytes as u64) } {
            for number in 0..KEYS {
                reader.read(&key(number), || 0, &mut found);
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_an_identity_is_never_believed(
        copy in 0..2usize, word in 0..IDENTITY_WORDS, bit in 0..64u32,
    ) {
        let bytes = usize::try_from(plan().table_bytes).unwrap();
        let guarded = Guarded::new(bytes);
        filled(guarded.memory_mut());
        let memory = guarded.memory_mut();
        let at = IDENTITY_COPIES[copy] + word;
        // SAFETY: words of the header.
        unsafe { memory.store(at, memory.load(at) ^ 1 << bit) };
        // SAFETY: the memory has these bytes.
        let loaded = unsafe { Identity::load(&guarded.memory(), bytes as u64) };
        prop_assert!(loaded.is_err(), "{loaded:?}");
    }

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
        let header = EntryHeader { value_bytes, key_bytes, policy, marks, version, expiry, checksum };
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

    #[test]
    fn a_slot_word_keeps_tag_and_position(hash: u64, position in 0..1u64 << 48) {
        let word = SlotWord::pack(KeyHash(hash), position);
        prop_assert_eq!(word.position(), position);
        prop_assert_eq!(word.tag(), KeyHash(hash).tag());
        prop_assert!(!word.is_empty() && word.tag() != 0);
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

    #[test]
    fn a_value_in_place_is_the_value(number in 0..KEYS, offset in 0usize..400, count in 0usize..200) {
        static TABLE: OnceLock<(Guarded, Geometry)> = OnceLock::new();
        let bytes = usize::try_from(plan().table_bytes).unwrap();
        let (guarded, _) = TABLE.get_or_init(|| {
            let guarded = Guarded::new(bytes);
            let geometry = filled(guarded.memory_mut());
            (guarded, geometry)
        });
        // SAFETY: the memory has these bytes.
        let reader = unsafe { Reader::attach(guarded.memory(), bytes as u64) }.unwrap();
        let whole = value(number);
        let expected = whole.get(offset..offset + count);
        let mut looked = false;
        let outcome = reader.read(&key(number), || 0, &mut Look(|found: InPlace<'_, Mapped>| {
            looked = true;
            assert_eq!(found.len(), whole.len());
            let mut part = vec![0xaa; count];
            assert_eq!(found.copy_to(offset, &mut part), expected.is_some());
            match expected {
                Some(expected) => {
                    assert_eq!(part, expected);
                    assert!(found.has_at(offset, expected));
                    if let Some(last) = part.last_mut() {
                        *last ^= 1;
                        assert!(!found.has_at(offset, &part));
                    }
                }
                None => assert!(part.iter().all(|byte| *byte == 0xaa)),
            }
        }));
        prop_assert!(looked && matches!(outcome, Outcome::Hit(_)));
    }

    #[test]
    fn nomination_finds_exactly_the_tags(slots in any::<[u64; 8]>(), tag: u16, same in any::<[bool; 8]>()) {
        let guarded = Guarded::new(PAGE);
        let bucket = PAGE / 8 - 8;
        for (index, slot) in slots.iter().enumerate() {
            let word = if same[index] { slot & u64::MAX >> 16 | u64::from(tag) << 48 } else { *slot };
            // SAFETY: the last line of the memory.
            unsafe { guarded.memory_mut().store(bucket + index, word) };
        }
        // SAFETY: as above.
        let (fast, plain) = unsafe {
            (guarded.memory().nominate(bucket, tag), Plain(guarded.memory()).nominate(bucket, tag))
        };
        prop_assert_eq!(fast, plain);
        for (index, same) in same.iter().enumerate() {
            prop_assert!(!same || fast & 1 << index != 0);
        }
    }
}

#[test]
fn copies_and_comparisons_of_every_size_are_those_of_the_plain_code() {
    let guarded = Guarded::new(2 * PAGE);
    let words = 2 * PAGE / 8;
    for index in 0..words {
        let word = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // SAFETY: a word of the memory.
        unsafe { guarded.memory_mut().store(index, word) };
    }
    let memory = guarded.memory();
    for bytes in (0..700usize).chain([1000, 4095, 4096, 8000]) {
        // At the very end of the memory, and eight bytes before.
        for before_end in [0, 1] {
            let from = words - bytes.div_ceil(8) - before_end;
            // At every alignment, between bytes that must stay.
            for shift in [0, 1, 7, 8, 15] {
                let mut fast = vec![0xaa; bytes + 48];
                let mut plain = fast.clone();
                // SAFETY: the words lie inside the memory, the vectors have room.
                unsafe {
                    memory.copy_out(from, fast.as_mut_ptr().add(shift), bytes);
                    Plain(memory).copy_out(from, plain.as_mut_ptr().add(shift), bytes);
                }
                assert!(fast == plain, "{bytes} bytes to {shift}");
                let mut key = plain[shift..shift + bytes].to_vec();
                // What pads the last word in a table is zero; here it is not.
                if bytes % 8 == 0 {
                    // SAFETY: as above.
                    assert!(unsafe { memory.equals(from, &key) }, "{bytes} bytes");
                    if let Some(last) = key.last_mut() {
                        *last ^= 1;
                        // SAFETY: as above.
                        assert!(!unsafe { memory.equals(from, &key) }, "{bytes} bytes");
                    }
                }
            }
        }
    }
}

#[test]
fn keys_of_every_length_equal_only_themselves() {
    let guarded = Guarded::new(PAGE);
    let memory = guarded.memory_mut();
    for bytes in 1..100usize {
        let key: Vec<u8> = (0..bytes).map(|at| (at * 37 + bytes).to_le_bytes()[0] | 1).collect();
        // SAFETY: inside the page.
        unsafe { memory.copy_in(0, &key) };
        // SAFETY: as above.
        assert!(unsafe { guarded.memory().equals(0, &key) });
        for at in 0..bytes {
            let mut other = key.clone();
            other[at] ^= 0x80;
            // SAFETY: as above.
            assert!(!unsafe { guarded.memory().equals(0, &other) }, "{bytes}, {at}");
        }
    }
}

/// Figures that other builds must agree on; whoever changes one raises `HASH_ID`.
#[test]
fn hashes_stay_what_they_are() {
    let hasher = TableHasher::new(42);
    let key: Vec<u8> = (0..=255).collect();
    let hashes: Vec<String> = [1, 3, 4, 7, 8, 15, 16, 24, 32, 33, 48, 49, 200]
        .map(|bytes| format!("{:016x}", hasher.hash(&key[..bytes]).0))
        .to_vec();
    assert_eq!(hashes, HASHES);
}

const HASHES: [&str; 13] = [
    "c1d878c29a864393",
    "727ec42718cde391",
    "2ef8a558a67a2a8a",
    "2575b48877a8acc9",
    "73e00839a3b8b0d2",
    "ff2279f83f905a8a",
    "f9faf3ac9e4d6759",
    "ebc80a5114515df5",
    "7c0107b9558076f4",
    "4ee2b06ed1cc6d68",
    "bd65f53bc2891c81",
    "9927fdcb7ab83261",
    "554d450705137432",
];

#[test]
fn realistic_keys_spread_over_lines_and_tags() {
    let count = 1 << 14;
    for seed in [0, 1, 0x0123_4567_89ab_cdef] {
        let hasher = TableHasher::new(seed);
        for shape in ["market:overview:{}", "k{}", "user:{}:profile:settings:v2", "{}"] {
            let keys = 200_000u32;
            let mut lines = vec![[0u32; 2]; count as usize];
            let (mut both_same, mut tags, mut all) = (0, HashSet::new(), HashSet::new());
            for number in 0..keys {
                let key = shape.replace("{}", &number.to_string());
                let hash = hasher.hash(key.as_bytes());
                let [first, second] = hash.buckets(count);
                lines[first as usize][0] += 1;
                lines[second as usize][1] += 1;
                both_same += u32::from(first == second);
                tags.insert(hash.tag());
                all.insert(hash.0);
            }
            assert_eq!(all.len(), keys as usize, "{shape}: two keys with one hash");
            // Poisson around 12.2 for each line; chi-squared over 16,383 degrees of freedom stays
            // within six standard deviations.
            let mean = f64::from(keys) / f64::from(count);
            for which in 0..2 {
                let chi: f64 =
                    lines.iter().map(|line| (f64::from(line[which]) - mean).powi(2) / mean).sum();
                let freedom = f64::from(count - 1);
                let deviation = (chi - freedom) / (2.0 * freedom).sqrt();
                assert!(deviation.abs() < 6.0, "{shape}, line {which}: {deviation:.1}");
            }
            assert!(both_same < 60, "{shape}: {both_same} keys have one line");
            // 65,536 tags, 3.05 keys each: 4.7 % stay unused.
            assert!((61_500..63_500).contains(&tags.len()), "{shape}: {} tags", tags.len());
        }
    }
}

#[test]
fn keys_whose_words_overlap_to_the_same_have_hashes_of_their_own() {
    let hasher = TableHasher::new(7);
    let mut seen = HashSet::new();
    for bytes in 0..200 {
        for byte in [0u8, b'a'] {
            if bytes == 0 && byte == 0 {
                continue;
            }
            assert!(seen.insert(hasher.hash(&vec![byte; bytes]).0), "{bytes} of {byte}");
        }
    }
}
