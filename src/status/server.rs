//! The server: accepts connections, and serves one request on each.
//!
//! Everything is bounded: connections, the bytes of a request's head, and the time that a
//! connection takes. With one request for each connection, one deadline covers a request that does
//! not end, an answer that is not read, and a connection that does nothing.

use super::audience::Audience;
use super::routes::Routes;
use super::stream::Stream;
use crate::access::identity_of;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use l1d_client::Identity;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Connections of one listener that are served at once.
const CONNECTIONS_MAX: usize = 64;
/// Connections of one listener that are told that there are too many; more are just closed.
const REFUSALS_MAX: usize = 64;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// The time for a request, its answer, and the reading of that.
const DEADLINE: Duration = Duration::from_secs(5);
/// The time for a refusal to be read.
const REFUSAL_DEADLINE: Duration = Duration::from_millis(200);
/// How long accepting pauses when the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
    Retry-After: 1\r\nConnection: close\r\nContent-Length: 57\r\n\r\n\
    {\"error\": \"too many connections; try again in a moment\"}\n";

/// Something to accept connections from.
pub(super) trait Listener {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    async fn accept(&self) -> io::Result<Self::Stream>;

    /// The process at the other end, if the system tells.
    fn peer(_: &Self::Stream) -> Option<Identity> {
        None
    }
}

impl Listener for UnixListener {
    type Stream = tokio::net::UnixStream;
    async fn accept(&self) -> io::Result<Self::Stream> {
        UnixListener::accept(self).await.map(|(stream, _)| stream)
    }

    fn peer(stream: &Self::Stream) -> Option<Identity> {
        let peer = stream.peer_cred().ok()?;
        Some(identity_of(stream, (peer.uid(), peer.gid()), true))
    }
}

impl Listener for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn accept(&self) -> io::Result<Self::Stream> {
        TcpListener::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Serves without end.
pub(super) async fn serve<L: Listener>(listener: L, audience: Audience, routes: Arc<Routes>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    loop {
        let Ok(stream) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
            let routes = Arc::clone(&routes);
            tokio::spawn(async move {
                let asker = L::peer(&stream);
                let _ = timeout(DEADLINE, talk(stream, (audience, asker.as_ref()), &routes)).await;
                drop(permit);
            });
        } else if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
            tokio::spawn(async move {
                let _ = timeout(REFUSAL_DEADLINE, refuse(stream)).await;
                drop(permit);
            });
        }
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    (audience, asker): (Audience, Option<&Identity>),
    routes: &Routes,
) {
    let answer = service_fn(|request| async move {
        Ok::<_, Infallible>(routes.answer(&request, audience, asker).await)
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    // The deadline of the whole is enough.
    server.header_read_timeout(None);
    // It fails if the peer has gone or its request is malformed, which the peer was told.
    let _ = server.serve_connection(Stream(stream), answer).await;
}

/// Tells a peer that there are too many connections. What it has sent is read, because closing a
/// connection with unread bytes would take the answer away.
async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.write_all(TOO_MANY).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    let mut bytes = [0; 1024];
    while let Ok(1..) = stream.read(&mut bytes).await {}
}
