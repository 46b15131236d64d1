use super::*;
use memmap2::{MmapOptions, MmapRaw};
use shm_layout::{Entry, Geometry, Location, MappedMut, Plan, Writer};

const BYTES: u64 = 5 << 20;

/// The writer of a new table, its memory, and a reader of it.
pub(crate) fn table(id: u64) -> (Writer<MappedMut>, MmapRaw, Table) {
    let plan = Plan { table_bytes: BYTES, value_bytes_max: 1000, table_id: id, ..Plan::default() };
    let geometry = Geometry::plan(&plan).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(BYTES).unwrap();
    let memory = MmapOptions::new().map_raw(&file).unwrap();
    // SAFETY: page-aligned, of the geometry's size, mapped as long as `memory` lives, and
    // written by nothing else.
    let writer = unsafe { Writer::create(MappedMut::new(memory.as_mut_ptr()), geometry) };
    writer.open_for_readers();
    let table = Table::map(&file, BYTES, 0).unwrap();
    (writer, memory, table)
}

fn put(writer: &Writer<MappedMut>, table: &Table, entry: &Entry<'_>) {
    let geometry = table.reader.geometry();
    let hash = geometry.hasher().hash(entry.key);
    let at = Location { segment: 0, word: 0 };
    writer.append(at, &writer.prepare(entry).unwrap(), hash).unwrap();
    writer.publish(geometry.buckets(hash)[0].slot(0), hash, at);
}

#[test]
fn what_was_hidden_stays_hidden_when_the_memory_is_given_back_under_a_read() {
    let (writer, _memory, table) = table(1);
    let entry = Entry { key: b"key", value: b"stale", version: 1, expiry: 10, ..Entry::default() };
    put(&writer, &table, &entry);
    writer.set_clock_offset(1 << 40);
    let mut value = Vec::new();
    assert_eq!(table.read_by(b"key", &mut value, || Some(0)), TableRead::Miss);

    // The clock is read after the check of the generation, and only then its offset is loaded.
    let read = table.read_by(b"key", &mut value, || {
        table.give_back();
        Some(0)
    });
    assert_eq!(read, TableRead::Detached, "an expired entry came back");
    assert_eq!(value, b"");
    assert_eq!(table.read(b"key", &mut value), TableRead::Detached);
}

#[test]
fn an_entry_lives_until_its_expiry_on_the_daemons_clock() {
    let (writer, _memory, table) = table(1);
    let entry = Entry { key: b"key", value: b"value", version: 1, expiry: 10, ..Entry::default() };
    put(&writer, &table, &entry);
    // The table's epoch is now, on a daemon's clock that is far from ours.
    let ahead = 1 << 50;
    let daemon_now = clock::monotonic_ns().wrapping_add(ahead);
    writer.set_clock_offset(0_u64.wrapping_sub(daemon_now));
    let mut value = Vec::new();
    // Our clock alone shows a time long before the epoch, which wraps to long after it.
    assert_eq!(table.read(b"key", &mut value), TableRead::Miss);
    // The coarse clock may lag behind the epoch by its tick; the difference makes up for that.
    table.confirm(ahead + 20_000_000);
    let mut unexpired = || matches!(table.read(b"key", &mut value), TableRead::Hit(_));
    assert!(unexpired());
    table.confirm(ahead + (11 << 24));
    assert!(!unexpired());
}

#[test]
fn what_a_look_saw_counts_only_if_nothing_changed_meanwhile() {
    let (writer, _memory, table) = table(1);
    let entry =
        Entry { key: b"key", value: b"value", version: 1, expiry: u32::MAX, ..Entry::default() };
    put(&writer, &table, &entry);
    let mut looks = 0;
    let read = table.read_with(b"key", |value| {
        assert!(value.has_at(0, b"value"));
        looks += 1;
    });
    assert!(matches!(read, TableRead::Hit(_)));
    assert_eq!(looks, 1);
    // The segment is recycled during the read.
    let read = table.read_with(b"key", |_| {
        looks += 1;
        writer.begin_recycling(0);
    });
    assert_eq!((read, looks), (TableRead::Miss, 2));
}

#[test]
fn memory_is_aligned_for_huge_pages() {
    let (_writer, _memory, table) = table(1);
    assert_eq!(table.mapping.base().addr() % (2 << 20), 0);
}
