//! What an experiment says at its end: a table for people or a document for programs, and the document
//! in a file as well where that was asked for.

use anyhow::{Context, Result};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::OnceLock;

static SAVE: OnceLock<PathBuf> = OnceLock::new();

/// From now on the document goes into this file, too.
pub fn save_in(file: PathBuf) {
    let _ = SAVE.set(file);
}

/// Saves `report` where that was asked for, and prints it where JSON is wanted. Whether it did: if not,
/// the experiment prints its table.
///
/// # Errors
/// The file cannot be written.
pub fn json(is_wanted: bool, report: &impl Serialize) -> Result<bool> {
    let text = serde_json::to_string_pretty(report)?;
    if let Some(file) = SAVE.get() {
        std::fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if is_wanted {
        println!("{text}");
    }
    Ok(is_wanted)
}
