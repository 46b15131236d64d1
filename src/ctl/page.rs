//! `page`: shows the status page of the readers' socket in a browser, which cannot open a socket.
//!
//! Whatever connects to a port of this host could be any local user, or a web site. So the address
//! has a random part, without which nothing is passed on; it is part of the path and not a cookie,
//! because a browser would send that to the servers of others on this host as well.

use super::Failure;
use crate::cli::print;
use l1d_wire::place;
use l1d_wire::words;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Connections at once.
const CONNECTIONS_MAX: usize = 32;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Bytes of the random part.
const TOKEN_BYTES: usize = 16;
/// The time for a request to come.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// The time for the daemon to answer, and for each piece of the answer to be read.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Where requests come in, and where they go.
struct Door {
    token: String,
    port: u16,
    socket: PathBuf,
}

/// Serves until the process ends.
pub(super) fn serve(
    control: Option<&Path>,
    status: Option<&Path>,
    port: u16,
) -> Result<ExitCode, Failure> {
    let control = control.map_or_else(|| place::socket_to_ask().path, Path::to_owned);
    let socket = status.map_or_else(|| place::status_socket(&control), Path::to_owned);
    UnixStream::connect(&socket).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "join the socket's group, or set socket_mode of [status] in the daemon's \
                 configuration"
            }
            _ => "start the daemon, or name its [status] socket with --status-socket",
        };
        let why = words::of(&error);
        Failure::Usage(format!("cannot connect to {}: {why}; {advice}", socket.display()))
    })?;
    let failed = |error: io::Error| {
        let (why, advice) = (words::of(&error), "give another --port, or none");
        Failure::Usage(format!("cannot listen on 127.0.0.1:{port}: {why}; {advice}"))
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let door = Arc::new(Door { token: token()?, port, socket });
    print(format!(
        "http://127.0.0.1:{port}/{}/\nOpen this address in a browser of this host. It shows keys \
         and clients to whoever knows it, until you press Ctrl-C.\n",
        door.token
    ))?;
    // A clone for each connection under way.
    let connections = Arc::new(());
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        if Arc::strong_count(&connections) > CONNECTIONS_MAX {
            continue;
        }
        let (door, connection) = (Arc::clone(&door), Arc::clone(&connections));
        // Where no thread can be started, the connection is closed, and the browser tries again.
        let _ = thread::Builder::new().spawn(move || {
            // It fails if the browser has gone.
            let _ = door.pass(stream);
            drop(connection);
        });
    }
    Ok(ExitCode::SUCCESS)
}

fn token() -> Result<String, Failure> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|errno| {
        let why = words::of(&errno.into());
        Failure::Usage(format!(
            "the system gives no random bytes for the address: {why}; try again"
        ))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Door {
    /// Passes one request on, if it has the token and names this host, and its answer back.
    fn pass(&self, mut browser: TcpStream) -> io::Result<()> {
        let head = head(&mut browser)?;
        browser.set_write_timeout(Some(ANSWER_DEADLINE))?;
        let Some((method, path)) = self.wanted(&head) else {
            let advice = "this address is not known here: open the one that \"l1ctl page\" printed";
            return refuse(&mut browser, "403 Forbidden", advice);
        };
        let Ok(mut daemon) = UnixStream::connect(&self.socket) else {
            return refuse(&mut browser, "502 Bad Gateway", "the daemon does not answer: start it");
        };
        daemon.set_read_timeout(Some(ANSWER_DEADLINE))?;
        daemon.write_all(
            format!("{method} {path} HTTP/1.1\r\nHost: l1d\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )?;
        io::copy(&mut daemon, &mut browser).map(drop)
    }

    /// The method and the path, without the token, of a request that may be passed on.
    fn wanted<'a>(&self, head: &'a str) -> Option<(&'a str, &'a str)> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let host_of = |line: &'a str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then(|| value.trim())
        };
        let mut hosts = lines.filter_map(host_of);
        let own = format!("127.0.0.1:{}", self.port);
        let names_this = hosts.next() == Some(own.as_str()) && hosts.next().is_none();
        let (token, _) = target.strip_prefix('/')?.split_once('/')?;
        let path = &target[1 + token.len()..];
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        let may_pass = names_this && is_equal(token, &self.token) && is_plain;
        (may_pass && ["GET", "HEAD"].contains(&method)).then_some((method, path))
    }
}

fn refuse(browser: &mut TcpStream, status: &str, why: &str) -> io::Result<()> {
    let kind = "Content-Type: text/plain\r\nX-Content-Type-Options: nosniff";
    let length = why.len();
    let reply = format!(
        "HTTP/1.1 {status}\r\n{kind}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{why}"
    );
    browser.write_all(reply.as_bytes())
}

/// Compares without telling by its time how much is right.
fn is_equal(a: &str, b: &str) -> bool {
    let differences = a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && differences == 0
}

/// A request up to the empty line.
fn head(browser: &mut TcpStream) -> io::Result<String> {
    let ends = Instant::now() + REQUEST_DEADLINE;
    let mut head = Vec::new();
    let mut piece = [0; 2048];
    while !head.ends_with(b"\r\n\r\n") {
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
        browser.set_read_timeout(Some(left))?;
        match browser.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => head.extend_from_slice(&piece[..bytes]),
        }
    }
    String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hazard: a web site or another local user who sees keys.
    #[test]
    fn only_whoever_knows_the_address_is_let_in() {
        let door = Door { token: "5eC".into(), port: 8080, socket: PathBuf::new() };
        let wanted = |line: &str, host: &str| {
            door.wanted(&format!("{line}\r\n{host}\r\n\r\n")).map(|(_, path)| path.to_owned())
        };
        let host = "Host: 127.0.0.1:8080";
        for (target, path) in
            [("/5eC/", "/"), ("/5eC/api/explain?key=a%20", "/api/explain?key=a%20")]
        {
            assert_eq!(wanted(&format!("GET {target} HTTP/1.1"), host).as_deref(), Some(path));
        }
        for line in [
            "GET / HTTP/1.1",
            "GET /5eC HTTP/1.1",
            "GET /5eD/ HTTP/1.1",
            "GET /5eCC/ HTTP/1.1",
            "GET //5eC/ HTTP/1.1",
            "GET /api/snapshot HTTP/1.1",
            "POST /5eC/ HTTP/1.1",
            "GET /5eC/a\tb HTTP/1.1",
            "GET http://127.0.0.1:8080/5eC/ HTTP/1.1",
            "GET",
            "",
        ] {
            assert_eq!(wanted(line, host), None, "{line}");
        }
        for host in
            ["", "Host: evil.example", "Host: evil.example:8080", "Host: 127.0.0.1:8080\r\nHost: x"]
        {
            assert_eq!(wanted("GET /5eC/ HTTP/1.1", host), None, "{host}");
        }
    }
}
