//! The result of an experiment: a table for people or a document for programs. The document can
//! also be saved in a file.

use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::OnceLock;

static SAVE: OnceLock<PathBuf> = OnceLock::new();

/// Makes [`json`] save the document in this file from now on.
pub fn save_in(file: PathBuf) {
    let _ = SAVE.set(file);
}

/// Saves `report` if a file was named, and prints it if JSON was asked for. Returns whether it
/// printed; if not, the experiment prints its table.
///
/// # Errors
/// The file or standard output cannot be written.
pub fn json(is_wanted: bool, report: &impl Serialize) -> Result<bool> {
    let text = serde_json::to_string_pretty(report)?;
    if let Some(file) = SAVE.get() {
        std::fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if is_wanted {
        print(text)?;
    }
    Ok(is_wanted)
}

/// Prints `text` and a line feed. Unlike `println!`, it does not panic on a closed pipe.
///
/// # Errors
/// Standard output cannot be written, for example because a disk is full.
pub fn print(text: impl Display) -> Result<()> {
    l1d::cli::print(format!("{text}\n")).context("cannot write to standard output")
}
