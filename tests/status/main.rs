//! Status requests against a real daemon: what is served where, real scrapers, and hostile peers.

mod health;
mod hostile;
mod http;
mod page;
mod scrape;
mod served;

use std::net::{SocketAddr, TcpListener};
use test_support::daemon::Daemon;

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const SMALL: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n";

/// A daemon that serves status requests over TCP, too, and the address.
fn start(more: &str) -> (Daemon, SocketAddr) {
    // The port is free again when the listener is dropped. The system gives out others first, so
    // that no other test gets it before the daemon has it.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!("[status]\nlisten = \"{address}\"\n{SMALL}{more}");
    (Daemon::start(PROGRAM, &config, "16MiB"), address)
}
