//! Client of l1d: one L1 cache for every process of a host.
//!
//! A daemon owns a hash table in shared memory. Every process maps it read-only and reads it
//! directly; what it does not hold, the daemon fetches once for the whole host from memcached and
//! Redis. A value that one process has set is what every other process reads next.
//!
//! # What it costs, and what it does not do
//!
//! - A hit costs two cache lines and a copy: no lock, no system call, no message. It is independent
//!   of the daemon, which may be stopped, killed or replaced under it.
//! - A miss and a write cost an exchange with the daemon through memory that the two share: under a
//!   microsecond while it is awake, two wakes (tens of microseconds) when it sleeps, and the tiers
//!   below it their time. Each has a deadline ([`ClientBuilder::deadline`]).
//! - Reads copy. A reference into the table would be a reference to memory that another process
//!   changes. [`read_with`](Client::read_with) looks at parts of a value instead, and a [`Memo`]
//!   keeps what values decode to, compared with the table at every use.
//! - The table forgets: a full one evicts, and every entry has an end. Nothing is lost that a tier
//!   holds, and nothing is kept that none does.
//! - A write whose answer never came is [`Error::UnknownOutcome`]: it is not sent twice.
//! - Keys whose policy says `scope = "process"` live in a small cache of this process instead, are
//!   as stale as their TTL allows, and are not seen changing by other processes.
//! - This crate starts no thread, installs no signal handler, does not panic and writes no log.
//!
//! # How it works
//!
//! [`Client::connect`] asks the daemon for its table and receives a read-only descriptor over the
//! socket. Before a byte of it is believed, its owner, mode, size and header are checked; then the
//! shape of the table is copied, so that nothing that happens to it later can lead a reader out of
//! it. A read finds its entry and copies it, and then looks whether the piece of the table was
//! recycled meanwhile; if so it tries again, and after three tries it is a miss.
//!
//! Requests go into a ring of the process's mailbox, and replies come to a lane of it. A program
//! with an event loop of its own begins them with [`request`](Client::request) and waits at a
//! descriptor; the feature `tokio` has an `AsyncClient` that does so. Bindings for other languages
//! read with [`peek_to`](Client::peek_to) into a [`Destination`] of theirs, and
//! [`fetch`](Client::fetch) what was not found without holding their interpreter's lock. The feature
//! `tracing` logs each hit at trace level, under the target `l1d_client::hit`.
//!
//! | | table | process cache | daemon and tiers | system calls |
//! |---|---|---|---|---|
//! | [`peek`](Client::peek) | 1st | 2nd | | one a second and process |
//! | [`get`](Client::get), [`lookup_many`](Client::lookup_many) | 1st | 2nd | 3rd | hit: as `peek` |
//! | [`fetch`](Client::fetch) | | | 1st | to wake a side that sleeps |
//! | [`set`](Client::set), [`delete`](Client::delete) | | last | 1st | to wake a side that sleeps |
//!
//! A word in the table's header tells when its daemon has put another table in its place (another
//! size, another release): the next read attaches again, one thread at a time and within
//! [`ClientBuilder::attach_deadline`]. A table that was lost in another way has no such mark, for
//! example one whose file was removed while no daemon ran. So once a second and process, a hit
//! checks whether the daemon has hung up; if it has, hits attach to the next daemon while they go
//! on. Without a daemon hits go on, and what has to ask is [`Error::Unavailable`] until there is
//! one again.
//!
//! One client serves a whole process, all its threads, and its forked children: a child goes on
//! reading the table and makes a mailbox, connections, locks and a process cache of its own when it
//! first needs them. (Its page table starts without the table's pages, which fault in until it
//! first asks the daemon: then the table is populated as at attach, see [`Populate`]. Sockets that
//! it inherited stay open in it, unused. A child that only hits asks within a second.)
//!
//! A program may close all its descriptors and use their numbers again, as libraries do that
//! daemonize. Each number is compared with the socket that was opened before it is used or closed,
//! and if it is another's, the client leaves it alone and attaches again. This takes two calls of
//! the system, so do not replace descriptors while another thread uses the client.
//!
//! # A whole program
//!
//! ```no_run
//! use l1d_client::{Client, Error, Lifetime, Lookup, SetOptions};
//! use std::time::Duration;
//!
//! fn main() -> Result<(), Error> {
//!     let cache = Client::connect("/run/l1d/l1d.sock")?;
//!
//!     // Every process of the host sees this as soon as `set` returns.
//!     cache.set(b"analysis:signals", b"BTC long")?;
//!     let lifetime = Lifetime::For(Duration::from_secs(5));
//!     let options = SetOptions { lifetime, ..SetOptions::default() };
//!     cache.set_with(b"market:BTC", b"64000", &options)?;
//!
//!     // In a loop: one buffer, no allocation, no system call on a hit.
//!     let mut value = Vec::new();
//!     if let Some(meta) = cache.get_into(b"market:BTC", &mut value)? {
//!         println!("{} (version {})", String::from_utf8_lossy(&value), meta.version);
//!     }
//!
//!     // A value of zero bytes, a known absence and not knowing are three answers.
//!     match cache.lookup(b"system:alerts")? {
//!         Lookup::Found(alerts) => println!("{} bytes of alerts", alerts.len()),
//!         Lookup::Absent => println!("no alerts"),
//!         Lookup::Unknown => println!("nobody knows"),
//!     }
//!     Ok(())
//! }
//! ```
#![deny(missing_docs)]

mod admin;
#[cfg(feature = "tokio")]
mod async_client;
#[cfg(feature = "tokio")]
mod async_load;
#[cfg(feature = "tokio")]
mod async_many;
#[cfg(feature = "tokio")]
mod async_operations;
mod attachment;
mod builder;
mod client;
mod clock;
mod collect;
mod connection;
mod deadline;
mod destination;
mod error;
mod failure;
#[cfg(feature = "tracing")]
mod hit_log;
mod in_place;
mod interrupt;
mod load;
mod load_requests;
mod mailbox;
mod mailbox_place;
mod many;
mod many_requests;
mod memo;
mod operation_requests;
mod operations;
mod outcome;
mod pending;
mod pool;
mod populate;
mod process;
mod process_cache;
mod reply;
mod reports;
mod requests;
mod sentinel;
mod settings;
mod shared;
mod socket;
mod table;
mod value;
mod values;
mod verify;
#[cfg(feature = "tokio")]
mod waiters;
mod writes;

pub use admin::Admin;
#[cfg(feature = "tokio")]
pub use async_client::AsyncClient;
pub use builder::ClientBuilder;
pub use client::Client;
pub use destination::Destination;
pub use error::{Cause, Error, NoRoom};
pub use in_place::ValueView;
pub use l1d_wire::pages::Pages;
pub use l1d_wire::policy::WriteMode;
pub use l1d_wire::protocol::Identity;
pub use l1d_wire::snapshot::KeyOrder;
pub use load::{LoadError, LoadOptions, LoadToken, Reservation};
pub use load_requests::{LoadWait, ReserveStep};
pub use memo::{Memo, MemoError};
pub use outcome::{Count, CounterOptions, OperationOptions, Outcome};
pub use pending::Pending;
pub use populate::Populate;
pub use value::{Deleted, Lifetime, Lookup, Meta, SetOptions, Source, Stored, Token, Value};
pub use values::Values;

#[doc = include_str!("../../README.md")]
#[cfg(doctest)]
struct Readme;

#[doc = include_str!("../../docs/src/start.md")]
#[cfg(doctest)]
struct Start;

#[doc = include_str!("../../docs/src/languages.md")]
#[cfg(doctest)]
struct Languages;
