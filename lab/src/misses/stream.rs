//! A blocking connection with one write for each request.

use super::commands::{Reply, reply};
use crate::failure::Failure;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Timeout of a reply.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream and the bytes that were read from it but not yet used.
pub struct Stream<S> {
    stream: S,
    input: Vec<u8>,
    start: usize,
    end: usize,
}

impl Stream<TcpStream> {
    /// Connects to a tier at `host:port`.
    ///
    /// # Errors
    /// Nothing listens there.
    pub fn connect(address: &str) -> Result<Stream<TcpStream>> {
        let error = || Failure::Tier(format!("cannot connect to {address}"));
        let stream = TcpStream::connect(address).with_context(error)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Stream::over(stream))
    }

    /// The next reply.
    ///
    /// # Errors
    /// The tier has gone, or reports an error.
    pub fn reply<R>(&mut self, take: impl FnOnce(Reply<'_>) -> R) -> Result<R> {
        loop {
            let input = self.input.get(self.start..self.end).unwrap_or_default();
            if let Some((reply, bytes)) = reply(input)? {
                let taken = take(reply);
                self.start += bytes;
                return Ok(taken);
            }
            self.fill()?;
        }
    }
}

impl<S: Read + Write> Stream<S> {
    /// Wraps a connected stream.
    pub fn over(stream: S) -> Stream<S> {
        Stream { stream, input: vec![0; 1 << 16], start: 0, end: 0 }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The other side has gone.
    pub fn send(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).context("a request cannot be sent")
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// The other side has gone.
    pub fn bytes(&mut self, count: usize) -> Result<&[u8]> {
        while self.end - self.start < count {
            self.fill()?;
        }
        self.start += count;
        Ok(self.input.get(self.start - count..self.start).unwrap_or_default())
    }

    fn fill(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end * 2 > self.input.len() {
                self.input.resize(self.input.len() * 2, 0);
            }
        }
        let room = self.input.get_mut(self.end..).unwrap_or_default();
        let count = self.stream.read(room).context("no reply comes")?;
        if count == 0 {
            bail!(Failure::Tier("the other side has closed its connection".to_owned()));
        }
        self.end += count;
        Ok(())
    }
}
