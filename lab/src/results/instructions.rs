//! Instructions of a hit, with and without reports, from the record that `./dev instructions`
//! compares with.

use crate::table::table;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A thread that reads fast reports only now and then, so most hits only count down.
const COUNTDOWN: &str = "peek_into: hit";
/// A hit, and the instructions that it adds to the first.
const HITS: [(&str, &str); 7] = [
    (COUNTDOWN, "hit, without a report: its countdown only"),
    ("peek_into: hit, all reported", "with a report of every hit"),
    ("peek_into: hit that expires", "with expiry, its clock included"),
    ("peek_into: hit in the second line", "in the second line"),
    ("peek_into: hit of 1 KiB", "of 1 KiB"),
    ("peek_into: hit, strict and with flags", "strict, with flags"),
    ("peek_into: miss", "miss"),
];

#[derive(Debug, Deserialize)]
struct Record {
    build: Build,
    instructions: BTreeMap<String, f64>,
}

#[derive(Debug, Deserialize)]
struct Build {
    rustc: String,
    target: String,
    libc: String,
}

/// The section of the document.
pub fn section(path: &Path) -> String {
    let said = match read(path) {
        Ok(record) => said(&record),
        Err(error) => format!("Not known: {error:#}"),
    };
    format!("\n## Instructions of a hit, with and without reports\n\n{said}\n")
}

fn read(path: &Path) -> Result<Record> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is no record", path.display()))
}

fn said(record: &Record) -> String {
    let Record { build, instructions } = record;
    let mut lines = table(1, ["peek_into of 64 bytes", "instructions", "more than the first"]);
    let first = instructions.get(COUNTDOWN).copied();
    for (name, text) in HITS {
        let count = instructions.get(name).copied();
        let more = count.zip(first).filter(|_| name != COUNTDOWN).map(|(one, first)| one - first);
        lines.add_row([
            text.to_owned(),
            count.map_or_else(|| "not recorded".to_owned(), |count| format!("{count:.0}")),
            more.map_or_else(|| "-".to_owned(), |more| format!("{more:+.0}")),
        ]);
    }
    let Build { rustc, target, libc } = build;
    format!(
        "Counted by callgrind in the release build and recorded in `instructions.toml` ({rustc}, \
         {libc}, {target}); more\n\
         than 3 % above it fails `./dev instructions`. A thread that reads fast reports one hit \
         in some hundred, so a hit\n\
         has the first figure; one that reads at leisure reports every hit, sixteen at a \
         time.\n\n{lines}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_stands_there_with_and_without_its_report() {
        let record = "[build]\nrustc = \"rustc 1\"\ntarget = \"t\"\nlibc = \"l\"\n[instructions]\n\
                      \"peek_into: hit\" = 260.0\n\"peek_into: hit, all reported\" = 369.8\n";
        let said = said(&toml::from_str(record).unwrap());
        let row = |text: &str| {
            let line = said.lines().find(|line| line.contains(text)).unwrap_or_default();
            line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(row("countdown only")[2..4], ["260", "-"], "{said}");
        assert_eq!(row("a report of every hit")[2..4], ["370", "+110"], "{said}");
        assert_eq!(row("with expiry")[2..4], ["not recorded", "-"], "{said}");
    }

    #[test]
    fn the_record_beside_the_lab_has_every_name() {
        let record = include_str!("../../instructions.toml");
        let record: Record = toml::from_str(record).unwrap();
        for (name, _) in HITS {
            assert!(record.instructions.contains_key(name), "{name}");
        }
    }

    #[test]
    fn a_record_that_is_not_there_is_told() {
        let said = section(Path::new("/nowhere/instructions.toml"));
        assert!(said.contains("Not known") && said.contains("/nowhere"), "{said}");
    }
}
