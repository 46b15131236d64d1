//! A client end of a connection, for honest and hostile requests.

use super::{Daemon, NEVER, Origin};
use l1d_wire::protocol::{ErrorCode, PROTOCOL_VERSION, Request, Response, frame};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

pub struct Peer {
    pub stream: UnixStream,
}

impl Peer {
    pub fn connect(daemon: &Daemon) -> Peer {
        Peer::over(UnixStream::connect(daemon.socket()).unwrap())
    }

    pub fn over(stream: UnixStream) -> Peer {
        stream.set_read_timeout(Some(NEVER)).unwrap();
        stream.set_write_timeout(Some(NEVER)).unwrap();
        Peer { stream }
    }

    pub fn attached(daemon: &Daemon) -> Peer {
        let mut peer = Peer::connect(daemon);
        peer.attach();
        peer
    }

    pub fn attach(&mut self) {
        self.send(&Request::Attach { protocol: PROTOCOL_VERSION, mailbox: false });
        let payload = self.payload().expect("an answer to an attach");
        let response = Response::decode(&payload).unwrap();
        assert!(matches!(response, Response::Attached(_)), "{response:?}");
    }

    pub fn send(&mut self, request: &Request<'_>) {
        self.send_bytes(&bytes(request));
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame's payload; `None`: the daemon has closed the connection.
    pub fn payload(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; frame::HEADER_BYTES];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            // The daemon closed with requests unread.
            Err(error) if is_end(error.kind()) => return None,
            Err(error) => panic!("neither an answer nor the end: {error}"),
        }
        let mut payload = vec![0; u32::from_le_bytes(header) as usize];
        self.stream.read_exact(&mut payload).unwrap();
        Some(payload)
    }

    /// The value that the daemon sends next.
    pub fn value(&mut self) -> Vec<u8> {
        let payload = self.payload().expect("a value");
        match Response::decode(&payload).unwrap() {
            Response::Found { value, .. } => value.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    pub fn get(&mut self, key: &[u8]) -> Vec<u8> {
        self.send(&Request::Get { key });
        self.value()
    }

    pub fn assert_is_served(&mut self) {
        assert_eq!(self.get(b"served"), b"served");
    }

    /// The daemon sends the reason, and closes.
    pub fn assert_is_refused(&mut self, code: ErrorCode, why: &str) {
        let payload = self.payload().expect("a reason");
        match Response::decode(&payload).unwrap() {
            Response::Error { code: told, message } => {
                assert_eq!(told, code, "{message}");
                assert!(message.contains(why), "{message}");
            }
            other => panic!("{other:?}"),
        }
        self.assert_is_closed();
    }

    /// The daemon closes without sending anything.
    pub fn assert_is_closed(&mut self) {
        assert_eq!(self.payload(), None);
    }

    /// Reads until the daemon closes. Returns the number of bytes.
    pub fn drain(&mut self) -> usize {
        let mut scratch = vec![0; 64 << 10];
        let mut drained = 0;
        loop {
            match self.stream.read(&mut scratch) {
                Ok(0) => return drained,
                Ok(count) => drained += count,
                Err(error) if is_end(error.kind()) => return drained,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The daemon's view of this connection.
    pub fn known(&mut self) -> Value {
        self.send(&Request::Stats);
        let payload = self.payload().expect("what is known");
        match Response::decode(&payload).unwrap() {
            Response::Json(text) => serde_json::from_str(text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub fn origin(&mut self) -> Origin {
        Origin(self.known()["origin"].as_u64().unwrap())
    }
}

/// One request as one frame.
pub fn bytes(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(&mut bytes).unwrap();
    bytes
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
