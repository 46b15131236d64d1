//! The documents: what they show can be typed, what they link to is there, what they promise has a
//! test.

mod commands;
mod markdown;
mod messages;

use l1d::config::Config;
use markdown::Document;
use std::path::{Path, PathBuf};

/// How a chapter of the book, which is also a web site, links to a file outside of it.
const REPOSITORY: &str = "https://github.com/l1d/l1d/blob/main/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn markdown_in(directory: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join(directory)).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
}

fn documents() -> Vec<Document> {
    let directories =
        ["", "docs/src", "systemd", "lab", "python", "python/docs", "shm-layout", "fuzz"];
    let paths = directories.iter().flat_map(|directory| markdown_in(directory));
    paths.map(|path| Document::read(&path)).collect()
}

fn chapters() -> Vec<Document> {
    markdown_in("docs/src").iter().map(|path| Document::read(path)).collect()
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The hazard: an example that the daemon refuses.
#[test]
fn each_configuration_is_one_that_the_daemon_takes() {
    let (mut faults, mut checked) = (Vec::new(), 0);
    for document in documents() {
        for block in document.blocks.iter().filter(|block| block.language == "toml") {
            if block.text.contains("[dependencies]") {
                continue;
            }
            checked += 1;
            if let Err(error) = Config::from_str(&block.text, "l1d.toml") {
                faults.push(format!("{}: {error}", document.at(block.line)));
            }
        }
    }
    none(&faults);
    assert!(checked > 10, "{checked} configurations");
}

/// The hazard: dependency lines, or a compiler, of another version.
#[test]
fn each_dependency_is_of_this_version() {
    let lines: Vec<String> = documents()
        .iter()
        .flat_map(|document| &document.blocks)
        .filter(|block| block.language == "toml" && block.text.contains("[dependencies]"))
        .flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.starts_with("l1d-client"))
        .collect();
    assert!(!lines.is_empty());
    let version = env!("CARGO_PKG_VERSION");
    let version = format!("\"{}\"", version.rsplit_once('.').unwrap().0);
    for line in lines {
        assert!(line.contains(&version), "{line}: the version is {version}");
    }
    let rust = format!("Rust {} or later", env!("CARGO_PKG_RUST_VERSION"));
    for name in ["README.md", "docs/src/start.md", "docs/src/languages.md"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        assert!(text.contains(&rust), "{name} does not say: {rust}");
    }
}

/// The hazard: an option that was renamed, a recipe that is gone.
#[test]
fn each_command_is_one_that_the_command_line_knows() {
    let (mut faults, mut checked) = (Vec::new(), 0);
    for document in documents() {
        for block in &document.blocks {
            for words in commands::commands(&block.language, &block.text) {
                checked += 1;
                let fault = commands::fault(&words);
                faults.extend(fault.map(|fault| format!("{}: {fault}", document.at(block.line))));
            }
        }
    }
    for chapter in chapters() {
        for (line, span) in chapter.spans() {
            let is_command = ["l1d ", "l1ctl ", "./dev "].iter().any(|name| span.starts_with(name));
            if !is_command || span.contains(['[', '|', '…']) {
                continue;
            }
            checked += 1;
            for words in commands::commands("sh", span) {
                let fault = commands::fault(&words);
                faults.extend(fault.map(|fault| format!("{}: {fault}", chapter.at(line))));
            }
        }
    }
    none(&faults);
    assert!(checked > 100, "{checked} commands");
}

/// The hazard: somebody looks for the message that a program has shown, and does not find it.
#[test]
fn each_message_that_is_quoted_is_one_that_a_program_says() {
    let said = messages::Said::by_sources(root());
    let (mut faults, mut checked) = (Vec::new(), 0);
    for chapter in chapters() {
        for (line, clause) in messages::quoted(&chapter) {
            checked += 1;
            if !said.has(&clause) {
                faults.push(format!("{}: nothing says {clause:?}", chapter.at(line)));
            }
        }
    }
    none(&faults);
    assert!(checked > 10, "{checked} messages");
}

