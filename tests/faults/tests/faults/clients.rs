//! A client, killed at each fault point, beside one that goes on.

use crate::PROGRAM;
use crate::scan::sources;
use crate::watched::Watched;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use test_support::daemon::connect_to;
use test_support::random::Random;
use test_support::servers::until;

const CONFIG: &str = "[table]\nvalue_bytes_max = \"16KiB\"\n[defaults]\nttl = \"1h\"\n";
/// The latest hit at which a point is killed.
const NTH_MAX: usize = 20;
/// Requests of the other client beside each death.
const REQUESTS: u32 = 100;

/// Ended when dropped.
struct Dying(Child);

impl Drop for Dying {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(watched: &Watched, fault: &str) -> Dying {
    let mut command = Command::new(PROGRAM);
    command.arg("client").arg(watched.socket()).env("L1D_FAULT", fault);
    Dying(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

#[test]
fn a_client_killed_at_any_store_keeps_nobody_waiting_and_leaves_no_mailbox() {
    let mut random = Random::new();
    let watched = Watched::start(CONFIG);
    watched.wait_for_socket();
    let other = connect_to(&watched.socket());
    let attached = || -> u64 {
        let clients: Value = serde_json::from_str(&other.admin().clients_json().unwrap()).unwrap();
        clients["clients"].as_array().unwrap().len() as u64
    };
    let alone = attached();
    let (mut deaths, mut longest, mut slowest) = (0, Duration::ZERO, Duration::ZERO);
    let points = sources().points.into_iter().filter(|point| point.is_clients);
    for point in points {
        let later = 3 + random.below(NTH_MAX);
        for nth in [1, 2, later] {
            let fault = format!("{}:{nth}", point.name);
            let mut child = start(&watched, &fault);
            let status = until(&format!("a death at {fault}"), || child.0.try_wait().unwrap());
            assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{fault}: {status}");
            let died = Instant::now();
            for n in 0..REQUESTS {
                let begun = Instant::now();
                other.set(format!("other:{n}"), nth.to_le_bytes()).unwrap();
                slowest = slowest.max(begun.elapsed());
            }
            until("the end of the mailbox", || (attached() == alone).then_some(()));
            longest = longest.max(died.elapsed());
            deaths += 1;
        }
    }
    println!(
        "{deaths} deaths; slowest set of the other client {slowest:?}, longest until the mailbox \
         was gone {longest:?}"
    );
    let check: Value = serde_json::from_str(&other.admin().check_json().unwrap()).unwrap();
    assert_eq!(check["violation_count"], 0, "{check:#}");
    assert_eq!(watched.deaths(), 0);
}
