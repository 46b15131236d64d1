//! Recorded counts, and comparing counts with them.

use anyhow::{Context, Result, ensure};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use l1d_instructions::callgrind::Count;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt::Write;
use std::path::Path;

/// A count this far above its record is a failure.
const MORE_MAX_PERCENT: f64 = 3.0;

/// The tools that counts depend on, apart from the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// In the form of `rustc --version`.
    pub rustc: String,
    /// The target's triple.
    pub target: String,
    /// Version of the C library, whose allocator and copies are included in the counts.
    pub libc: String,
}

impl Build {
    /// The tools of this program.
    pub fn this() -> Build {
        Build {
            rustc: l1d_instructions::RUSTC.to_owned(),
            target: env!("L1D_TARGET").to_owned(),
            libc: libc_version(),
        }
    }

    /// There are counts for its target.
    pub fn is_counted(&self) -> bool {
        self.target.starts_with("x86_64-")
    }
}

#[cfg(target_env = "gnu")]
fn libc_version() -> String {
    // SAFETY: returns a pointer to a string that lives as long as the program.
    let version = unsafe { CStr::from_ptr(nix::libc::gnu_get_libc_version()) };
    format!("glibc {}", version.to_string_lossy())
}

#[cfg(not(target_env = "gnu"))]
fn libc_version() -> String {
    "not glibc".to_owned()
}

/// The contents of the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    build: Build,
    instructions: BTreeMap<String, f64>,
}

/// One count beside its record.
#[derive(Debug, Serialize)]
pub struct Row {
    name: String,
    recorded: Option<f64>,
    now: f64,
    change_percent: Option<f64>,
    is_too_many: bool,
}

/// The comparison of all counts.
#[derive(Debug, Serialize)]
pub struct Comparison {
    build: Build,
    recorded_build: Build,
    /// Both have the same tools; counts from other tools say nothing about the code.
    is_compared: bool,
    more_max_percent: f64,
    rows: Vec<Row>,
    /// Recorded counts that do not exist any more.
    gone: Vec<String>,
}

impl Record {
    /// A record of these counts.
    pub fn new(build: Build, counts: &[Count]) -> Record {
        let tenths = |count: &Count| (count.instructions * 10.0).round() / 10.0;
        let instructions = counts.iter().map(|count| (count.name.clone(), tenths(count))).collect();
        Record { build, instructions }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It does not exist, or is malformed.
    pub fn read(path: &Path) -> Result<Record> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read {}; `./dev instructions --record` writes it", path.display())
        })?;
        toml::from_str(&text).with_context(|| format!("{} is no record", path.display()))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The system call failed.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = format!(
            "# Instructions of single operations, counted by callgrind in the release build.\n\
             # Written by `./dev instructions --record`; compared by `./dev instructions`.\n\n{}",
            toml::to_string(self)?
        );
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Compares new counts with this record.
    pub fn compare(&self, build: Build, counts: &[Count]) -> Comparison {
        let is_compared = build == self.build;
        let row = |count: &Count| {
            let recorded = self.instructions.get(&count.name).copied();
            let change = recorded.map(|recorded| (count.instructions / recorded - 1.0) * 100.0);
            Row {
                name: count.name.clone(),
                recorded,
                now: count.instructions,
                change_percent: change,
                is_too_many: is_compared && change.is_none_or(|change| change > MORE_MAX_PERCENT),
            }
        };
        let is_gone = |name: &&String| counts.iter().all(|count| count.name != **name);
        Comparison {
            build,
            recorded_build: self.build.clone(),
            is_compared,
            more_max_percent: MORE_MAX_PERCENT,
            rows: counts.iter().map(row).collect(),
            gone: self.instructions.keys().filter(is_gone).cloned().collect(),
        }
    }
}

impl Comparison {
    /// No count is above its record, and none is without one; always true if nothing was compared.
    pub fn holds(&self) -> bool {
        !self.is_compared || (self.gone.is_empty() && !self.rows.iter().any(|row| row.is_too_many))
    }

    /// Fails in CI if nothing was compared. There, nobody would read the message, and the check
    /// would be lost silently.
    ///
    /// # Errors
    /// Nothing was compared; the message says what to do.
    pub fn ensure_compared(&self, is_ci: bool) -> Result<()> {
        ensure!(
            self.is_compared || !is_ci,
            "nothing was compared: {}. CI is set, and a check that checks nothing fails there; \
             record again with these tools: `./dev instructions --record`",
            self.tools()
        );
        Ok(())
    }

