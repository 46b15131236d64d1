//! `docs/src/figures.md` is made from the descriptions of the snapshot's fields. With `UPDATE=1` this
//! test writes it.

use std::collections::BTreeMap;
use std::path::Path;

const HEAD: &str = "# The figures\n\n\
    Everything that `l1ctl --json stats`, `clients`, `explain KEY` and `keys` tell, made from the \
    descriptions in\n`wire/src/snapshot/`. An explanation has the rule of the key, too, as `l1ctl --json policy` shows \
    it. `[]` stands for each element of a list. Reading the \
    figures changes nothing, so\nany number of observers may do so.\n\n";

struct Field {
    name: String,
    kind: String,
    text: String,
    is_flat: bool,
}

/// The description and the fields of each struct in the sources of the snapshot.
fn structs() -> BTreeMap<String, (String, Vec<Field>)> {
    let mut all = BTreeMap::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/snapshot");
    for file in std::fs::read_dir(sources).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let (mut text, mut is_flat, mut inside) = (String::new(), false, None);
        for line in source.lines() {
            let line = line.trim();
            if let Some(more) = line.strip_prefix("///") {
                // An empty line ends a paragraph.
                let more = if more.is_empty() { "\n\n" } else { more.trim() };
                let gap = if text.is_empty() || text.ends_with('\n') { "" } else { " " };
                text = if more == "\n\n" { text + more } else { text + gap + more };
            } else if let Some(name) = line.strip_prefix("pub struct ") {
                let name = name.trim_end_matches(" {").to_owned();
                all.insert(name.clone(), (std::mem::take(&mut text), Vec::new()));
                inside = Some(name);
            } else if line == "}" {
                inside = None;
            } else if let (Some(field), Some(name)) = (line.strip_prefix("pub "), &inside) {
                let (field, kind) = field.trim_end_matches(',').split_once(": ").unwrap();
                let text = std::mem::take(&mut text);
                assert!(!text.is_empty(), "{name}.{field} has no description");
                let field = Field { name: field.into(), kind: kind.into(), text, is_flat };
                all.get_mut(name).unwrap().1.push(field);
                is_flat = false;
            } else if line.starts_with("#[serde(flatten)]") {
                is_flat = true;
            } else if !line.starts_with("#[") {
                text.clear();
            }
        }
    }
    all
}

/// Writes a row for each figure of a struct, and adds what is to be said of whole structs.
fn rows(
    all: &BTreeMap<String, (String, Vec<Field>)>,
    (name, path): (&str, &str),
    page: &mut String,
    notes: &mut Vec<String>,
) {
    let Some((text, fields)) = all.get(name) else { panic!("no struct {name}") };
    if let Some((_, note)) = text.split_once("\n\n") {
        notes.push(format!("`{}`: {note}\n", path.trim_end_matches('.')));
    }
    for Field { name, kind, text, is_flat } in fields {
        let inner = |outer: &str| Some(kind.strip_prefix(outer)?.trim_end_matches('>').to_owned());
        let list = inner("Vec<");
        let kind = list.clone().or_else(|| inner("Option<")).unwrap_or_else(|| kind.clone());
        let path = match is_flat {
            true => path.to_owned(),
            false => format!("{path}{name}{}", if list.is_some() { "[]" } else { "" }),
        };
        if !is_flat {
            page.push_str(&format!("| `{path}` | {} |\n", text.replace('\n', " ")));
        }
        if all.contains_key(&kind) {
            let path = if *is_flat { path } else { format!("{path}.") };
            rows(all, (&kind, &path), page, notes);
        }
    }
}

#[test]
fn the_document_has_every_figure_with_its_description() {
    let all = structs();
    let mut page = HEAD.to_owned();
    for (title, name) in [
        ("`l1ctl --json stats`", "Snapshot"),
        ("`l1ctl --json clients`", "Clients"),
        ("`l1ctl --json explain KEY`", "Explanation"),
        ("`/api/history`", "History"),
        ("`l1ctl --json keys`", "Keys"),
    ] {
        page.push_str(&format!("## {title}\n\n| figure | meaning |\n|---|---|\n"));
        let mut notes = Vec::new();
        rows(&all, (name, ""), &mut page, &mut notes);
        notes.iter().for_each(|note| page.push_str(&format!("\n{note}")));
        page.push('\n');
    }
    let page = format!("{}\n", page.trim_end());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/figures.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let document = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (written, due)) in document.lines().zip(page.lines()).enumerate() {
        assert_eq!(written, due, "docs/src/figures.md:{}; UPDATE=1 writes it", line + 1);
    }
    assert!(document == page, "docs/src/figures.md is not complete; UPDATE=1 writes it");
}
