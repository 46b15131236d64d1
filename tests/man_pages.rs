//! The man pages in `docs/man` and the completions are what the command lines' definition says.
//! `L1D_RECORD=1 cargo test --test man_pages` writes the pages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOW_TO_WRITE: &str = "write the pages again: L1D_RECORD=1 cargo test --test man_pages";

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man")
}

/// The pages of a directory, by file name.
fn pages(directory: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

fn write_pages(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    for command in [l1d::cli::command(), l1d::ctl::command()] {
        clap_mangen::generate_to(command, directory).unwrap();
    }
    for (name, page) in pages(directory) {
        // The generator has no other heading for what follows the options.
        let page = page.replace(".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n");
        std::fs::write(directory.join(name), page).unwrap();
    }
}

/// The hazard: an option that no page tells of, or a page of a command that is gone.
#[test]
fn the_pages_are_those_of_the_command_line() {
    if std::env::var_os("L1D_RECORD").is_some() {
        std::fs::remove_dir_all(committed()).ok();
        write_pages(&committed());
    }
    let fresh = tempfile::tempdir().unwrap();
    write_pages(fresh.path());
    let (committed, fresh) = (pages(&committed()), pages(fresh.path()));
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&fresh), "{HOW_TO_WRITE}");
    for (name, page) in &fresh {
        assert!(committed[name] == *page, "docs/man/{name} is out of date; {HOW_TO_WRITE}");
        assert!(!page.contains("demo\\-worker"), "{name} tells of a command that is hidden");
    }
}

/// The hazard: pages that `man` cannot show.
#[test]
fn man_shows_the_pages_without_a_warning() {
    for page in std::fs::read_dir(committed()).unwrap() {
        let page = page.unwrap().path();
        let Ok(shown) = Command::new("man")
            .args(["--warnings", "--local-file"])
            .arg(&page)
            .env("MANWIDTH", "100")
            .env("LC_ALL", "C.UTF-8")
            .output()
        else {
            eprintln!("skipped: man is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&shown.stderr);
        // Images of Debian without manuals have a `man` that only tells so.
        if String::from_utf8_lossy(&shown.stdout).contains("minimized") {
            eprintln!("skipped: this system's man shows no pages");
            return;
        }
        assert!(shown.status.success() && said.is_empty(), "{}: {said}", page.display());
        assert!(String::from_utf8_lossy(&shown.stdout).contains("SYNOPSIS"), "{}", page.display());
    }
}

fn completions(program: &str, shell: &str) -> String {
    let made = Command::new(program).args(["completions", shell]).output().unwrap();
    assert!(made.status.success() && made.stderr.is_empty(), "{made:?}");
    String::from_utf8(made.stdout).unwrap()
}

/// The hazard: a script that the shell refuses, or that completes to something else.
#[test]
fn bash_completes_commands_and_options() {
    let (daemon, tool) = (env!("CARGO_BIN_EXE_l1d"), env!("CARGO_BIN_EXE_l1ctl"));
    for (program, name, words, expected) in [
        (daemon, "l1d", "l1d ser", "serve"),
        (daemon, "l1d", "l1d serve --table-s", "--table-size"),
        (tool, "l1ctl", "l1ctl expl", "explain"),
        (tool, "l1ctl", "l1ctl set --l1", "--l1-only"),
        (tool, "l1ctl", "l1ctl policy rel", "reload"),
    ] {
        let script = completions(program, "bash");
        let last = words.split(' ').count() - 1;
        let (before, word) = words.rsplit_once(' ').unwrap();
        let previous = before.rsplit(' ').next().unwrap();
        let ask = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD={last}\n\
             _{name} {name} '{word}' '{previous}'; echo \"${{COMPREPLY[@]}}\""
        );
        let told = Command::new("bash").args(["-c", &ask]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), expected, "{words}: {told:?}");
    }
}

/// The hazard: a shell of the list for which nothing is printed, and a command that is hidden.
#[test]
fn every_shell_of_the_list_has_completions() {
    for program in [env!("CARGO_BIN_EXE_l1d"), env!("CARGO_BIN_EXE_l1ctl")] {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = completions(program, shell);
            assert!(script.contains("completions"), "{shell}");
            assert!(!script.contains("demo-worker"), "{shell}");
        }
    }
}
