//! The meaning of a figure, from the document that is made from the snapshot's fields.

const DOCUMENT: &str = include_str!("../../../docs/src/figures.md");

/// The meaning of the figure at this path of the snapshot or of the clients.
pub(super) fn meaning(path: &str) -> Option<&'static str> {
    DOCUMENT.lines().find_map(|line| {
        let (found, meaning) = line.strip_prefix("| `")?.split_once("` | ")?;
        (found == path).then(|| meaning.trim_end_matches(" |"))
    })
}
