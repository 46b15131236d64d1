//! The hazard: a peer that keeps others from being served, or the daemon from serving clients.

use super::http::{Reply, connect, get, send};
use super::start;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use test_support::servers::until;

/// The server's deadline, and some time for a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(9);

#[test]
fn malformed_requests_are_refused_and_others_served() {
    let (daemon, address) = start("");
    let long = "x".repeat(100_000);
    for (request, statuses) in [
        (format!("GET / HTTP/1.1\r\nHost: {address}\r\nX: {long}\r\n\r\n"), &[431][..]),
        (format!("GET /{long} HTTP/1.1\r\nHost: {address}\r\n\r\n"), &[414, 431]),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(500)), &[431]),
        ("nonsense\r\n\r\n".to_owned(), &[400]),
        ("\0\0\0\0\r\n\r\n".to_owned(), &[400]),
        (format!("GET / HTTP/9.9\r\nHost: {address}\r\n\r\n"), &[400]),
        (format!("GET /%zz?%% HTTP/1.1\r\nHost: {address}\r\n\r\n"), &[404]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[400]),
    ] {
        let text = send(connect(address), request.as_bytes());
        // A peer that goes on sending may lose the answer.
        if !text.is_empty() {
            let status = Reply::of(&text).status;
            assert!(statuses.contains(&status), "{status} for {request:.60}");
        }
        assert_eq!(get(address, "/healthz").status, 200);
    }
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

/// Half a request, and an answer that nobody reads, end with the deadline.
#[test]
fn slow_peers_are_closed() {
    let (_daemon, address) = start("");
    let begun = Instant::now();
    let mut half = connect(address);
    half.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
    let mut drip = connect(address);
    let mut reader = connect(address);
    setsockopt(&reader, sockopt::RcvBuf, &2048).unwrap();
    reader.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).unwrap();
    // One byte now and then does not help.
    while drip.write_all(b"G").is_ok() {
        assert!(begun.elapsed() < CLOSED_WITHIN, "a request that does not end is still served");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut rest = Vec::new();
    let _ = half.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    assert!(begun.elapsed() < CLOSED_WITHIN);
}

/// Connections that do nothing take the places of one listener for a while. Others are told so
/// at once, the other listener and the cache itself go on, and the places come back.
#[test]
fn idle_connections_are_bounded() {
    let (daemon, address) = start("");
    let client = test_support::daemon::connect(&daemon);
    client.set("k", "v").unwrap();
    let idle: Vec<_> = (0..500).map(|_| connect(address)).collect();
    let begun = Instant::now();
    let reply = send(
        connect(address),
        format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes(),
    );
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    if !reply.is_empty() {
        assert_eq!(Reply::of(&reply).status, 503, "{reply}");
        assert!(reply.contains("too many connections"), "{reply}");
    }
    let socket = super::http::status_socket(&daemon);
    assert_eq!(super::http::get_at(&socket, "/healthz").status, 200);
    client.set("k", "w").unwrap();
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    assert!(open < 250, "{open} descriptors");
    until("a place", || {
        let text =
            send(connect(address), format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
        text.starts_with("HTTP/1.1 200").then_some(())
    });
    drop(idle);
}
