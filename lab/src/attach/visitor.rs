//! The process that attaches, reads and ends.

use super::Visit;
use crate::daemon::DEADLINE;
use crate::random::Random;
use crate::reads::arena::{ArenaReader, slots};
use crate::reads::rivals::blackboard::{Key, SERVICE, Value, config};
use crate::reads::rivals::lmdb::open_loaded;
use crate::reads::rivals::snapshot::Entries;
use crate::reads::workload::{Op, VALUE_BYTES, key, value};
use anyhow::{Context, Result, bail, ensure};
use iceoryx2::prelude::{NodeBuilder, ipc};
use l1d_client::{Client, Populate};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

/// Its options.
#[derive(Debug, Clone, clap::Args)]
pub struct VisitorPlace {
    /// The kind of store to read
    how: String,
    /// A socket, file or directory
    place: PathBuf,
    /// Prefix of its files in /dev/shm, if it has any
    #[arg(long, default_value = "")]
    prefix: String,
    #[arg(long)]
    entries: u32,
    #[arg(long)]
    reads: u32,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    arena_seed: u64,
}

/// Attaches and reads; reports how long it took.
///
/// # Errors
/// The store cannot be reached, or lacks a key that it should have.
pub fn visitor(place: &VisitorPlace) -> Result<()> {
    let mut random = Random::new(place.seed);
    let numbers: Vec<u32> = (0..place.reads)
        .map(|_| u32::try_from(random.below(place.entries as usize)).unwrap_or(0))
        .collect();
    let visit = match place.how.as_str() {
        "limit" => limit(place, &numbers),
        "l1d" => l1d(place, Populate::Auto, &numbers),
        "l1d-nothing" => l1d(place, Populate::Nothing, &numbers),
        "l1d-index" => l1d(place, Populate::Index, &numbers),
        "lmdb" => lmdb(place, &numbers),
        "mmap-sync" => snapshot(place, &numbers),
        "iceoryx2" => blackboard(place, &numbers),
        "memcached" => server(place, &numbers, memcached),
        "redis" => server(place, &numbers, redis),
        other => bail!("{other}: no way to read"),
    }?;
    crate::output::print(serde_json::to_string(&visit)?)?;
    Ok(())
}

/// Times `attach`, and then `read` of each number. `read` returns whether the value is the right
/// one.
fn timed<T>(
    numbers: &[u32],
    attach: impl FnOnce() -> Result<T>,
    mut read: impl FnMut(&mut T, u32) -> Result<bool>,
) -> Result<Visit> {
    let (faults, begun) = (faults()?, Instant::now());
    let mut attached = attach()?;
    let attach_us = begun.elapsed().as_secs_f64() * 1e6;
    let begun = Instant::now();
    for &number in numbers {
        ensure!(read(&mut attached, number)?, "key {number} is missing");
    }
    let reads_us = begun.elapsed().as_secs_f64() * 1e6;
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let faults = (self::faults()? - faults) as f64;
    Ok(Visit { attach_us, reads_us, faults })
}

/// Page faults so far that needed no disk.
fn faults() -> Result<i64> {
    use nix::sys::resource::{UsageWho, getrusage};
    Ok(getrusage(UsageWho::RUSAGE_SELF).context("getrusage")?.minor_page_faults())
}

fn limit(place: &VisitorPlace, numbers: &[u32]) -> Result<Visit> {
    let keys = place.entries as usize;
    // This reader knows where the keys are, so finding that out is not timed.
    let slots = slots(keys, place.arena_seed);
    let map = || {
        let file = File::open(&place.place).context("cannot open the limit's memory")?;
        ArenaReader::<VALUE_BYTES>::map(&file, keys)
    };
    let mut out = [0; VALUE_BYTES];
    timed(numbers, map, |arena, number| {
        let slot = slots.get(number as usize).copied().unwrap_or(0);
        Ok(arena.read(&Op { key: key(number), number, slot }, &mut out) && out == value(number))
    })
}

fn l1d(place: &VisitorPlace, populate: Populate, numbers: &[u32]) -> Result<Visit> {
    let builder = || Client::builder().socket(&place.place).populate(populate);
    let attach = || Ok(builder().deadline(DEADLINE).attach_deadline(DEADLINE).connect()?);
    let mut out = Vec::with_capacity(VALUE_BYTES);
    timed(numbers, attach, |client, number| {
        Ok(client.peek_into(key(number), &mut out).is_some() && out == value(number))
    })
}

fn lmdb(place: &VisitorPlace, numbers: &[u32]) -> Result<Visit> {
    timed(
        numbers,
        || open_loaded(&place.place, place.entries),
        |(environment, tree), number| {
            let read = environment.read_txn()?;
            Ok(tree.get(&read, &key(number))? == Some(&value(number)[..]))
        },
    )
}

fn snapshot(place: &VisitorPlace, numbers: &[u32]) -> Result<Visit> {
    let open = || Ok(mmap_sync::synchronizer::Synchronizer::new(place.place.as_os_str()));
    timed(numbers, open, |reader, number| {
        // SAFETY: the archive has this type and is not written any more, in a directory private to
        // this run; the guard is dropped before this call returns.
        let entries = unsafe { reader.read::<Entries>(false) };
        let entries = entries.ok().context("cannot read the archive")?;
        Ok(entries.get(&key(number)).is_some_and(|found| *found == value(number)))
    })
}

fn blackboard(place: &VisitorPlace, numbers: &[u32]) -> Result<Visit> {
    let open = || {
        let node = NodeBuilder::new()
            .config(&config(&place.place, &place.prefix)?)
            .create::<ipc::Service>()?;
        let service =
            node.service_builder(&SERVICE.try_into()?).blackboard_opener::<Key>().open()?;
        Ok((service.reader_builder().create()?, service, node))
    };
    timed(numbers, open, |(reader, ..), number| {
        let entry = reader.entry::<Value>(&key(number))?;
        Ok(*entry.get() == value(number))
    })
}

/// Reads through a socket: `ask` writes a request and returns the length of the answer.
fn server(
    place: &VisitorPlace,
    numbers: &[u32],
    ask: impl Fn(&[u8], &mut Vec<u8>) -> usize,
) -> Result<Visit> {
    let connect = || UnixStream::connect(&place.place).context("cannot connect");
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    timed(numbers, connect, |stream, number| {
        request.clear();
        let bytes = ask(&key(number), &mut request);
        stream.write_all(&request)?;
        answer.resize(bytes, 0);
        stream.read_exact(&mut answer)?;
        let wanted = value(number);
        Ok(answer.windows(wanted.len()).any(|bytes| bytes == wanted))
    })
}

fn memcached(key: &[u8], request: &mut Vec<u8>) -> usize {
    request.extend_from_slice(b"get ");
    request.extend_from_slice(key);
    request.extend_from_slice(b"\r\n");
    // VALUE key 0 64, the value, END.
    "VALUE ".len() + key.len() + " 0 64\r\n".len() + VALUE_BYTES + "\r\nEND\r\n".len()
}

fn redis(key: &[u8], request: &mut Vec<u8>) -> usize {
    request.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$24\r\n");
    request.extend_from_slice(key);
    request.extend_from_slice(b"\r\n");
    "$64\r\n".len() + VALUE_BYTES + "\r\n".len()
}
