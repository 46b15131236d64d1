//! The messages that the documents quote, and whether a program says so.

use super::markdown::Document;
use std::path::{Path, PathBuf};
use test_support::literals::{fixed_parts, literals};

/// What the system says, and no source of l1d.
const SYSTEMS: &[&str] = &["No such file or directory", "Permission denied"];
/// Words from which on a quotation is taken for a message.
const WORDS_MIN: usize = 4;

/// Clauses of messages that a document quotes, with their lines: in quotes, or as output.
pub fn quoted(document: &Document) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut paragraph = (0, String::new());
    for (line, text) in document.prose.iter().chain([&(usize::MAX, String::new())]) {
        if text.is_empty() || text.starts_with(['|', '-', '#']) {
            let (begun, whole) = std::mem::take(&mut paragraph);
            let quotes = without_quotes_in_code(&whole);
            let quotes = quotes.split('"').skip(1).step_by(2);
            found.extend(quotes.map(|quote| (begun, quote.to_owned())));
        }
        if paragraph.1.is_empty() {
            paragraph.0 = *line;
        }
        paragraph.1.push_str(text);
        paragraph.1.push(' ');
    }
    found.retain(|(_, quote)| quote.split_whitespace().count() >= WORDS_MIN);
    for block in document.blocks.iter().filter(|block| block.language == "text") {
        for (line, text) in (block.line..).zip(block.text.lines()) {
            let said = ["l1d: ", "l1ctl: "].iter().find_map(|name| text.strip_prefix(name));
            found.extend(said.map(|said| (line, said.to_owned())));
        }
    }
    let clauses = |(line, text): (usize, String)| {
        clauses(&text).into_iter().map(move |clause| (line, clause))
    };
    found.into_iter().flat_map(clauses).collect()
}

/// What the programs and the client can say: the fixed parts of each clause.
pub struct Said(Vec<Vec<String>>);

impl Said {
    pub fn by_sources(root: &Path) -> Said {
        let mut files = Vec::new();
        for directory in ["src", "client/src", "wire/src", "shm-layout/src", "demo/src"] {
            sources(&root.join(directory), &mut files);
        }
        let texts = files.iter().flat_map(|file| literals(&std::fs::read_to_string(file).unwrap()));
        let clauses = texts.flat_map(|(_, text)| clauses(&text));
        Said(clauses.map(|clause| fixed_parts(&clause)).collect())
    }

    /// Whether somebody says this, or more.
    pub fn has(&self, clause: &str) -> bool {
        SYSTEMS.contains(&clause) || self.0.iter().any(|parts| is_said(parts, clause))
    }
}

/// The fixed parts, one after the other, make up the clause, or it is in one of them.
fn is_said(parts: &[String], clause: &str) -> bool {
    if parts.iter().any(|part| part.contains(clause)) {
        return true;
    }
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    let letters: usize = parts.iter().map(|part| part.trim().len()).sum();
    let first = first.trim_end();
    if parts.len() == 1 || letters < clause.len() / 6 || !clause.starts_with(first) {
        return false;
    }
    let mut rest = &clause[first.len()..];
    for part in parts[1..parts.len() - 1].iter().map(|part| part.trim()) {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last.trim_start())
}

fn without_quotes_in_code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(number, part)| match number % 2 {
        1 => part.replace('"', ""),
        _ => part.to_owned(),
    });
    parts.collect()
}

fn clauses(text: &str) -> Vec<String> {
    let text = text.replace('`', "");
    let clauses = text.split("; ").flat_map(|clause| clause.split(": "));
    let clauses = clauses.map(|clause| clause.trim().trim_end_matches('.').to_owned());
    clauses.filter(|clause| clause.split_whitespace().count() > 1).collect()
}

fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name {
            "tests" | "tests.rs" | "fuzzing" | "fuzzing.rs" => {}
            _ if path.is_dir() => sources(&path, files),
            _ if name.ends_with(".rs") => files.push(path),
            _ => {}
        }
    }
}
