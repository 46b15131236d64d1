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

/// A text and its problems.
pub(super) struct Text<'a> {
    pub name: &'a str,
    pub text: &'a str,
    pub problems: RefCell<Vec<Problem>>,
}

impl Text<'_> {
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
        for (name, _) in self.table.into_iter().flat_map(|table| table.iter()) {
            let key: &str = name.get_ref();
            if self.known.contains(&key) {
                continue;
            }
            let given = advice.iter().find(|(unknown, _)| *unknown == key).map(|(_, text)| *text);
            let instead = given.map_or_else(|| instead_of(key, &self.known), str::to_owned);
            self.problem(name.span().start, &format!("unknown key {key:?}; {instead}"));
        }
    }
}

/// Suggests the most similar known name, or lists them all.
pub(super) fn instead_of(name: &str, known: &[&str]) -> String {
    let alike = |candidate: &&&str| strsim::jaro_winkler(name, candidate);
    match known
        .iter()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))
        .filter(|best| alike(best) > ALIKE)
    {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("known here: {}", known.join(", ")),
    }
}
