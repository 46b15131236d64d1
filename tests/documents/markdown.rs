//! As much of Markdown as the documents use: fenced blocks, headings and links.

use std::path::{Path, PathBuf};

/// A fenced block of code.
pub struct Block {
    pub language: String,
    /// The line of its first line of text.
    pub line: usize,
    pub text: String,
}

/// A document, taken apart.
pub struct Document {
    pub path: PathBuf,
    pub blocks: Vec<Block>,
    /// Lines outside of fenced blocks, with their numbers.
    pub prose: Vec<(usize, String)>,
}

impl Document {
    pub fn read(path: &Path) -> Document {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (mut blocks, mut prose, mut open) = (Vec::new(), Vec::new(), None::<Block>);
        for (line, text) in (1..).zip(text.lines()) {
            match (&mut open, text.trim_start().strip_prefix("```")) {
                (None, Some(language)) => {
                    let language = language.split(',').next().unwrap_or_default().to_owned();
                    open = Some(Block { language, line: line + 1, text: String::new() });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => block.text.push_str(&format!("{text}\n")),
                (None, None) => prose.push((line, text.to_owned())),
            }
        }
        assert!(open.is_none(), "{}: a block of code has no end", path.display());
        Document { path: path.to_owned(), blocks, prose }
    }

    /// Where something is, for messages.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    /// The anchors of its headings, as GitHub and mdBook make them.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.prose.iter().filter(|(_, line)| line.starts_with('#'));
        let mut anchors: Vec<String> = Vec::new();
        for (_, heading) in headings {
            let anchor = anchor(heading.trim_start_matches('#').trim());
            let before = anchors.iter().filter(|other| **other == anchor).count();
            anchors.push(if before > 0 { format!("{anchor}-{before}") } else { anchor });
        }
        anchors
    }

    /// The targets of its links and images, with their lines.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        // A link may be broken into two lines.
        let mut prose = String::new();
        let mut starts = Vec::new();
        for (line, text) in &self.prose {
            starts.push((prose.len(), *line));
            prose.push_str(&without_code(text));
            prose.push('\n');
        }
        for (at, _) in prose.match_indices("](") {
            let rest = &prose[at + 2..];
            let target = rest.split(')').next().unwrap_or_default().trim();
            let line =
                starts.iter().rev().find(|(start, _)| *start <= at).map_or(0, |found| found.1);
            links.push((line, target.to_owned()));
        }
        links
    }

    /// Code within lines.
    pub fn spans(&self) -> Vec<(usize, &str)> {
        let spans = self
            .prose
            .iter()
            .flat_map(|(line, text)| text.split('`').skip(1).step_by(2).map(|span| (*line, span)));
        spans.collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("")
}
