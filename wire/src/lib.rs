//! The vocabulary that l1d's daemon and its clients share, besides the table's layout.
//!
//! | module | what |
//! |---|---|
//! | [`protocol`] | requests and responses, and their bytes |
//! | [`policy`] | the rules that hold for all keys of a prefix |
//! | [`mapping`] | mappings of table files, aligned for large pages |
//! | [`populate`] | entering a mapping into the process's page table |
//! | [`pages`] | the page sizes that a mapping got, as the kernel reports them |
//! | [`snapshot`] | what the daemon tells of itself |
//! | [`place`] | where socket and table are if nobody says so |
//! | [`words`] | errors of the system, for people |
//!
//! This crate opens no socket, starts no thread and keeps no state. Clients in other languages can
//! build on it without the Rust client.
#![deny(missing_docs)]

pub mod mapping;
pub mod pages;
pub mod place;
pub mod policy;
pub mod populate;
pub mod protocol;
pub mod snapshot;
pub mod words;
