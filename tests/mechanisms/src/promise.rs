//! The tests of promises, and the programs that have them.

use crate::succeed;
use crate::tree::{Tree, VARIABLE};
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The target with the daemon's unit tests.
const LIBRARY: &str = "l1d";

/// A test that takes longer has failed: it waits for what does not come.
const LIMIT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

/// A test of a promise.
#[derive(Debug)]
pub(crate) struct Test {
    named: String,
    package: &'static str,
    directory: &'static str,
    /// The target of its package.
    target: String,
    /// Its name within that.
    name: String,
}

/// What a test has come to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed,
    /// With the first words that say why.
    Failed(String),
}

impl Test {
    /// The test called `FILE::NAME`.
    pub(crate) fn new(named: &str) -> Test {
        let (file, name) = named.split_once("::").unwrap_or((named, ""));
        if let Some(module) = file.strip_prefix("src/") {
            let module = module.strip_suffix(".rs").unwrap_or(module).replace('/', "::");
            let (named, target) = (named.to_owned(), LIBRARY.to_owned());
            let name = format!("{module}::{name}");
            return Test { named, package: "l1d", directory: "", target, name };
        }
        let (directory, rest) = match file.split_once("/tests/") {
            Some((directory, rest)) => (directory, rest),
            None => ("", file.strip_prefix("tests/").unwrap_or(file)),
        };
        let (package, directory) = match directory {
            "client" => ("l1d-client", "client"),
            "shm-layout" => ("shm-layout", "shm-layout"),
            "lab" => ("l1d-lab", "lab"),
            "tests/attacks" => ("l1d-attacks", "tests/attacks"),
            _ => ("l1d", ""),
        };
        let rest = rest.strip_suffix(".rs").unwrap_or(rest);
        let (target, module) = rest.split_once('/').unwrap_or((rest, "main"));
        let module = module.replace('/', "::");
        let name = match module.as_str() {
            "main" => name.to_owned(),
            module => format!("{module}::{name}"),
        };
        Test { named: named.to_owned(), package, directory, target: target.to_owned(), name }
    }

    fn is_model(&self) -> bool {
        self.target.starts_with("loom")
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named)
    }
}

/// The built test programs.
#[derive(Debug)]
pub(crate) struct Programs {
    root: PathBuf,
    /// By package and target.
    programs: BTreeMap<(String, String), PathBuf>,
}

impl Programs {
    /// Builds those that have these tests, into `place`.
    pub(crate) fn build(tree: &Tree, place: &Path, tests: &[&Test]) -> Result<Programs> {
        let root = std::path::absolute(&tree.root)?;
        let mut programs = Programs { root, programs: BTreeMap::new() };
        let (models, others): (Vec<_>, Vec<_>) = tests.iter().partition(|test| test.is_model());
        if !others.is_empty() {
            programs.build_with(&others, &mut programs.cargo(&place.join("target")))?;
        }
        if !models.is_empty() {
            let mut cargo = programs.cargo(&place.join("loom"));
            cargo.env("RUSTFLAGS", "--cfg loom").arg("--release");
            programs.build_with(&models, &mut cargo)?;
        }
        Ok(programs)
    }

    fn cargo(&self, target: &Path) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", target);
        cargo.args(["test", "--no-run", "--message-format=json-render-diagnostics"]);
        cargo
    }

    fn build_with(&mut self, tests: &[&&Test], cargo: &mut Command) -> Result<()> {
        let packages: BTreeSet<&str> = tests.iter().map(|test| test.package).collect();
        let targets: BTreeSet<&str> = tests.iter().map(|test| test.target.as_str()).collect();
        packages.iter().for_each(|package| _ = cargo.args(["-p", package]));
        for target in targets {
            match target {
                LIBRARY => cargo.arg("--lib"),
                target => cargo.args(["--test", target]),
            };
        }
        let said = String::from_utf8(succeed(cargo)?).context("cargo's messages")?;
        for line in said.lines() {
            let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let Some(program) = message["executable"].as_str() else { continue };
            // An id ends with the package's name and version: `.../client#l1d-client@0.1.0`.
            let id = message["package_id"].as_str().unwrap_or_default();
            let target = message["target"]["name"].as_str().unwrap_or_default();
            let package = tests.iter().map(|test| test.package).find(|package| {
                id.contains(&format!("#{package}@")) || id.contains(&format!("/{package}#"))
            });
            // The package at the root has its directory's name in its id.
            let key = (package.unwrap_or("l1d").to_owned(), target.to_owned());
            self.programs.insert(key, program.into());
        }
        Ok(())
    }

    /// Runs a test, without this mechanism if one is named.
    pub(crate) fn run(&self, test: &Test, without: Option<&str>) -> Result<Outcome> {
        let program = self.programs.get(&(test.package.to_owned(), test.target.clone()));
        let program = program.with_context(|| format!("cargo has built no test for {test}"))?;
        let said = tempfile(&self.root)?;
        let mut command = Command::new(program);
        command
            .args(["--exact", &test.name, "--test-threads=1"])
            .current_dir(self.root.join(test.directory))
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said.try_clone()?)
            .process_group(0);
        match without {
            Some(mechanism) => command.env(VARIABLE, mechanism),
            None => command.env_remove(VARIABLE),
        };
        let mut child = command.spawn().with_context(|| format!("starting {program:?}"))?;
        let status = wait(&mut child)?;
        let said = read_again(said)?;
        Ok(match status {
            None => Outcome::Failed(format!("not over after {} s", LIMIT.as_secs())),
            Some(true) if said.contains("1 passed") => Outcome::Passed,
            Some(_) => Outcome::Failed(reason(&said)),
        })
    }
}

/// Whether it has succeeded; `None`: it was not over in time, and was killed with all that it had
/// started.
fn wait(child: &mut Child) -> Result<Option<bool>> {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        std::thread::sleep(LOOK);
    }
    let group = Pid::from_raw(i32::try_from(child.id())?);
    killpg(group, Signal::SIGKILL).ok();
    child.wait()?;
    Ok(None)
}

/// A file without a name for what a test says: a pipe would fill.
fn tempfile(place: &Path) -> Result<std::fs::File> {
    let path = place.join(".said");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .context("a file for what a test says")?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn read_again(mut file: std::fs::File) -> Result<String> {
    use std::io::{Read, Seek};
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The line after the first panic's, or the last line.
fn reason(said: &str) -> String {
    let mut lines = said.lines();
    let panicked = lines.by_ref().find(|line| line.contains("panicked at"));
    let reason = panicked.and_then(|_| lines.next()).or_else(|| said.lines().next_back());
    reason.unwrap_or("it ended without a word").chars().take(160).collect()
}
