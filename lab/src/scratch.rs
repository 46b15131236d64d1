//! Directories in memory, gone with the experiment.

use crate::interrupt;
use anyhow::{Context, Result};
use tempfile::TempDir;

/// The name that everything begins with that this process has in /dev/shm. The process id tells
/// whose it is that a killed run has left.
pub fn prefix() -> String {
    format!("l1d-lab.{}.", std::process::id())
}

/// An empty directory in /dev/shm, removed when dropped or interrupted.
///
/// # Errors
/// There is no room, or no such place.
pub fn directory() -> Result<TempDir> {
    let directory = tempfile::Builder::new().prefix(&prefix()).tempdir_in("/dev/shm");
    let directory = directory.context("cannot make a directory in /dev/shm")?;
    interrupt::remove_if_interrupted(directory.path());
    Ok(directory)
}
