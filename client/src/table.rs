//! One mapped table and how it is read.

use crate::clock;
use crate::mapping::Mapping;
use crate::value::{Meta, Source};
use shm_layout::{Destination, Mapped, Outcome, Reader};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// What a read of the table comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableRead {
    /// The value is in the vector.
    Hit(Meta),
    /// The key is known to have no value.
    Absent,
    /// The table does not hold the key.
    Miss,
    /// The table is not in use (any more): attach anew.
    Detached,
}

/// A checked table.
pub(crate) struct Table {
    /// Before `mapping`, whose memory it reads.
    reader: Reader<Mapped>,
    mapping: Mapping,
    /// What to add (wrapping) to this process's CLOCK_MONOTONIC to get the daemon's. Measured anew
    /// with each connection, as a forked child may live in another time namespace.
    clock_difference_ns: AtomicU64,
}

impl Table {
    /// Maps and checks the table in `file`, which has `bytes` bytes (R2).
    pub(crate) fn map(
        file: impl AsFd,
        bytes: u64,
        clock_difference_ns: u64,
    ) -> Result<Table, String> {
        let mapping = Mapping::of_file(file, bytes).map_err(|error| format!("mmap: {error}"))?;
        // SAFETY: `base` is aligned to 2 MiB; `bytes` bytes stay mapped for reading as long as
        // `mapping` lives, which is dropped with the reader; nobody else in this process reaches
        // them.
        let reader = unsafe { Reader::attach(Mapped::new(mapping.base()), bytes) }
            .map_err(|error| error.to_string())?;
        Ok(Table { reader, mapping, clock_difference_ns: AtomicU64::new(clock_difference_ns) })
    }

    pub(crate) fn id(&self) -> u64 {
        self.reader.geometry().identity().table_id
    }

    pub(crate) fn value_bytes_max(&self) -> u32 {
        self.reader.geometry().value_bytes_max()
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.reader.is_serving()
    }

    pub(crate) fn set_clock_difference_ns(&self, ns: u64) {
        self.clock_difference_ns.store(ns, Ordering::Relaxed);
    }

    /// Reads `key` into `value`, replacing what is there. Not a hit: `value` is empty.
    #[inline]
    pub(crate) fn read(&self, key: &[u8], value: &mut Vec<u8>) -> TableRead {
        value.clear();
        let clock = || {
            clock::monotonic_coarse_ns()
                .wrapping_add(self.clock_difference_ns.load(Ordering::Relaxed))
        };
        let outcome = self.reader.read(key, clock, &mut Spare(value));
        let read = match outcome {
            Outcome::Miss => return TableRead::Miss,
            Outcome::Detached => return TableRead::Detached,
            Outcome::Absent => TableRead::Absent,
            Outcome::Hit(hit) => {
                let bytes = hit.value_bytes as usize;
                if bytes > value.capacity() {
                    return TableRead::Miss;
                }
                // SAFETY: a hit has copied `value_bytes` bytes to the room that it asked for last,
                // which is the beginning of this vector's spare capacity; its length was 0.
                unsafe { value.set_len(bytes) };
                TableRead::Hit(Meta {
                    flags: hit.flags,
                    version: hit.version,
                    source: Source::Table,
                })
            }
        };
        // `give_back` may have put zeros under this read after the generation was checked; floors
        // and clock offset then showed 0, and what they hide would be seen. All words become zero at
        // one moment, and the fence keeps this load behind the others, so a state that still says
        // "serving" proves that they were the table's own.
        fence(Ordering::Acquire);
        if !self.reader.is_serving() {
            value.clear();
            return TableRead::Detached;
        }
        read
    }

    /// Gives the table's memory back; every read from now on, and any under way, is `Detached` or a
    /// miss.
    pub(crate) fn give_back(&self) {
        // Where the kernel cannot (no more mappings allowed), the file stays mapped until the client
        // is dropped. That costs memory and nothing else: its state no longer says "serving", or
        // another table was handed out in its place.
        let _ = self.mapping.give_back();
    }
}

/// A vector's spare capacity.
struct Spare<'a>(&'a mut Vec<u8>);

// SAFETY: the spare capacity of an empty vector, borrowed exclusively, has room for `bytes` bytes
// after `reserve`, and does not move before the next call.
unsafe impl Destination for Spare<'_> {
    #[inline]
    fn room(&mut self, bytes: usize) -> *mut u8 {
        self.0.reserve(bytes);
        self.0.as_mut_ptr()
    }
}
