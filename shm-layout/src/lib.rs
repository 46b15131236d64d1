//! The contract between l1d's daemon and the readers of its table: the meaning of every byte of the
//! shared memory, and the one protocol by which it is written and read.
//!
//! The crate never maps, allocates, logs or makes a system call. It works over a [`Memory`]: a
//! mapping in a process ([`Mapped`], [`MappedMut`]), a heap buffer in a test, or loom's atomics in
//! a model, so the models check the code that runs. It is the only crate that touches shared words.
//! `LAYOUT.md` draws every byte and gives the reasons.
//!
//! | part | module |
//! |---|---|
//! | aligned 64-bit words, the only way to touch them | [`memory`] |
//! | sizes and offsets, checked once at attach (R2) | [`geometry`] |
//! | header: two copies of the identity, the line that every read loads | [`header`] |
//! | slot word and bucket | [`slot`] |
//! | segment generations and segment headers | [`segment`] |
//! | entry header, checksum | [`entry`] |
//! | key hash, candidate buckets, tag | [`hash`] |
//! | read protocol R0-R8 | [`read`] |
//! | where a read puts a value | [`receive`] |
//! | write protocol W2-W5, W10; what the owner reads | [`mod@write`] |
//! | the memory that a client shares with the daemon (W9) | [`mailbox`] |
//! | names beside the stores, for tests that kill the process | [`fault`] |
//!
//! ```
//! # #[cfg(feature = "heap")] {
//! use shm_layout::{Entry, Geometry, HeapTable, Location, Outcome, Plan, Reader, VecDestination};
//! use shm_layout::Writer;
//!
//! let plan = Plan { table_bytes: 8 << 20, value_bytes_max: 1000, ..Plan::default() };
//! let geometry = Geometry::plan(&plan)?;
//! let heap = HeapTable::new(&geometry);
//! // SAFETY: the heap table has the bytes of this geometry and outlives writer and reader.
//! let writer = unsafe { Writer::create(heap.memory_mut(), geometry) };
//! writer.open_for_readers();
//!
//! let (key, value) = (b"market:BTC", b"64000");
//! let entry = Entry { key, value, version: 1, expiry: 9, ..Entry::default() };
//! let hash = geometry.hasher().hash(entry.key);
//! let at = Location { segment: 0, word: 0 };
//! writer.append(at, &writer.prepare(&entry)?, hash)?;
//! writer.publish(geometry.buckets(hash)[0].slot(0), hash, at);
//!
//! // SAFETY: as above.
//! let reader = unsafe { Reader::attach(heap.memory(), heap.bytes()) }?;
//! let mut value = VecDestination::default();
//! assert!(matches!(reader.read(b"market:BTC", || Some(0), &mut value), Outcome::Hit(_)));
//! assert_eq!(value.bytes(), b"64000");
//! # }
//! # Ok::<(), shm_layout::LayoutError>(())
//! ```
#![cfg_attr(not(any(test, feature = "heap", feature = "fault-points")), no_std)]
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the table's offsets are 64 bits wide: only 64-bit targets can map it");
#[cfg(not(target_endian = "little"))]
compile_error!("the table's words are little-endian");

pub mod entry;
pub mod error;
pub mod fault;
pub mod geometry;
pub mod hash;
pub mod header;
mod layout;
pub mod mailbox;
pub mod memory;
mod outcome;
pub mod read;
pub mod receive;
pub mod segment;
pub mod slot;
pub mod write;

#[cfg(feature = "heap")]
mod heap;

pub use entry::{Entry, EntryHeader, PreparedEntry};
pub use error::LayoutError;
pub use geometry::{Bucket, Geometry, Location, Plan};
pub use hash::{KeyHash, TableHasher};
#[cfg(feature = "heap")]
pub use heap::{HeapTable, VecDestination};
pub use layout::Layout;
pub use memory::{Mapped, MappedMut, Memory, MemoryMut};
pub use outcome::{Hit, NoHit, Outcome, Probe, Sighting};
pub use read::Reader;
pub use receive::{Destination, InPlace, Look, Receiver};
pub use slot::SlotWord;
pub use write::Writer;
