//! The parts of a read, measured one by one with everything in the processor caches: the hash of a
//! key, finding its entry, copying the value out. `./dev bench`; whole reads: `./dev lab read`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shm_layout::entry::NEVER;
use shm_layout::{
    Entry, Geometry, HeapTable, InPlace, Location, Look, Mapped, Memory, Outcome, Plan, Reader,
    TableHasher, Writer,
};
use std::hint::black_box;
use std::time::Duration;

fn hash(criterion: &mut Criterion) {
    let hasher = TableHasher::new(7);
    let mut group = criterion.benchmark_group("hash");
    for bytes in [8, 24, 48, 200] {
        let key = vec![b'k'; bytes];
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| hasher.hash(black_box(&key)));
        });
    }
    group.finish();
}

const FIRST: &[u8] = b"market:overview:00000001";
const SECOND: &[u8] = b"market:overview:00000002";
const ABSENT: &[u8] = b"market:overview:00000003";

fn nothing(_: InPlace<'_, Mapped>) {}

/// Finding an entry and confirming it, without a copy of the value.
fn probe(criterion: &mut Criterion) {
    let plan = Plan { table_bytes: 16 << 20, value_bytes_max: 1 << 16, ..Plan::default() };
    let geometry = Geometry::plan(&plan).expect("a table of 16 MiB");
    let table = HeapTable::new(&geometry);
    // SAFETY: zeroed memory of the geometry's size, written by nothing else.
    let writer = unsafe { Writer::create(table.memory_mut(), geometry) };
    writer.open_for_readers();
    let mut word = 0;
    for (key, line) in [(FIRST, 0), (SECOND, 1)] {
        let entry = Entry { key, value: &[7; 64], version: 1, expiry: NEVER, ..Entry::default() };
        let hash = writer.geometry().hasher().hash(key);
        let at = Location { segment: 0, word };
        let entry = writer.prepare(&entry).expect("a small entry");
        writer.append(at, &entry, hash).expect("room in the segment");
        word += u32::try_from(entry.words()).expect("a small entry");
        writer.publish(writer.geometry().buckets(hash)[line].slot(0), hash, at);
    }
    // SAFETY: memory of the table's size.
    let reader = unsafe { Reader::attach(table.memory(), table.bytes()) }.expect("a table");
    let mut group = criterion.benchmark_group("probe");
    for (name, key) in [("first line", FIRST), ("second line", SECOND), ("miss", ABSENT)] {
        let is_there = key != ABSENT;
        let found = reader.read(key, || Some(0), &mut Look(nothing));
        assert_eq!(matches!(found, Outcome::Hit(_)), is_there, "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| reader.read(black_box(key), || Some(0), &mut Look(nothing)));
        });
    }
    group.finish();
}

/// The copy out of shared memory beside `memcpy` from the same place.
fn copy(criterion: &mut Criterion) {
    let plan = Plan { table_bytes: 16 << 20, value_bytes_max: 1 << 16, ..Plan::default() };
    let geometry = Geometry::plan(&plan).expect("a table of 16 MiB");
    let table = HeapTable::new(&geometry);
    let memory = table.memory();
    // A value begins at a whole word, rarely at a line.
    let from = 4096 / 8 + 3;
    let mut to = vec![0_u8; 1 << 16];
    let mut group = criterion.benchmark_group("copy");
    for bytes in [8, 64, 200, 1 << 10, 4 << 10, 16 << 10, 64 << 10] {
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("copy_out", bytes), |bencher| {
            // SAFETY: the words lie inside the table, and `to` has room.
            bencher.iter(|| unsafe {
                memory.copy_out(black_box(from), black_box(to.as_mut_ptr()), black_box(bytes));
            });
        });
        group.bench_function(BenchmarkId::new("memcpy", bytes), |bencher| {
            // SAFETY: as above; nothing writes to the table.
            bencher.iter(|| unsafe {
                let source = table.base().add(8 * black_box(from));
                black_box(to.as_mut_ptr()).copy_from_nonoverlapping(source, black_box(bytes));
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = functions;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = hash, probe, copy
}
criterion_main!(functions);
