//! A copy of the source tree, in which the mechanisms can be taken out.

use crate::mechanism::Mechanism;
use crate::succeed;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the mechanism that is taken out.
pub(crate) const VARIABLE: &str = "L1D_REMOVED";

/// Tells whether a mechanism is taken out. It is added to the crate that all others use.
const REMOVED: &str = r#"//! Which mechanism is taken out.
extern crate std;
use std::string::String;

/// Whether it is this one.
pub fn is(id: &str) -> bool {
    static REMOVED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    REMOVED.get_or_init(|| std::env::var("L1D_REMOVED").ok()).as_deref() == Some(id)
}
"#;
const LIBRARY: &str = "shm-layout/src/lib.rs";

/// The copy.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
}

impl Tree {
    /// Copies the tree at `from` to `to`. Files that have not changed since the last copy keep their
    /// times, so that they are not built again.
    pub(crate) fn make(from: &Path, to: &Path, mechanisms: &[Mechanism]) -> Result<Tree> {
        let list = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
        let listed = succeed(Command::new("git").arg("-C").arg(from).args(list))?;
        let listed = String::from_utf8(listed).context("the name of a file")?;
        let files: BTreeSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
        remove_former(to, &files)?;
        for file in files {
            let Ok(mut bytes) = std::fs::read(from.join(file)) else { continue };
            if file.ends_with(".rs") {
                let mut text = String::from_utf8(bytes).with_context(|| file.to_owned())?;
                for mechanism in mechanisms {
                    text = mechanism.edit(file, text);
                }
                if file == LIBRARY {
                    text.push_str("#[doc(hidden)]\n#[allow(missing_docs)]\npub mod removed;\n");
                }
                bytes = text.into_bytes();
            }
            write(&to.join(file), &bytes)?;
        }
        write(&to.join("shm-layout/src/removed.rs"), REMOVED.as_bytes())?;
        Ok(Tree { root: to.to_owned() })
    }
}

/// Removes the files of an earlier copy that the tree has no longer.
fn remove_former(copy: &Path, files: &BTreeSet<&str>) -> Result<()> {
    let list = copy.join(".copied");
    let former = std::fs::read_to_string(&list).unwrap_or_default();
    for file in former.lines().filter(|file| !files.contains(file)) {
        std::fs::remove_file(copy.join(file)).ok();
    }
    let copied: Vec<&str> = files.iter().copied().collect();
    write(&list, copied.join("\n").as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}
