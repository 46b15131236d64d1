//! Reads the keys of one section, and collects the problems.
//!
//! Without serde: derived deserializers stop at the first error, but a user wants a list of all
//! errors with their positions.

use std::cell::RefCell;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

use super::error::{Position, Problem};

/// Known names with a similarity above this are suggested for an unknown one; 1 is equality.
const ALIKE: f64 = 0.7;
/// The similarity of a name to one that ends with it, as `mode` to `socket_mode`.
const IDENTICAL_END: f64 = 1.0;

/// A text and its problems.
pub(super) struct Text<'a> {
    name: &'a str,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
    /// The title of each section that was read, without a prefix, and the keys that it can have.
    sections: RefCell<Vec<(String, Vec<&'static str>)>>,
    unknown: RefCell<Vec<Unknown>>,
}

/// A key that its section does not have.
struct Unknown {
    at: usize,
    key: String,
    /// The section, as in messages, and its place among those that were read.
    title: String,
    section: usize,
    advice: Option<String>,
}

impl<'a> Text<'a> {
    pub fn new(name: &'a str, text: &'a str) -> Text<'a> {
        let problems = RefCell::default();
        Text { name, text, problems, sections: RefCell::default(), unknown: RefCell::default() }
    }

    /// All problems, once all sections are finished.
    pub fn into_problems(self) -> Vec<Problem> {
        for unknown in self.unknown.take() {
            let Unknown { at, key, title, section, advice } = unknown;
            let instead = advice.unwrap_or_else(|| self.instead_of(&key, section));
            self.problem(at, format!("{title}: unknown key {key:?}; {instead}"));
        }
        self.problems.into_inner()
    }

    /// What may be meant by a key that this section does not have: one of its own, or the same in
    /// another section.
    fn instead_of(&self, key: &str, section: usize) -> String {
        let sections = self.sections.borrow();
        let known = sections.get(section).map_or(&[][..], |(_, known)| known.as_slice());
        let has_it =
            |(title, known): &&(String, Vec<&str>)| title.starts_with('[') && known.contains(&key);
        match (nearest(key, known), sections.iter().find(has_it)) {
            (Some((near, alike)), elsewhere) if alike >= IDENTICAL_END || elsewhere.is_none() => {
                format!("did you mean {near}?")
            }
            (_, Some((title, _))) => format!("write it under {title}"),
            _ => format!("known here: {}", known.join(", ")),
        }
    }

    /// Records a problem at this byte.
    pub fn problem(&self, at: usize, message: String) {
        let position = Some(self.position(at));
        let file = self.name.to_owned();
        self.problems.borrow_mut().push(Problem { file, position, message });
    }

    pub fn position(&self, at: usize) -> Position {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// What is wrong with a value, and a valid one in TOML syntax.
pub(super) struct Wrong {
    pub what: String,
    pub instead: String,
}

impl Wrong {
    pub fn new(what: impl Into<String>, instead: impl Into<String>) -> Wrong {
        Wrong { what: what.into(), instead: instead.into() }
    }
}

/// An error that has been recorded as a problem.
#[derive(Debug)]
pub(super) struct Reported;

/// One table of the text. A missing section has no keys.
pub(super) struct Section<'a> {
    /// For messages: `[table]`, `[[policy]] "analysis:"`.
    pub title: String,
    /// The byte where it begins.
    pub at: usize,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
    text: &'a Text<'a>,
}

impl<'a> Section<'a> {
    pub fn new(title: &str, at: usize, table: Option<&'a DeTable<'a>>, text: &'a Text<'a>) -> Self {
        Section { title: title.to_owned(), at, table, known: Vec::new(), text }
    }

    pub fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// The value of `key`, and its position. From now on the key is known.
    pub fn raw(&mut self, key: &'static str) -> Option<(&'a DeValue<'a>, Range<usize>)> {
        self.known.push(key);
        let table = self.table?;
        let (_, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((value.get_ref(), value.span()))
    }

    /// The value of `key`, parsed; `None` if the key is missing.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Reported> {
        let Some((value, span)) = self.raw(key) else { return Ok(None) };
        parse(value).map(Some).map_err(|wrong| {
            let Wrong { what, instead } = wrong;
            self.problem(span.start, &format!("{key} {what}; write for example {key} = {instead}"))
        })
    }

    /// The value of `key`, parsed; `default` if the key is missing or its value is wrong.
    pub fn read_or<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> T {
        self.read(key, parse).ok().flatten().unwrap_or(default)
    }

    /// The known keys that it has.
    pub fn given(&self) -> Vec<&'static str> {
        let has = |key: &&&str| {
            let mut entries = self.table.into_iter().flat_map(|table| table.iter());
            entries.any(|(name, _)| name.get_ref() == **key)
        };
        self.known.iter().filter(has).copied().collect()
    }

    /// The position of the first of these keys that exists, or else of the section.
    pub fn place(&self, keys: &[&str]) -> usize {
        let table = self.table.into_iter();
        let value = |key: &&str| {
            let mut entries = table.clone().flat_map(|table| table.iter());
            entries.find(|(name, _)| name.get_ref() == *key).map(|(_, value)| value.span().start)
        };
        keys.iter().find_map(value).unwrap_or(self.at)
    }

    /// Records a problem in this section.
    pub fn problem(&self, at: usize, message: &str) -> Reported {
        self.text.problem(at, format!("{}: {message}", self.title));
        Reported
    }

    /// Refuses all keys that were not read, with `advice` for some of them. Call it last.
    pub fn finish(self, advice: &[(&str, &str)]) {
        let mut sections = self.text.sections.borrow_mut();
        for (name, _) in self.table.into_iter().flat_map(|table| table.iter()) {
            let key: &str = name.get_ref();
            if self.known.contains(&key) {
                continue;
            }
            let given = advice.iter().find(|(unknown, _)| *unknown == key);
            self.text.unknown.borrow_mut().push(Unknown {
                at: name.span().start,
                key: key.to_owned(),
                title: self.title.clone(),
                section: sections.len(),
                advice: given.map(|(_, text)| (*text).to_owned()),
            });
        }
        // Without the prefix of a rule.
        let end = self.title.find("]] ").map_or(self.title.len(), |at| at + 2);
        sections.push((self.title[..end].to_owned(), self.known));
    }
}

/// The known name that is most similar, and how similar it is, if that is enough to suggest it.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<(&'k str, f64)> {
    let alike = |candidate: &str| match candidate.strip_suffix(name) {
        Some(before) if before.ends_with('_') => IDENTICAL_END,
        _ => strsim::jaro_winkler(name, candidate),
    };
    let alike = known.iter().map(|candidate| (*candidate, alike(candidate)));
    alike.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, alike)| *alike > ALIKE)
}
