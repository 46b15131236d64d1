//! All attacks once, by users of their own against the built daemon. The hazard: a process that may
//! not do something does it, a client reads a wrong value, a request fails, or the daemon ends or
//! keeps something of its attackers. Times are not judged: `./dev attacks` measures them.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

#[test]
fn no_attack_gets_anywhere() {
    let program = Path::new(env!("CARGO_BIN_EXE_l1d-attacks"));
    let daemon = program.with_file_name("l1d");
    assert!(daemon.exists(), "{} is missing: cargo build --bins", daemon.display());
    let mut command = Command::new(program);
    command.args(["--rounds", "0", "--json", "--l1d"]).arg(&daemon);
    let output = command.output().expect("l1d-attacks runs");
    let [said, told] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    if said.starts_with("NOT TESTED") {
        // Bypasses the test harness's capture.
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "{}", said.trim());
        return;
    }
    let outcomes: Vec<Value> = serde_json::from_str(&said).unwrap_or_else(|error| {
        panic!("{error}: {said}\n{told}");
    });
    let breached =
        |outcome: &&Value| outcome["breaches"].as_array().is_none_or(|all| !all.is_empty());
    let breached: Vec<&Value> = outcomes.iter().filter(breached).collect();
    assert!(breached.is_empty(), "{breached:#?}\n{told}");
    assert!(output.status.success(), "{told}");
    assert!(outcomes.len() >= 20, "{} attacks", outcomes.len());
    for outcome in &outcomes {
        let figure = |name: &str| outcome[name].as_u64().unwrap_or(0);
        assert_eq!(figure("wrong_values") + figure("failed_requests"), 0, "{outcome:#}");
        let attempts: Vec<&str> = outcome["attempts"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for left_out in attempts.iter().filter(|attempt| attempt.starts_with("NOT TESTED")) {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{left_out}");
        }
        let tried = figure("repeats") + attempts.len() as u64;
        assert!(tried > 0, "it did nothing: {outcome:#}");
    }
}
