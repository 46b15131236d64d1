//! LAYOUT.md matches the code in both directions: a row that contradicts the code fails, and so
//! does a public constant without a row.

use shm_layout::header::{self, IDENTITY_WORDS, Identity};
use shm_layout::segment::{self, Role};
use shm_layout::{EntryHeader, Geometry, Location, Plan, entry, geometry, hash, memory, slot};
use std::collections::BTreeMap;

const DOCUMENT: &str = include_str!("../LAYOUT.md");

/// The sources whose public constants define the meaning of bytes.
const SOURCES: [&str; 7] = [
    include_str!("../src/entry.rs"),
    include_str!("../src/geometry.rs"),
    include_str!("../src/hash.rs"),
    include_str!("../src/header.rs"),
    include_str!("../src/memory.rs"),
    include_str!("../src/segment.rs"),
    include_str!("../src/slot.rs"),
];

/// The constants that are offsets or widths, from the tables that list them as such.
fn placed() -> Vec<(&'static str, usize)> {
    vec![
        ("IDENTITY_COPIES[0]", header::IDENTITY_COPIES[0]),
        ("IDENTITY_COPIES[1]", header::IDENTITY_COPIES[1]),
        ("VERSION_CEILING", header::VERSION_CEILING),
        ("INSTANCE", header::INSTANCE),
        ("POLICY_FINGERPRINT", header::POLICY_FINGERPRINT),
        ("UNSETTLED", header::UNSETTLED),
        ("SESSION[0]", header::SESSION[0]),
        ("SESSION[1]", header::SESSION[1]),
        ("POLICY_EPOCH", header::POLICY_EPOCH),
        ("USABLE_SEGMENTS", header::USABLE_SEGMENTS),
        ("DOUBTFUL", header::DOUBTFUL),
        ("CHANGING_MORE", header::CHANGING_MORE),
        ("CHANGING_POLICIES", header::CHANGING_POLICIES),
        ("STATE", header::STATE),
        ("STRICT_FLOOR", header::STRICT_FLOOR),
        ("LEASE_UNTIL", header::LEASE_UNTIL),
        ("CLOCK_OFFSET", header::CLOCK_OFFSET),
        ("POLICY_FLOORS", header::POLICY_FLOORS),
        ("CHANGING", header::CHANGING),
        ("ROLE", segment::ROLE),
        ("SEQUENCE", segment::SEQUENCE),
        ("FILLED", segment::FILLED),
        ("EARLIEST_EXPIRY", segment::EARLIEST_EXPIRY),
        ("TAG_BITS", slot::TAG_BITS as usize),
        ("POSITION_BITS", slot::POSITION_BITS as usize),
    ]
}

/// All other constants, from the tables of values.
fn values() -> Vec<(&'static str, u64)> {
    vec![
        ("CHANGING_MAX", header::CHANGING_MAX as u64),
        ("CHANGING_POLICIES_WORDS", header::CHANGING_POLICIES_WORDS as u64),
        ("DOUBTFUL_WORDS", header::DOUBTFUL_WORDS as u64),
        ("ENTRIES_PER_SEGMENT_MIN", geometry::ENTRIES_PER_SEGMENT_MIN),
        ("ENTRY_HEADER_BYTES", entry::ENTRY_HEADER_BYTES as u64),
        ("FINGERPRINT", header::FINGERPRINT),
        ("FIRST_GENERATION", segment::FIRST_GENERATION),
        ("HASH_ID", hash::HASH_ID as u64),
        ("HEADER_BYTES", header::HEADER_BYTES as u64),
        ("IDENTITY_WORDS", IDENTITY_WORDS as u64),
        ("KEY_BYTES_MAX", entry::KEY_BYTES_MAX as u64),
        ("LAYOUT_VERSION", u64::from(header::LAYOUT_VERSION)),
        ("LINE_WORDS", memory::LINE_WORDS as u64),
        ("MAGIC", header::MAGIC),
        ("MARK_ABSENT", u64::from(entry::MARK_ABSENT)),
        ("MARK_FLAGS", u64::from(entry::MARK_FLAGS)),
        ("MARK_STRICT", u64::from(entry::MARK_STRICT)),
        ("NEVER", u64::from(entry::NEVER)),
        ("POLICIES", header::POLICIES as u64),
        ("Role::Closed", Role::Closed as u64),
        ("Role::Free", Role::Free as u64),
        ("Role::Open", Role::Open as u64),
        ("SEGMENTS_MIN", geometry::SEGMENTS_MIN),
        ("SEGMENT_COUNT_BITS", u64::from(geometry::SEGMENT_COUNT_BITS)),
        ("SEGMENT_HEADER_WORDS", segment::SEGMENT_HEADER_WORDS as u64),
        ("SEGMENT_WORDS_BITS", u64::from(geometry::SEGMENT_WORDS_BITS)),
        ("SLOTS", slot::SLOTS as u64),
        ("STATE_BUILDING", header::STATE_BUILDING),
        ("STATE_SERVING", header::STATE_SERVING),
        ("STATE_SUPERSEDED", header::STATE_SUPERSEDED),
        ("TICK_BITS", u64::from(entry::TICK_BITS)),
        ("WORD_BYTES", memory::WORD_BYTES as u64),
    ]
}

