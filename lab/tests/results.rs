//! `l1d-lab results` through the binary: one document of real experiments, the same document again
//! from the kept results, and its messages for unreadable ones.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn results(directory: &Path, arguments: &[&str]) -> Output {
    let at = |name: &str| directory.join(name).display().to_string();
    Command::new(env!("CARGO_BIN_EXE_l1d-lab"))
        .args(["results", "--quick", "--file", &at("RESULTS.md"), "--keep", &at("keep")])
        .args(["--evidence", &at("evidence.md")])
        .args(["--instructions", concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml")])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("l1d-lab runs")
}

#[test]
fn a_document_is_made_of_what_ran_and_again_of_what_was_kept() {
    let directory = tempfile::tempdir().unwrap();
    let text = || std::fs::read_to_string(directory.path().join("RESULTS.md")).unwrap();
    std::fs::write(directory.path().join("evidence.md"), "# Why\n\n## bytes\n\nFew entries.\n")
        .unwrap();
    let output = results(directory.path(), &["--only", "bytes,copied"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let first = text();
    let row = |name: &str| {
        let found = first.lines().find(|line| line.starts_with(&format!("| {name} ")));
        found.unwrap_or_else(|| panic!("{name} in {first}")).to_owned()
    };
    // A thousand entries share an index sized for many more.
    assert!(row("bytes").contains("no, see below"), "{}", row("bytes"));
    assert!(first.contains("**bytes.** Few entries."), "{first}");
    assert!(row("dead").contains("| yes |") || row("dead").contains(" yes "), "{}", row("dead"));
    assert!(row("idle").contains("not measured"), "{}", row("idle"));
    assert!(first.contains("(results/copied.svg)") && first.contains("Not run: not run"));
    assert!(first.contains("\n| with a report of every hit "), "{first}");

    let output = results(directory.path(), &["--reuse"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text(), first);

    assert!(results(directory.path(), &["--reuse", "--partial"]).status.success());
    assert!(text().contains("| bytes ") && !text().contains("Not run: not run"), "{}", text());
    assert!(!text().contains("| idle "), "{}", text());

    std::fs::write(directory.path().join("keep/bytes.json"), "{").unwrap();
    assert!(results(directory.path(), &["--reuse"]).status.success());
    assert!(text().contains("bytes.json is no document"), "{}", text());
}

/// The daemon's program is beside the lab; this package's tests do not build it themselves.
#[test]
fn every_experiment_of_speed_has_its_table_and_its_plot() {
    let directory = tempfile::tempdir().unwrap();
    let names = ["limit", "read", "write", "visibility", "attach", "hot-key"];
    let output = results(directory.path(), &["--only", &names.join(",")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(directory.path().join("RESULTS.md")).unwrap();
    let is_of_many_cores = |name: &str| name == "write" || name == "visibility";
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for name in names.into_iter().filter(|name| cores > 1 || !is_of_many_cores(name)) {
        let failed = directory.path().join("keep").join(format!("{name}.failed"));
        assert_eq!(std::fs::read_to_string(failed).unwrap_or_default(), "", "{name}");
        assert!(text.contains(&format!("\n$ l1d-lab {name} ")), "{name} in {text}");
        assert!(text.contains(&format!("](results/{name}.svg)")), "{name} in {text}");
        let plot = directory.path().join("results").join(format!("{name}.svg"));
        let plot = std::fs::read_to_string(plot).unwrap();
        assert!(plot.matches("</text><rect ").count() > 1, "{name}: {plot}");
    }
}

#[test]
fn an_unknown_experiment_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let output = results(directory.path(), &["--only", "bytes,speed"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--only speed") && said.contains("hit-ratio"), "{said}");
}
