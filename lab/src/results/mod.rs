//! `l1d-lab results`: runs every experiment once and writes one document.
//!
//! | part | file |
//! |---|---|
//! | the experiments and their options | `experiments` |
//! | the goals, and how to check them with an experiment's document | `goals` |
//! | the text | `document` |
//! | instructions, from their record | `instructions` |
//! | bars with whiskers | `bars` |

mod bars;
mod document;
mod experiments;
mod goals;
mod instructions;

use crate::failure::Failure;
use crate::interrupt;
use crate::machine::Machine;
use anyhow::{Context, Result, bail};
use experiments::{EXPERIMENTS, Experiment, Traces};
use l1d_wire::words;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Options of `results`.
#[derive(Debug, Clone, clap::Args)]
pub struct ResultsOptions {
    /// The document; plots go into a directory beside it with the same name in lower case, without
    /// `.md`
    #[arg(long, value_name = "FILE", default_value = "lab/RESULTS.md")]
    file: PathBuf,
    /// Directory that keeps each experiment's own document and table
    #[arg(long, value_name = "DIRECTORY", default_value = "target/lab-results")]
    keep: PathBuf,
    /// Run only these experiments, separated by commas; use the kept results of the others
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Option<Vec<String>>,
    /// Leave out the experiments without results, and their goals
    #[arg(long)]
    partial: bool,
    /// Run nothing; write the document from the kept results
    #[arg(long, conflicts_with = "only")]
    reuse: bool,
    /// A few short rounds, to see that it works; the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Request traces for the experiments on hit ratios, in addition to the synthetic streams
    #[arg(long, value_name = "TRACE,...", value_delimiter = ',')]
    traces: Vec<PathBuf>,
    /// Evidence on the goals that are not reached: a section `## NAME` for each
    #[arg(long, value_name = "FILE", default_value = "lab/evidence.md")]
    evidence: PathBuf,
    /// The recorded instruction counts
    #[arg(long, value_name = "FILE", default_value = "lab/instructions.toml")]
    instructions: PathBuf,
}

/// The outcome of an experiment.
#[derive(Debug)]
pub struct Outcome {
    /// The experiment.
    experiment: &'static Experiment,
    /// Its document and its table, or the reason why there is none.
    result: Result<(Value, String), String>,
}

/// Runs `results`.
///
/// # Errors
/// A name is no experiment's, or a file cannot be written. The document reports an experiment that
/// fails.
pub fn results(options: &ResultsOptions) -> Result<()> {
    for name in options.only.iter().flatten() {
        if !EXPERIMENTS.iter().any(|experiment| experiment.name == name) {
            let names: Vec<_> = EXPERIMENTS.iter().map(|experiment| experiment.name).collect();
            bail!(Failure::Usage(format!("--only {name}: write some of {}", names.join(", "))));
        }
    }
    std::fs::create_dir_all(&options.keep)
        .with_context(|| format!("cannot make {}", options.keep.display()))?;
    let plots = options.file.with_extension("");
    let plots = plots
        .with_file_name(plots.file_name().unwrap_or_default().to_string_lossy().to_lowercase());
    std::fs::create_dir_all(&plots).with_context(|| format!("cannot make {}", plots.display()))?;
    let about = about(options)?;
    for (number, experiment) in EXPERIMENTS.iter().enumerate() {
        let is_wanted = !options.reuse
            && options.only.as_ref().is_none_or(|only| only.iter().any(|n| n == experiment.name));
        if is_wanted {
            l1d::cli::print_error(format_args!(
                "l1d-lab: {} of {}: {}",
                number + 1,
                EXPERIMENTS.len(),
                experiment.name
            ));
            if let Err(error) = run(experiment, options, &plots) {
                interrupt::hold_if_interrupted();
                let why = words::chain(error.as_ref());
                l1d::cli::print_error(format_args!("l1d-lab: {}: {why}", experiment.name));
                let told = options.keep.join(format!("{}.failed", experiment.name));
                std::fs::write(&told, why)?;
            }
        }
    }
    let mut outcomes: Vec<Outcome> =
        EXPERIMENTS.iter().map(|experiment| kept(experiment, &options.keep)).collect();
    if options.partial {
        outcomes.retain(|outcome| !matches!(&outcome.result, Err(reason) if reason == NOT_RUN));
    }
    let evidence = match std::fs::read_to_string(&options.evidence) {
        Ok(text) => sections(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot read {}", options.evidence.display()));
        }
    };
    bars::draw(&outcomes, &plots)?;
    let counts = instructions::section(&options.instructions);
    let text = document::of(&about, &outcomes, &evidence, (&plots, &counts), options.quick);
    std::fs::write(&options.file, text)
        .with_context(|| format!("cannot write {}", options.file.display()))?;
    l1d::cli::print_error(format_args!("l1d-lab: written: {}", options.file.display()));
    Ok(())
}

/// The reason why there is no result of an experiment that was never run.
const NOT_RUN: &str = "not run";