/// The rows of the tables with these first columns: name, and the figures after it.
fn rows_of(section: &str, columns: &str) -> BTreeMap<String, Vec<Option<u64>>> {
    let mut rows = BTreeMap::new();
    for table in section.split("\n\n").map(str::trim).filter(|part| part.starts_with(columns)) {
        for line in table.lines().skip(2) {
            let (name, rest) =
                line.strip_prefix("| `").and_then(|line| line.split_once("` |")).expect(line);
            let figures = rest.split('|').take(2).map(|cell| figure(cell.trim())).collect();
            assert!(rows.insert(name.to_owned(), figures).is_none(), "{name} has two rows");
        }
    }
    rows
}

fn figure(cell: &str) -> Option<u64> {
    cell.strip_prefix("0x").map_or_else(|| cell.parse(), |hex| u64::from_str_radix(hex, 16)).ok()
}

/// The text below a heading, up to the next one.
fn section(heading: &str) -> &'static str {
    let section = DOCUMENT.split(&format!("\n{heading}\n")).nth(1).expect(heading);
    &section[..section.find("\n#").unwrap_or(section.len())]
}

fn assert_same(heading: &str, columns: &str, code: &[(&str, usize, Option<usize>)]) {
    let rows = rows_of(section(heading), columns);
    let names: Vec<&str> = rows.keys().map(String::as_str).collect();
    let mut expected: Vec<&str> = code.iter().map(|(name, ..)| *name).collect();
    expected.sort_unstable();
    assert_eq!(names, expected, "{heading}: the rows");
    for (name, first, second) in code {
        let row = &rows[*name];
        assert_eq!(row[0], Some(*first as u64), "{heading}: {name}");
        if let Some(second) = second {
            assert_eq!(row[1], Some(*second as u64), "{heading}: {name}");
        }
    }
}

#[test]
fn every_public_constant_has_a_row() {
    let mut in_code: Vec<String> = SOURCES
        .iter()
        .flat_map(|source| source.lines())
        .filter_map(|line| line.trim().strip_prefix("pub const "))
        .filter_map(|rest| rest.split_once(':'))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        // Of `SlotWord`: an all-zero word, as the drawing says.
        .filter(|name| name != "EMPTY")
        .collect();
    in_code.sort_unstable();
    let placed = placed().into_iter().map(|(name, _)| name);
    let mut listed: Vec<String> = values()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with("Role::"))
        .chain(placed)
        .map(|name| name.split('[').next().unwrap_or(name).to_owned())
        .collect();
    listed.sort_unstable();
    listed.dedup();
    assert_eq!(in_code, listed, "the constants of src, and those that this test compares");
}

#[test]
fn values_are_the_constants() {
    let rows = rows_of(DOCUMENT, "| name | value |");
    let in_document: Vec<(&str, Option<u64>)> =
        rows.iter().map(|(name, row)| (name.as_str(), row[0])).collect();
    let in_code: Vec<_> = values().into_iter().map(|(name, value)| (name, Some(value))).collect();
    assert_eq!(in_document, in_code);
    assert_eq!(Role::from_word(3), None, "a role without a row");
}

