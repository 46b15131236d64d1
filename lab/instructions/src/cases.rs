//! The counted operations. Each is repeated before it is counted, so that nothing happens for the
//! first time. The smallest of several counts is taken, because now and then a hit is due to be
//! reported.

use anyhow::{Context, Result, ensure};
use l1d_client::{Client, Memo, Values};
use l1d_instructions::callgrind::leg;
use l1d_instructions::served::Served;
use shm_layout::entry::NEVER;
use shm_layout::{Destination, Entry, Location, Mapped, Outcome, Plan, Reader};
use std::convert::Infallible;
use std::hint::black_box;

/// Bytes of a key in these cases, such as `market:overview:00000001`.
const KEY_BYTES: usize = 24;
/// Repetitions of an operation before it is counted: enough that hits are no longer all reported.
const WARM_UP: u32 = 20_000;
const LEGS: u32 = 24;
/// Hits that a thread hands over in one batch.
const HANDED_OVER: u64 = 16;
/// Enough puts to fill the table.
const PUTS: u32 = 50_000;
const HOT_KEYS: u32 = 1000;

/// A buffer for a value.
struct Room([u8; 2048]);

// SAFETY: the array is borrowed exclusively and has the requested room, which is checked.
unsafe impl Destination for Room {
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> *mut u8 {
        assert!(bytes <= self.0.len());
        self.0.as_mut_ptr()
    }
}

/// Runs all operations, each as a leg.
///
/// # Errors
/// No memory, or a key is missing.
pub fn run() -> Result<()> {
    let plan =
        Plan { table_bytes: 16 << 20, value_bytes_max: 2048, table_id: 1, ..Plan::default() };
    let served = Served::new(&plan)?;
    fill(&served)?;
    reader(&served.reader()?)?;
    let client = served.client()?;
    peeks(&client)?;
    others(&client)?;
    reported(&client)?;
    puts()
}

fn key(number: u32) -> [u8; KEY_BYTES] {
    let mut key = *b"market:overview:00000000";
    let digits = format!("{number:08}");
    if let Some(place) = key.last_chunk_mut::<8>() {
        place.copy_from_slice(digits.as_bytes());
    }
    key
}

const NEVER_EXPIRES: u32 = 1;
const EXPIRES: u32 = 2;
const SECOND_LINE: u32 = 3;
const STRICT: u32 = 4;
const LARGE: u32 = 5;
const ABSENT: u32 = 6;
/// Keys of a batch.
const TOGETHER: u32 = 16;

fn fill(served: &Served) -> Result<()> {
    let (writer, large) = (served.table.writer(), [7; 1024]);
    writer.set_lease_until(u64::MAX);
    let mut word = 0;
    let mut put = |number, value: &[u8], expiry, strict, line: usize| {
        let key = key(number);
        let entry = Entry {
            key: &key,
            value,
            version: 1,
            expiry,
            strict,
            flags: u32::from(strict),
            ..Entry::default()
        };
        let geometry = writer.geometry();
        let hash = geometry.hasher().hash(&key);
        let at = Location { segment: geometry.segment_count() - 1, word };
        let entry = writer.prepare(&entry)?;
        writer.append(at, &entry, hash)?;
        word += u32::try_from(entry.words())?;
        let bucket = geometry.buckets(hash)[line];
        // If it is in its first line, it is in its own slot, like most keys that are read.
        let own = (line == 0).then(|| bucket.slot(hash.own_slot()));
        let free = own.filter(|own| writer.slot(*own).is_empty());
        let free = free.or_else(|| writer.empty_slot(bucket));
        writer.publish(free.context("a line without room")?, hash, at);
        anyhow::Ok(())
    };
    let value = [7; 64];
    put(NEVER_EXPIRES, &value, NEVER, false, 0)?;
    put(EXPIRES, &value, NEVER - 1, false, 0)?;
    put(SECOND_LINE, &value, NEVER, false, 1)?;
    put(STRICT, &value, NEVER, true, 0)?;
    put(LARGE, &large, NEVER, false, 0)?;
    for number in TOGETHER..TOGETHER + 16 {
        put(number, &value, NEVER, false, 0)?;
    }
    Ok(())
}

/// Counts one operation.
fn count(name: &str, mut work: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..WARM_UP {
        ensure!(work(), "{name}: not as it should be");
    }
    for _ in 0..LEGS {
        ensure!(leg(name, 1, &mut work), "{name}: not as it should be");
    }
    Ok(())
}