/// Runs an experiment in its own process, and keeps its output.
fn run(experiment: &Experiment, options: &ResultsOptions, plots: &Path) -> Result<()> {
    let at = |end: &str| options.keep.join(format!("{}.{end}", experiment.name));
    for end in ["json", "txt", "failed"] {
        let _ = std::fs::remove_file(at(end));
    }
    let own = std::env::current_exe().context("this program's own file cannot be found")?;
    let mut command = Command::new(own);
    interrupt::die_together(&mut command);
    command.args(experiment.arguments(options.quick)).arg("--save").arg(at("json"));
    match experiment.traces {
        Traces::None => {}
        Traces::All => {
            command.args(&options.traces);
        }
        Traces::Named(name) => {
            let is_it = |trace: &&PathBuf| trace.to_string_lossy().contains(name);
            let trace = options.traces.iter().find(is_it);
            command.arg(trace.with_context(|| format!("it wants a trace {name} (--traces)"))?);
        }
    }
    if let Some(plot) = experiment.plot {
        command.arg("--plot").arg(plots.join(plot));
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", said.lines().last().unwrap_or("it ended without a word"));
    }
    std::fs::write(at("txt"), output.stdout).context("cannot keep its table")
}

/// Reads the kept output of an experiment.
fn kept(experiment: &'static Experiment, keep: &Path) -> Outcome {
    let at = |end: &str| keep.join(format!("{}.{end}", experiment.name));
    let read = || -> Result<(Value, String), String> {
        if let Ok(reason) = std::fs::read_to_string(at("failed")) {
            return Err(reason);
        }
        let json = std::fs::read_to_string(at("json")).map_err(|_| NOT_RUN.to_owned())?;
        let json = serde_json::from_str(&json)
            .map_err(|error| format!("{} is no document: {error}", at("json").display()))?;
        let text = std::fs::read_to_string(at("txt")).map_err(|_| NOT_RUN.to_owned())?;
        Ok((json, text))
    };
    Outcome { experiment, result: read() }
}

/// The sections of a text that begin with `## NAME`.
fn sections(text: &str) -> BTreeMap<String, String> {
    let mut sections = BTreeMap::new();
    for section in text.split("\n## ").skip(usize::from(!text.starts_with("## "))) {
        let (name, rest) = section.split_once('\n').unwrap_or((section, ""));
        sections.insert(name.trim_start_matches("## ").trim().to_owned(), rest.trim().to_owned());
    }
    sections
}

/// Machine and versions of the run: kept beside the figures, so that writing the document again
/// does not change them.
fn about(options: &ResultsOptions) -> Result<String> {
    let file = options.keep.join("about.txt");
    if let Ok(text) = std::fs::read_to_string(&file)
        && (options.reuse || options.only.is_some())
    {
        return Ok(text);
    }
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok();
        let output = output.filter(|output| output.status.success());
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.unwrap_or_else(|| "unknown".to_owned())
    };
    let Machine { cpu, cores, kernel } = Machine::this()?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    // Names only, without the local directories.
    let names: Vec<_> =
        options.traces.iter().filter_map(|t| Some(t.file_name()?.to_str()?.to_owned())).collect();
    let mut list = String::new();
    for (option, names) in [("only", options.only.clone()), ("traces", Some(names))] {
        let names = names.filter(|names| !names.is_empty());
        list += &names.map_or(String::new(), |names| format!(" --{option} {}", names.join(",")));
    }
    let is_clean = said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
    let lines = [
        format!(
            "- command: `l1d-lab results{}{list}`",
            if options.quick { " --quick" } else { "" }
        ),
        format!(
            "- begun: {}, of source {}{}; what `--only` has kept is from before",
            said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            said("git", &["rev-parse", "--short", "HEAD"]),
            if is_clean { "" } else { ", with changes" }
        ),
        format!("- machine: {cpu}, {} cores, Linux {kernel}", cores.len()),
        format!("- load before: {}", load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
        format!("- compiler: {}", l1d_instructions::RUSTC),
        format!("- {}; {}", said("memcached", &["-V"]), said("redis-server", &["--version"])),
        format!("- {}", versions()),
    ];
    let text = lines.join("\n");
    std::fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(text)
}

/// Versions of the rivals that are compiled in.
fn versions() -> String {
    const RIVALS: [&str; 8] = [
        "quick_cache",
        "moka",
        "papaya",
        "dashmap",
        "heed",
        "iceoryx2",
        "mmap-sync",
        "foyer-memory",
    ];
    let lock = include_str!("../../../Cargo.lock");
    let version = |name: &&str| {
        let package = lock
            .split("[[package]]")
            .find(|package| package.lines().any(|line| line == format!("name = \"{name}\"")))?;
        let version = package.lines().find_map(|line| line.strip_prefix("version = \""))?;
        Some(format!("{name} {}", version.trim_end_matches('"')))
    };
    RIVALS.iter().filter_map(version).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_found_by_its_heading() {
        let found =
            sections("# Why\n\nIntroduction.\n\n## one\n\nThis.\n\n## two\nThat,\nand more.\n");
        assert_eq!(found["one"], "This.");
        assert_eq!(found["two"], "That,\nand more.");
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn rivals_have_versions() {
        assert_eq!(versions().split(", ").count(), 8, "{}", versions());
    }
}
