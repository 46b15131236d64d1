//! Directories in memory that are removed with the experiment.

use crate::interrupt;
use anyhow::{Context, Result};
use tempfile::TempDir;

/// The prefix of all names of this process in /dev/shm. The process id tells which killed run left
/// a file.
pub fn prefix() -> String {
    format!("l1d-lab.{}.", std::process::id())
}

/// An empty directory in /dev/shm, removed when dropped or interrupted.
///
/// # Errors
/// /dev/shm does not exist or is full.
pub fn directory() -> Result<TempDir> {
    let directory = tempfile::Builder::new().prefix(&prefix()).tempdir_in("/dev/shm");
    let directory = directory.context("cannot make a directory in /dev/shm")?;
    interrupt::remove_if_interrupted(directory.path());
    Ok(directory)
}
