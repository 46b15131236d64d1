//! A small HTTP server on loopback, for the page and its figures.

use anyhow::{Result, anyhow};
use l1d_wire::words;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>\n",
    include_str!("page/style.css"),
    "</style>\n",
    include_str!("page/body.html"),
    "<script>\n",
    include_str!("page/page.js"),
    "</script>\n</body>\n</html>\n",
);

/// Nothing from elsewhere is part of the page.
const HEADERS: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
    Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
    script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'\r\nConnection: close\r\n";

/// Connections that are served at once; more are closed.
const CONNECTIONS_MAX: usize = 32;
/// Bytes of a request.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// The time for a request to arrive, and for each write.
const DEADLINE: Duration = Duration::from_secs(2);

/// Answers browsers, each in a thread for as long as its request takes.
pub struct Server {
    address: SocketAddr,
    figures: Arc<Mutex<Arc<str>>>,
}

impl Server {
    /// Listens on this port of 127.0.0.1, or on any if it is 0.
    ///
    /// # Errors
    /// The port is taken, or the system refuses.
    pub fn start(port: u16) -> Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
            let why = words::of(&error);
            anyhow!("cannot serve the page on 127.0.0.1:{port}: {why}; name another --page-port")
        })?;
        let address = listener.local_addr()?;
        let figures = Arc::new(Mutex::new(Arc::from("{}")));
        let shown = Arc::clone(&figures);
        let accept = move || accept(&listener, address.port(), &shown);
        thread::Builder::new().name("page".to_owned()).spawn(accept)?;
        Ok(Server { address, figures })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the figures.
    pub fn show(&self, figures: &Value) {
        let text = Arc::from(figures.to_string());
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

fn accept(listener: &TcpListener, port: u16, figures: &Arc<Mutex<Arc<str>>>) {
    let connections = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // No descriptor is left.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        let busy = Busy::new(&connections);
        if connections.load(Ordering::Relaxed) > CONNECTIONS_MAX {
            continue;
        }
        let figures = Arc::clone(figures);
        let talk = move || {
            let _busy = busy;
            // It fails if the browser has gone.
            let _ = talk(stream, port, &figures);
        };
        // Without a thread the connection is closed.
        let _ = thread::Builder::new().name("page-request".to_owned()).spawn(talk);
    }
}

/// Counts a connection while it lasts.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn new(connections: &Arc<AtomicUsize>) -> Busy {
        // Only a count: nothing is read on its strength.
        connections.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(connections))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn talk(mut stream: TcpStream, port: u16, figures: &Mutex<Arc<str>>) -> std::io::Result<()> {
    stream.set_write_timeout(Some(DEADLINE))?;
    let end = Instant::now() + DEADLINE;
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        // An error if none is left.
        stream.set_read_timeout(Some(end.saturating_duration_since(Instant::now())))?;
        let bytes = stream.read(&mut piece)?;
        request.extend_from_slice(piece.get(..bytes).unwrap_or_default());
        if bytes == 0 || request.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
    let figures = Arc::clone(&figures.lock().unwrap_or_else(PoisonError::into_inner));
    let (status, kind, body) = answer(&request, port, &figures);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{HEADERS}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// Status, content type and body.
fn answer<'a>(
    request: &[u8],
    port: u16,
    figures: &'a str,
) -> (&'static str, &'static str, &'a str) {
    const TEXT: &str = "text/plain; charset=utf-8";
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(_)) = parsed.parse(request) else {
        return ("400 Bad Request", TEXT, "this is not an HTTP request\n");
    };
    // A web site whose name leads to 127.0.0.1 has its own name here.
    let host = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case("host"));
    let own = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    if !host.is_some_and(|host| own.iter().any(|own| own.as_bytes() == host.value)) {
        let why = "the Host header does not name this port of 127.0.0.1: open the address that the \
                   demo has printed\n";
        return ("403 Forbidden", TEXT, why);
    }
    match (parsed.method, parsed.path) {
        (Some("GET"), Some("/")) => ("200 OK", "text/html; charset=utf-8", PAGE),
        (Some("GET"), Some("/api/demo")) => ("200 OK", "application/json", figures),
        (Some("GET"), _) => ("404 Not Found", TEXT, "nothing is here; the page is /\n"),
        _ => ("405 Method Not Allowed", TEXT, "this server answers GET only\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_the_page_is_answered() {
        let status = |request: &str| answer(request.as_bytes(), 80, "{}").0;
        for (request, wanted) in [
            ("GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n", "200 OK"),
            ("GET /api/demo HTTP/1.1\r\nhost: localhost:80\r\n\r\n", "200 OK"),
            ("GET /x HTTP/1.1\r\nHost: localhost:80\r\n\r\n", "404 Not Found"),
            ("POST / HTTP/1.1\r\nHost: localhost:80\r\n\r\n", "405 Method Not Allowed"),
            ("GET / HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", "403 Forbidden"),
            ("GET / HTTP/1.1\r\n\r\n", "403 Forbidden"),
            ("nonsense\r\n\r\n", "400 Bad Request"),
        ] {
            assert_eq!(status(request), wanted, "{request}");
        }
    }

    #[test]
    fn a_browser_gets_the_latest_figures_and_a_port_is_taken_once() {
        let server = Server::start(0).unwrap();
        server.show(&serde_json::json!({ "elapsed_ms": 7 }));
        let ask = |path: &str| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        assert!(ask("/api/demo").ends_with("\r\n\r\n{\"elapsed_ms\":7}"));
        assert!(ask("/").ends_with("</html>\n"));
        let error = Server::start(server.address().port()).err().unwrap();
        assert!(format!("{error:#}").contains("name another --page-port"), "{error:#}");
    }
}