fn reader(reader: &Reader<Mapped>) -> Result<()> {
    let mut room = Room([0; 2048]);
    let mut read = |name: &str, number, is_hit| {
        let key = key(number);
        count(name, || {
            let outcome = reader.read(black_box(&key), || Some(0), black_box(&mut room));
            matches!(outcome, Outcome::Hit(_)) == is_hit
        })
    };
    read("reader alone: hit", NEVER_EXPIRES, true)?;
    read("reader alone: hit that expires, clock not counted", EXPIRES, true)?;
    read("reader alone: hit in the second line", SECOND_LINE, true)?;
    read("reader alone: miss", ABSENT, false)
}

fn peeks(client: &Client) -> Result<()> {
    let mut value = Vec::with_capacity(2048);
    let mut peek = |name: &str, number, is_hit| {
        let key = key(number);
        // Passed as a slice: the compiler must not know its length, because few callers have keys
        // of a constant length.
        count(name, || {
            client.peek_into(black_box(&key[..]), black_box(&mut value)).is_some() == is_hit
        })
    };
    peek("peek_into: hit", NEVER_EXPIRES, true)?;
    peek("peek_into: hit that expires", EXPIRES, true)?;
    peek("peek_into: hit in the second line", SECOND_LINE, true)?;
    peek("peek_into: hit, strict and with flags", STRICT, true)?;
    peek("peek_into: hit of 1 KiB", LARGE, true)?;
    peek("peek_into: miss", ABSENT, false)
}

fn others(client: &Client) -> Result<()> {
    let key = key(NEVER_EXPIRES);
    count("read_with: hit, 8 bytes looked at", || {
        let look = client.read_with(black_box(&key[..]), |value| value.array::<8>(8));
        matches!(look, Ok(Some(Some(_))))
    })?;
    let memo = Memo::new(client, 100)?;
    count("Memo: hit", || {
        let decoded = memo.decoded(black_box(&key[..]), |value| Ok::<_, Infallible>(value.len()));
        matches!(decoded, Ok(Some(_)))
    })
}

/// A thread reports its first few hundred hits after a pause one by one. This counts as many hits as
/// are handed over in one batch later on.
fn reported(client: &Client) -> Result<()> {
    let single = || {
        let (key, mut value) = (key(NEVER_EXPIRES), Vec::with_capacity(64));
        let mut work = || {
            (0..HANDED_OVER)
                .all(|_| client.peek_into(black_box(&key[..]), black_box(&mut value)).is_some())
        };
        ensure!(work(), "no hit");
        ensure!(leg("peek_into: hit, all reported", HANDED_OVER, &mut work), "no hit");
        Ok(())
    };
    let together = || {
        let keys: Vec<_> = (TOGETHER..TOGETHER + 16).map(key).collect();
        let work = || client.get_many(black_box(&keys)).is_ok_and(|values| values.len() == 16);
        ensure!(work(), "no hit");
        ensure!(leg("get_many: of 16 hits, each, all reported", 16, work), "no hit");
        let mut values = Values::new();
        let mut work = || client.get_many_into(black_box(&keys), black_box(&mut values)).is_ok();
        ensure!(work(), "no hit");
        ensure!(leg("get_many_into: of 16 hits, each, all reported", 16, work), "no hit");
        Ok(())
    };
    std::thread::scope(|scope| {
        let ended = "the reading thread panicked";
        scope.spawn(single).join().map_err(|_| anyhow::anyhow!(ended))??;
        scope.spawn(together).join().map_err(|_| anyhow::anyhow!(ended))?
    })
}

/// The owner's side: puts of the same keys over and over, including the recycling of the log.
fn puts() -> Result<()> {
    let plan = Plan { table_bytes: 5 << 20, value_bytes_max: 64, table_id: 1, ..Plan::default() };
    let mut served = Served::new(&plan)?;
    let keys: Vec<_> = (0..HOT_KEYS).map(key).collect();
    let mut puts = |count: u32| {
        keys.iter().cycle().take(count as usize).all(|key| {
            let entry = Entry { key, value: &[7; 64], expiry: NEVER, ..Entry::default() };
            served.table.put(black_box(&entry), 0).is_ok()
        })
    };
    ensure!(puts(2 * PUTS), "a refused put");
    ensure!(
        leg("Table::put: overwrite, log recycled", PUTS.into(), || puts(PUTS)),
        "a refused put"
    );
    Ok(())
}
