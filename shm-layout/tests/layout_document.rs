//! LAYOUT.md says what the code does, row by row, both ways.

use shm_layout::header::{self, IDENTITY_WORDS, Identity};
use shm_layout::{EntryHeader, segment, slot};
use std::collections::BTreeMap;

const DOCUMENT: &str = include_str!("../LAYOUT.md");

/// The rows of the table below a heading: name and the figures that follow it.
fn rows(heading: &str) -> BTreeMap<String, Vec<Option<usize>>> {
    let section = DOCUMENT.split(&format!("\n{heading}\n")).nth(1).expect(heading);
    let end = section.find("\n#").unwrap_or(section.len());
    let rows: BTreeMap<_, _> = section[..end]
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(name, rest)| {
            let figures = rest.split('|').take(2).map(|cell| cell.trim().parse().ok()).collect();
            (name.to_owned(), figures)
        })
        .collect();
    assert!(!rows.is_empty(), "{heading} has no table");
    rows
}

fn assert_same(heading: &str, code: &[(&str, usize, Option<usize>)]) {
    let rows = rows(heading);
    let names: Vec<&str> = rows.keys().map(String::as_str).collect();
    let mut expected: Vec<&str> = code.iter().map(|(name, ..)| *name).collect();
    expected.sort_unstable();
    assert_eq!(names, expected, "{heading}: the rows");
    for (name, first, second) in code {
        let row = &rows[*name];
        assert_eq!(row[0], Some(*first), "{heading}: {name}");
        if second.is_some() {
            assert_eq!(row[1], *second, "{heading}: {name}");
        }
    }
}

#[test]
fn header() {
    let identity = Some(IDENTITY_WORDS * 8);
    let word = Some(8);
    assert_same(
        "## Header",
        &[
            ("IDENTITY_COPY_1", header::IDENTITY_COPIES[0] * 8, identity),
            ("IDENTITY_COPY_2", header::IDENTITY_COPIES[1] * 8, identity),
            ("VERSION_CEILING", header::VERSION_CEILING * 8, word),
            ("INSTANCE", header::INSTANCE * 8, word),
            ("POLICY_FINGERPRINT", header::POLICY_FINGERPRINT * 8, word),
            ("STATE", header::STATE * 8, word),
            ("STRICT_FLOOR", header::STRICT_FLOOR * 8, word),
            ("LEASE_UNTIL", header::LEASE_UNTIL * 8, word),
            ("CLOCK_OFFSET", header::CLOCK_OFFSET * 8, word),
            ("POLICY_FLOORS", header::POLICY_FLOORS * 8, Some(header::POLICIES * 8)),
        ],
    );
    assert!(DOCUMENT.contains(&format!("up to {} are zero", header::HEADER_BYTES)));
}

/// Each field's place, found by packing an identity in which only that field is set.
#[test]
fn identity() {
    let zero = Identity {
        table_id: 0,
        table_bytes: 0,
        segment_bytes: 0,
        segment_count: 0,
        bucket_count: 0,
        value_bytes_max: 0,
        hash_seed: 0,
        boot_id: [0; 2],
        epoch_ns: 0,
    };
    let word_of = |identity: Identity| {
        let (blank, packed) = (zero.pack(), identity.pack());
        (0..IDENTITY_WORDS - 1).find(|word| blank[*word] != packed[*word]).expect("a word")
    };
    let packed = zero.pack();
    let find = |wanted: u64| packed.iter().position(|word| *word == wanted).expect("a word");
    assert_same(
        "### Identity",
        &[
            ("magic", find(header::MAGIC), None),
            ("version", find(u64::from(header::LAYOUT_VERSION)), None),
            ("fingerprint", find(header::FINGERPRINT), None),
            ("table_id", word_of(Identity { table_id: 7, ..zero }), None),
            ("table_bytes", word_of(Identity { table_bytes: 7, ..zero }), None),
            ("segment_bytes", word_of(Identity { segment_bytes: 7, ..zero }), None),
            ("segment_count", word_of(Identity { segment_count: 7, ..zero }), None),
            ("bucket_count", word_of(Identity { bucket_count: 7, ..zero }), None),
            ("value_bytes_max", word_of(Identity { value_bytes_max: 7, ..zero }), None),
            ("hash_seed", word_of(Identity { hash_seed: 7, ..zero }), None),
            ("boot_id", word_of(Identity { boot_id: [7, 7], ..zero }), None),
            ("epoch_ns", word_of(Identity { epoch_ns: 7, ..zero }), None),
            ("checksum", IDENTITY_WORDS - 1, None),
        ],
    );
}

#[test]
fn segment_headers() {
    assert_same(
        "## Segment headers",
        &[
            ("ROLE", segment::ROLE, None),
            ("SEQUENCE", segment::SEQUENCE, None),
            ("FILLED", segment::FILLED, None),
            ("EARLIEST_EXPIRY", segment::EARLIEST_EXPIRY, None),
        ],
    );
}

#[test]
fn slots() {
    assert_same(
        "## Buckets and slots",
        &[("TAG", slot::TAG_BITS as usize, None), ("POSITION", slot::POSITION_BITS as usize, None)],
    );
}

#[test]
fn entries() {
    let zero = EntryHeader {
        value_bytes: 0,
        key_bytes: 0,
        policy: 0,
        marks: 0,
        version: 0,
        expiry: 0,
        checksum: 0,
    };
    // Place and size of a field: the bytes that change when all its bits are set.
    let place = |header: EntryHeader| {
        let bytes: Vec<u8> = header.pack().iter().flat_map(|word| word.to_le_bytes()).collect();
        let first = bytes.iter().position(|byte| *byte != 0).expect("a byte");
        (first, Some(bytes.iter().filter(|byte| **byte == 0xff).count()))
    };
    let fields = [
        ("value_bytes", place(EntryHeader { value_bytes: u32::MAX, ..zero })),
        ("key_bytes", place(EntryHeader { key_bytes: u16::MAX, ..zero })),
        ("policy", place(EntryHeader { policy: u8::MAX, ..zero })),
        ("marks", place(EntryHeader { marks: u8::MAX, ..zero })),
        ("version", place(EntryHeader { version: u64::MAX, ..zero })),
        ("expiry", place(EntryHeader { expiry: u32::MAX, ..zero })),
        ("checksum", place(EntryHeader { checksum: u32::MAX, ..zero })),
        ("key", (zero.key_word() * 8, None)),
    ];
    let fields: Vec<_> = fields.iter().map(|(name, (at, size))| (*name, *at, *size)).collect();
    assert_same("## Entries", &fields);
}
