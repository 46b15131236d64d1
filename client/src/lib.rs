//! Client of l1d.
#![deny(missing_docs)]

mod admin;
mod attachment;
mod builder;
mod client;
mod clock;
mod connection;
mod deadline;
mod error;
mod mapping;
pub mod policy;
mod pool;
mod process;
mod process_cache;
pub mod protocol;
mod sentinel;
mod shared;
mod table;
mod value;
mod verify;

pub use builder::ClientBuilder;
pub use client::Client;
pub use error::Error;
pub use value::{Lookup, Meta, SetOptions, Source, Stored, Value};