    fn tools(&self) -> String {
        let of = |Build { rustc, target, libc }: &Build| format!("{rustc} and {libc} for {target}");
        format!("recorded with {}, counted with {}", of(&self.recorded_build), of(&self.build))
    }

    /// The table with explanations.
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(["", "recorded", "now", "change"]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for row in &self.rows {
            let mark = if row.is_too_many { " !" } else { "" };
            table.add_row([
                row.name.clone(),
                row.recorded.map_or_else(|| "-".to_owned(), |count| format!("{count:.1}")),
                format!("{:.1}", row.now),
                row.change_percent.map_or_else(
                    || format!("not recorded{mark}"),
                    |percent| format!("{percent:+.1} %{mark}"),
                ),
            ]);
        }
        let mut text = format!("Instructions, by callgrind, of {}.\n{table}", self.build.rustc);
        for name in &self.gone {
            let _ = write!(text, "\n{name}: recorded, and not counted any more");
        }
        let advice = "if it is worth it, record it with `./dev instructions --record`";
        if !self.is_compared {
            let _ = write!(
                text,
                "\nNOTHING WAS COMPARED: {}. No difference above is a failure or a success;\n\
                 `./dev instructions --record` records anew.",
                self.tools()
            );
        } else if self.holds() {
            let _ = write!(text, "\nNone is more than {MORE_MAX_PERCENT} % above its record.");
        } else {
            let _ = write!(
                text,
                "\nMarked with !: more than {MORE_MAX_PERCENT} % above its record, or without \
                 one; {advice}."
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(hit: f64, miss: f64) -> Vec<Count> {
        let count = |name: &str, instructions| Count { name: name.to_owned(), instructions };
        vec![count("hit", hit), count("miss", miss)]
    }

    #[test]
    fn three_percent_more_hold_and_four_do_not() {
        let record = Record::new(Build::this(), &counts(100.0, 50.0));
        assert!(record.compare(Build::this(), &counts(102.9, 40.0)).holds());
        let worse = record.compare(Build::this(), &counts(104.0, 50.0));
        assert!(!worse.holds());
        assert!(worse.text().contains("+4.0 % !"), "{}", worse.text());
    }

    #[test]
    fn new_and_missing_counts_are_reported() {
        let record = Record::new(Build::this(), &counts(100.0, 50.0));
        assert!(!record.compare(Build::this(), &counts(100.0, 50.0)[..1]).holds());
        let less = Record::new(Build::this(), &counts(100.0, 50.0)[..1]);
        assert!(!less.compare(Build::this(), &counts(100.0, 50.0)).holds());
    }

    #[test]
    fn another_compiler_compares_nothing_says_so_and_fails_in_ci() {
        let old = Build { rustc: "rustc 1.0.0".to_owned(), ..Build::this() };
        let record = Record::new(old, &counts(1.0, 1.0)[..1]);
        let comparison = record.compare(Build::this(), &counts(9.0, 9.0));
        assert!(comparison.holds());
        let text = comparison.text();
        assert!(text.contains("NOTHING WAS COMPARED: recorded with rustc 1.0.0"), "{text}");
        assert!(!text.contains('!'), "{text}");
        assert!(comparison.ensure_compared(false).is_ok());
        let error = comparison.ensure_compared(true).unwrap_err().to_string();
        assert!(error.contains("rustc 1.0.0") && error.contains("--record"), "{error}");
    }

    #[test]
    fn with_the_same_tools_ci_is_no_different() {
        let record = Record::new(Build::this(), &counts(100.0, 50.0));
        let worse = record.compare(Build::this(), &counts(104.0, 50.0));
        assert!(worse.ensure_compared(true).is_ok());
        assert!(!worse.holds() && !worse.text().contains("NOTHING"), "{}", worse.text());
    }

    #[test]
    fn a_record_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.toml");
        Record::new(Build::this(), &counts(100.04, 50.0)).write(&path).unwrap();
        let read = Record::read(&path).unwrap();
        assert_eq!(read.build, Build::this());
        assert_eq!(read.instructions["hit"], 100.0);
    }
}
