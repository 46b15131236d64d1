//! l1d

pub mod demo;
