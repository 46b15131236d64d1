//! Client of l1d.
#![deny(missing_docs)]

pub mod policy;
pub mod protocol;
