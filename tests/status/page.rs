//! The hazard: the page that shows keys is there for somebody else, or not for a browser.

use super::http::{Reply, connect, get_at, send, status_socket};
use super::{PROGRAM, SMALL};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use test_support::daemon::Daemon;

#[test]
fn a_browser_that_was_given_the_address_sees_what_readers_see() {
    let daemon = Daemon::start(PROGRAM, SMALL, "16MiB");
    let mut child = Command::new(env!("CARGO_BIN_EXE_l1ctl"))
        .arg("--socket")
        .arg(daemon.socket())
        .arg("page")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (address, token) = line.trim().strip_prefix("http://").unwrap().split_once('/').unwrap();
    assert_eq!(token.len(), 33, "{line}");
    let socket_address: SocketAddr = address.parse().unwrap();
    let get = |path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Reply::of(&send(connect(socket_address), request.as_bytes()))
    };
    let page = get(&format!("/{token}"), address);
    assert_eq!((page.status, page.body), (200, get_at(&status_socket(&daemon), "/").body));
    assert!(page.head.contains("content-security-policy"), "{}", page.head);
    let clients = get(&format!("/{token}api/clients"), address);
    assert!(clients.json()["clients"].is_array());
    for (path, host) in [
        ("/", address),
        ("/api/clients", address),
        ("/00000000000000000000000000000000/api/clients", address),
        (format!("/{token}api/clients").as_str(), "evil.example"),
    ] {
        let reply = get(path, host);
        assert_eq!(reply.status, 403, "{path} {host}");
        assert!(reply.body.contains("l1ctl page"), "{reply:?}");
    }
    drop(daemon);
    let gone = get(&format!("/{token}"), address);
    assert_eq!((gone.status, gone.body.as_str()), (502, "the daemon does not answer: start it"));
    child.kill().unwrap();
    child.wait().unwrap();
}
