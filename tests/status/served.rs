//! The hazard: keys and clients for every local user, or a page that a web site can read.

use super::http::{Reply, connect, get, get_at, get_with, send, status_socket};
use super::{PROGRAM, SMALL, start};
use l1d_wire::snapshot::{Clients, Explanation, History, Snapshot};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use test_support::daemon::Daemon;
use test_support::servers::until;

#[test]
fn readers_see_everything_and_others_see_aggregates() {
    let (daemon, address) = start("[[policy]]\nprefix = \"a:\"\n");
    let socket = status_socket(&daemon);
    let client = test_support::daemon::connect(&daemon);
    client.set("a:\u{fc} %", "value").unwrap();
    for reply in [get(address, "/"), get_at(&socket, "/")] {
        assert_eq!(reply.status, 200);
        assert!(reply.body.contains("<html"), "{}", reply.body);
        for header in [
            "content-type: text/html; charset=utf-8",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "content-security-policy: default-src 'none'; ",
            "connection: close",
        ] {
            assert!(reply.head.contains(header), "{header} is not in {}", reply.head);
        }
        assert!(!reply.head.contains("access-control"), "{}", reply.head);
    }

    let all: Snapshot = serde_json::from_value(get_at(&socket, "/api/snapshot").json()).unwrap();
    let few: Snapshot = serde_json::from_value(get(address, "/api/snapshot").json()).unwrap();
    assert_eq!((all.requests.sets, few.requests.sets), (1, 1));
    assert!(!all.table_file.path.is_empty() && few.table_file.path.is_empty());

    let clients: Clients = serde_json::from_value(get_at(&socket, "/api/clients").json()).unwrap();
    assert!(clients.clients.iter().any(|client| client.figures.writes == 1), "{clients:?}");
    assert!(get_at(&socket, "/api/advise").json().is_object());
    for path in ["a%3A%C3%BC%20%25", "YTrDvCAl&encoding=base64"] {
        let reply = get_at(&socket, &format!("/api/explain?key={path}")).json();
        let explanation: Explanation = serde_json::from_value(reply).unwrap();
        assert_eq!(explanation.in_table.unwrap().value_bytes, 5, "{path}");
    }
    for path in ["/api/clients", "/api/advise", "/api/explain?key=a"] {
        let reply = get(address, path);
        assert_eq!(reply.status, 403, "{path}");
        assert!(reply.json()["error"].as_str().unwrap().contains("status socket"), "{reply:?}");
    }
    for (path, status) in [
        ("/api/explain", 400),
        ("/api/explain?key=%zz", 400),
        ("/api/explain?key=a&encoding=x", 400),
        ("/nope", 404),
        ("//", 404),
        ("/../etc/passwd", 404),
        ("/%2e%2e/etc/passwd", 404),
        ("/api/snapshot/", 404),
    ] {
        let reply = get_at(&socket, path);
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        assert!(reply.json()["error"].is_string());
    }
}

#[test]
fn only_a_request_for_this_host_that_reads_is_answered() {
    let (_daemon, address) = start("");
    let port = address.port();
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")]
    {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(Reply::of(&send(connect(address), request.as_bytes())).status, 200, "{host}");
    }
    for head in [
        "GET /api/snapshot HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(),
        format!("GET /api/snapshot HTTP/1.1\r\nHost: evil.example:{port}\r\n\r\n"),
        format!("GET http://evil.example:{port}/ HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nHost: evil.example\r\n\r\n"),
        "GET /api/snapshot HTTP/1.0\r\n\r\n".to_owned(),
    ] {
        let reply = Reply::of(&send(connect(address), head.as_bytes()));
        assert_eq!(reply.status, 403, "{head}: {reply:?}");
        assert!(!reply.body.contains("daemon\""), "{reply:?}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let request =
            format!("{method} / HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
        let reply = Reply::of(&send(connect(address), request.as_bytes()));
        assert_eq!(reply.status, 405, "{method}");
        assert!(reply.head.contains("allow: get, head"), "{reply:?}");
    }
    let request = format!("HEAD /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let reply = Reply::of(&send(connect(address), request.as_bytes()));
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    assert_eq!(get_with(address, "/", "Origin: http://evil.example\r\n").status, 200);
}

#[test]
fn history_is_there_before_anybody_asks() {
    let (daemon, address) = start("");
    let client = test_support::daemon::connect(&daemon);
    client.set("a", "value").unwrap();
    let told = until("two samples", || {
        let told: History = serde_json::from_value(get(address, "/api/history").json()).unwrap();
        (told.samples.len() >= 2 && told.samples.iter().any(|sample| sample.writes > 0))
            .then_some(told)
    });
    assert_eq!(told.samples.iter().map(|sample| sample.writes).sum::<u64>(), 1);
    for pair in told.samples.windows(2) {
        let passed = pair[1].at_ms.abs_diff(pair[0].at_ms);
        assert!(passed.abs_diff(pair[1].covers_ms) < 500 && passed >= 500, "{pair:?}");
    }
    assert!(told.samples.last().unwrap().live_bytes > 0);
}

#[test]
fn the_socket_is_where_and_for_whom_it_is_configured() {
    let config = |status: &str| format!("[status]\n{status}\n{SMALL}");
    let mut daemon = Daemon::start(PROGRAM, &config("socket_mode = \"0600\""), "16MiB");
    let socket = status_socket(&daemon);
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    daemon.terminate();
    assert!(!socket.exists());
    if nix::unistd::geteuid().is_root() {
        // The readers' group is that of the table.
        daemon.configure("[table]\nvalue_bytes_max = \"64KiB\"\ngroup = \"4\"\n");
        daemon.restart();
        let found = std::fs::metadata(&socket).unwrap();
        assert_eq!((found.gid(), found.mode() & 0o777), (4, 0o660));
        daemon.terminate();
    }

    let place = daemon.socket().with_file_name("elsewhere");
    daemon.configure(&config(&format!("socket = \"{}\"", place.display())));
    daemon.restart();
    assert_eq!(get_at(&place, "/healthz").status, 200);
    assert!(!socket.exists());
    // After a kill, its socket is taken over.
    daemon.kill();
    daemon.restart();
    assert_eq!(get_at(&place, "/readyz").status, 200);
    daemon.terminate();

    daemon.configure(&config("socket = \"off\""));
    daemon.restart();
    assert!(!socket.exists() && !place.exists());
    daemon.terminate();

    // What cannot be had in the default place is a warning; elsewhere it is an error.
    std::fs::create_dir(&socket).unwrap();
    daemon.configure(SMALL);
    daemon.restart();
    assert!(daemon.log().contains("no status page"), "{}", daemon.log());
    daemon.terminate();
    daemon.configure(&config(&format!("socket = \"{}\"", socket.display())));
    let output = daemon.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("[status] socket"), "{said}");
}
