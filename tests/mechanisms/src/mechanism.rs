//! A mechanism, and how it is taken out.

use crate::text;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::path::Path;

/// A mechanism that promises depend on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mechanism {
    /// What it is, as in "fails without ...".
    pub(crate) without: String,
    /// The tests that fail without it, as `FILE::NAME`.
    pub(crate) tests: Vec<String>,
    pub(crate) edits: Vec<Edit>,
}

/// A change of a source file that makes the mechanism removable.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    file: String,
    /// A text that occurs once.
    find: String,
    /// What takes its place; `REMOVED` is true while the mechanism is taken out.
    with: String,
}

#[derive(Debug, Deserialize)]
struct Mechanisms {
    mechanism: Vec<Mechanism>,
}

/// Reads the mechanisms of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Mechanism>> {
    let mechanisms: Mechanisms =
        toml::from_str(&text(path)?).with_context(|| format!("in {}", path.display()))?;
    Ok(mechanisms.mechanism)
}

impl Mechanism {
    /// What takes it out, as the value of an environment variable.
    pub(crate) fn id(&self) -> String {
        self.without.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
    }

    /// Whether its code and its tests are in the tree.
    pub(crate) fn check(&self, root: &Path) -> Result<()> {
        for edit in &self.edits {
            let count = text(&root.join(&edit.file))?.matches(&edit.find).count();
            ensure!(
                count == 1,
                "{}: the text that shows where {:?} is occurs {count} times instead of once; \
                 change `find` in tests/mechanisms/mechanisms.toml:\n{}",
                edit.file,
                self.without,
                edit.find
            );
        }
        for test in &self.tests {
            let (file, name) = test.split_once("::").unwrap_or((test, ""));
            let is_there = text(&root.join(file))?.contains(&format!("fn {name}("));
            ensure!(is_there, "{file} has no test {name}");
        }
        Ok(())
    }

    /// Makes it removable in `text`, the content of `file`.
    pub(crate) fn edit(&self, file: &str, text: String) -> String {
        let path = if file.starts_with("shm-layout/") { "crate" } else { "shm_layout" };
        let removed = format!("{path}::removed::is(\"{}\")", self.id());
        self.edits.iter().filter(|edit| edit.file == file).fold(text, |text, edit| {
            text.replacen(&edit.find, &edit.with.replace("REMOVED", &removed), 1)
        })
    }
}
