//! The attacks, by what they aim at.

pub mod crowds;
pub mod descriptors;
pub mod files;
pub mod floods;
pub mod keys;
pub mod mailbox;
pub mod stalls;