/// The hazard: a file or a heading that was renamed.
#[test]
fn each_link_leads_to_a_file_and_a_heading() {
    let mut faults = Vec::new();
    for document in documents() {
        let is_chapter = document.path.parent().is_some_and(|parent| parent.ends_with("docs/src"));
        for (line, target) in document.links() {
            let fault = wrong(&document, &target, is_chapter);
            faults.extend(fault.map(|fault| format!("{}: {target}: {fault}", document.at(line))));
        }
    }
    none(&faults);
}

fn wrong(document: &Document, target: &str, is_chapter: bool) -> Option<String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = match file.strip_prefix(REPOSITORY) {
        Some(file) => root().join(file),
        None if file.contains("://") => return None,
        None if file.is_empty() => document.path.clone(),
        None if is_chapter && file.contains("../") => {
            return Some(format!("is not in the book; link to {REPOSITORY}"));
        }
        None => document.path.parent()?.join(file),
    };
    if !path.exists() {
        return Some("no such file".to_owned());
    }
    let is_found = anchor.is_empty() || Document::read(&path).anchors().iter().any(|a| a == anchor);
    (!is_found).then(|| "no such heading".to_owned())
}

/// The hazard: a chapter that nobody finds.
#[test]
fn the_summary_lists_each_chapter_once() {
    let summary = Document::read(&root().join("docs/src/SUMMARY.md"));
    let mut listed: Vec<String> = summary.links().into_iter().map(|(_, target)| target).collect();
    listed.sort();
    let files = markdown_in("docs/src");
    let names = files.iter().filter_map(|path| path.file_name()?.to_str());
    let mut chapters: Vec<&str> = names.filter(|name| *name != "SUMMARY.md").collect();
    chapters.sort_unstable();
    assert_eq!(listed, chapters);
}

/// The hazards: a promise whose test is gone, or that nobody has seen fail.
#[test]
fn each_promise_names_a_test_and_the_mechanism_without_which_it_fails() {
    let promises = Document::read(&root().join("PROMISES.md"));
    let file = std::fs::read_to_string(root().join("tests/mechanisms/mechanisms.toml")).unwrap();
    let mechanisms: toml::Table = file.parse().unwrap();
    let mechanisms = mechanisms["mechanism"].as_array().unwrap();
    let without = |test: &str| {
        let has = |mechanism: &&toml::Value| {
            mechanism["tests"].as_array().unwrap().iter().any(|of| of.as_str() == Some(test))
        };
        mechanisms.iter().find(has).map(|mechanism| mechanism["without"].as_str().unwrap())
    };
    let (mut faults, mut checked) = (Vec::new(), 0);
    for (line, text) in &promises.prose {
        let cells: Vec<&str> =
            text.split(" | ").map(|cell| cell.trim_matches([' ', '|', '`'])).collect();
        let [_, test, fails_without] = cells[..] else { continue };
        let Some((file, name)) = test.split_once("::") else { continue };
        checked += 1;
        let source = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        if !source.contains(&format!("fn {name}(")) {
            faults.push(format!("{}: {file} has no test {name}", promises.at(*line)));
        }
        // What no test run includes is no proof; these are named in the text.
        let is_left_out = source.contains("#[ignore");
        // Kills at every place are the mechanism's absence themselves.
        let is_alone = file == "tests/neighbours.rs" || file.starts_with("tests/faults/");
        if is_left_out && !is_alone {
            faults.push(format!("{}: {file} has tests that are left out", promises.at(*line)));
        }
        if !is_alone && without(test) != Some(fails_without) {
            let is = without(test);
            faults.push(format!("{}: {test} fails without {is:?}", promises.at(*line)));
        }
    }
    none(&faults);
    assert!(checked > 40, "{checked} promises");
    for mechanism in mechanisms {
        for edit in mechanism["edits"].as_array().unwrap() {
            let [file, find] = ["file", "find"].map(|name| edit[name].as_str().unwrap());
            let count = std::fs::read_to_string(root().join(file)).unwrap().matches(find).count();
            let without = &mechanism["without"];
            assert_eq!(count, 1, "mechanisms.toml, {without}: in {file} there must be one\n{find}");
        }
    }
}
