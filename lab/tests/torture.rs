//! `l1d-lab torture` through the binary: a short run of all modes, whose seed is printed.
//!
//! The hazard: a wrong value, a crash, a leak or a lost write under kills and faults that nobody
//! thought of. `./dev torture MINUTES` is the long run.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn half_a_minute_of_kills_stops_and_faults_finds_nothing_wrong() {
    let lab = Path::new(env!("CARGO_BIN_EXE_l1d-lab"));
    let daemon = lab.with_file_name("l1d");
    assert!(daemon.exists(), "{} is missing: cargo build --bins", daemon.display());
    let seed = std::env::var("L1D_TEST_SEED").unwrap_or_else(|_| std::process::id().to_string());
    println!("seed {seed}");
    let output = Command::new(lab)
        .args(["torture", "--json", "--minutes", "0.4", "--writers", "3", "--readers", "3"])
        .args(["--seed", &seed, "--l1d", daemon.to_str().unwrap()])
        .stdin(Stdio::null())
        .output()
        .expect("l1d-lab runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stderr}\n{report}");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let parts = report["parts"].as_array().expect("parts");
    assert_eq!(parts.len(), 4, "{report}");
    // On a slow machine few of each.
    let sum = |of: &dyn Fn(&Value) -> &Value| -> u64 {
        parts.iter().map(|part| of(part).as_u64().unwrap()).sum()
    };
    assert!(sum(&|part| &part["seen"]["values"]) > 100, "{report}");
    assert!(sum(&|part| &part["seen"]["acknowledged"]) > 10, "{report}");
    assert!(sum(&|part| &part["kills"]["writers"]) > 0, "{report}");
    assert!(sum(&|part| &part["kills"]["daemon"]) > 0, "{report}");
}
