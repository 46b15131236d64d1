//! The level below a process's own L1: the daemon, asked over its socket for every miss. It never
//! reads the table, because these processes stand for services without l1d.

use anyhow::{Context, Result, bail};
use l1d_wire::protocol::{ErrorCode, PROTOCOL_VERSION, Request, Response, Set, frame};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(2);

/// Far more than any answer in the demo.
const REPLY_BYTES_MAX: usize = 4 << 20;

/// One connection, reopened after any fault.
pub struct Below {
    socket: PathBuf,
    stream: Option<UnixStream>,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Below {
    pub fn new(socket: &Path) -> Below {
        let socket = socket.to_owned();
        Below { socket, stream: None, request: Vec::new(), reply: Vec::new() }
    }

    /// Reads into `value`, replacing its content. Returns whether there is a value.
    pub fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        value.clear();
        self.exchange(&Request::Get { key }, |response| match response {
            Response::Found { value: found, .. } => {
                value.extend_from_slice(found);
                Ok(true)
            }
            Response::Absent { .. } | Response::Unknown => Ok(false),
            other => Err(unexpected(&other)),
        })
    }

    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let set = Set { key, value, ttl: None, flags: 0, write: None, reply: true };
        self.exchange(&Request::Set(set), |response| match response {
            Response::Stored { .. } => Ok(()),
            other => Err(unexpected(&other)),
        })
    }

    fn exchange<T>(
        &mut self,
        request: &Request<'_>,
        take: impl FnOnce(Response<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open()?,
        };
        self.ask(&mut stream, request)?;
        let response = Response::decode(&self.reply)?;
        // The answer was complete, so the connection is in step, whatever the answer says.
        self.stream = Some(stream);
        take(response)
    }

    fn open(&mut self) -> Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("cannot connect to {}", self.socket.display()))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        // The reply carries the table's descriptor. A plain read takes only bytes, and the kernel
        // drops the descriptor.
        self.ask(&mut stream, &Request::Attach { protocol: PROTOCOL_VERSION, mailbox: false })?;
        match Response::decode(&self.reply)? {
            Response::Attached(_) => Ok(stream),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a request and receives its answer into `self.reply`.
    fn ask(&mut self, stream: &mut UnixStream, request: &Request<'_>) -> Result<()> {
        self.request.clear();
        request.encode(&mut self.request)?;
        stream.write_all(&self.request).context("cannot send a request to the demo's daemon")?;
        let mut header = [0; frame::HEADER_BYTES];
        stream.read_exact(&mut header).context("the demo's daemon does not answer")?;
        let bytes = usize::try_from(u32::from_le_bytes(header))?;
        if bytes > REPLY_BYTES_MAX {
            bail!("the demo's daemon announced an answer of {bytes} bytes, which is too much");
        }
        self.reply.resize(bytes, 0);
        stream.read_exact(&mut self.reply).context("the answer of the demo's daemon was cut off")
    }
}

fn unexpected(response: &Response<'_>) -> anyhow::Error {
    match response {
        Response::Error { code: ErrorCode::TierFailed, message } => {
            super::TierFailed(format!("the daemon says: {message}")).into()
        }
        Response::Error { message, .. } => anyhow::anyhow!("the daemon says: {message}"),
        _ => anyhow::anyhow!("the demo's daemon answered what was not asked"),
    }
}