/// The document alone is enough to compute the fingerprint.
#[test]
fn fingerprint() {
    let (placed, values) = (BTreeMap::from_iter(placed()), BTreeMap::from_iter(values()));
    let (_, rest) = DOCUMENT.split_once("```fingerprint\n").expect("the list");
    let (list, _) = rest.split_once("```").expect("its end");
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    for name in list.split_whitespace() {
        let figure = placed.get(name).map(|place| *place as u64).or(values.get(name).copied());
        for byte in figure.expect(name).to_le_bytes() {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    assert_eq!(sum, header::FINGERPRINT);
}

#[test]
fn no_row_escapes_comparison() {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `")).count();
    let compared: usize =
        ["| name | byte |", "| name | word |", "| name | bits |", "| name | value |"]
            .iter()
            .map(|columns| rows_of(DOCUMENT, columns).len())
            .sum();
    assert_eq!(rows, compared, "a table with other columns has rows that look like figures");
}

#[test]
fn areas() {
    let plan = Plan::default();
    let geometry = Geometry::plan(&plan).expect("the default");
    let identity = geometry.identity();
    let shape = format!(
        "{} segments of {} bytes, {} buckets",
        identity.segment_count, identity.segment_bytes, identity.bucket_count
    );
    assert!(section("### Example").contains(&shape), "{shape}");
    let count = usize::try_from(identity.segment_count).expect("a count");
    let bytes = |figure: u64| usize::try_from(figure).expect("a size");
    let first = Location { segment: 0, word: 0 };
    let segments = geometry.resolve(first).expect("a segment") * 8;
    let end = segments + bytes(geometry.log_bytes());
    let whole_lines = Some((count * 8).next_multiple_of(64));
    let code = [
        ("generations", geometry.generation(0).expect("a segment") * 8, whole_lines),
        ("segment headers", geometry.segment_header(0).expect("a segment") * 8, Some(count * 64)),
        ("buckets", geometry.bucket(0).word() * 8, Some(bytes(geometry.index_bytes()))),
        ("segments", segments, Some(bytes(geometry.log_bytes()))),
        ("unused", end, Some(bytes(identity.table_bytes) - end)),
    ];
    assert_same("### Example", "| name | byte | bytes |", &code);
    // And the rule that the example follows from.
    let mut behind = header::HEADER_BYTES;
    for (name, at, bytes) in code {
        let aligned = if name == "segments" { 4096 } else { 64 };
        assert_eq!(at, behind.next_multiple_of(aligned), "{name}");
        behind = at + bytes.expect("each has one");
    }
}

#[test]
fn header() {
    let identity = Some(IDENTITY_WORDS * 8);
    let word = Some(8);
    assert_same(
        "## Header",
        "| name | byte | bytes |",
        &[
            ("IDENTITY_COPIES[0]", header::IDENTITY_COPIES[0] * 8, identity),
            ("IDENTITY_COPIES[1]", header::IDENTITY_COPIES[1] * 8, identity),
            ("VERSION_CEILING", header::VERSION_CEILING * 8, word),
            ("INSTANCE", header::INSTANCE * 8, word),
            ("POLICY_FINGERPRINT", header::POLICY_FINGERPRINT * 8, word),
            ("UNSETTLED", header::UNSETTLED * 8, word),
            ("SESSION[0]", header::SESSION[0] * 8, word),
            ("SESSION[1]", header::SESSION[1] * 8, word),
            ("POLICY_EPOCH", header::POLICY_EPOCH * 8, word),
            ("USABLE_SEGMENTS", header::USABLE_SEGMENTS * 8, word),
            ("DOUBTFUL", header::DOUBTFUL * 8, Some(header::DOUBTFUL_WORDS * 8)),
            ("CHANGING_MORE", header::CHANGING_MORE * 8, word),
            (
                "CHANGING_POLICIES",
                header::CHANGING_POLICIES * 8,
                Some(header::CHANGING_POLICIES_WORDS * 8),
            ),
            ("STATE", header::STATE * 8, word),
            ("STRICT_FLOOR", header::STRICT_FLOOR * 8, word),
            ("LEASE_UNTIL", header::LEASE_UNTIL * 8, word),
            ("CLOCK_OFFSET", header::CLOCK_OFFSET * 8, word),
            ("POLICY_FLOORS", header::POLICY_FLOORS * 8, Some(header::POLICIES * 8)),
            ("CHANGING", header::CHANGING * 8, Some(header::CHANGING_MAX * 8)),
        ],
    );
    assert!(DOCUMENT.contains(&format!("up to {} are zero", header::HEADER_BYTES)));
}

/// Finds each field's position by packing an identity in which only that field is set.
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
        "| name | word |",
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
        "| name | word |",
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
        "| name | bits |",
        &[
            ("TAG_BITS", slot::TAG_BITS as usize, None),
            ("POSITION_BITS", slot::POSITION_BITS as usize, None),
        ],
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
    // Position and size of a field: the bytes that change when all its bits are set.
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
    assert_same("## Entries", "| name | byte | bytes |", &fields);
}
