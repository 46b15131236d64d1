//! memcached behind a unix socket, in its text protocol.

use super::super::contest::Read;
use super::super::workload::{KEY_BYTES, Op, VALUE_BYTES, key, value};
use super::server::{Connection, Server};
use crate::failure::Failure;
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Sets per write.
const TOGETHER: u32 = 512;
const END: &[u8] = b"END\r\n";
const LINE: &[u8] = b"\r\n";
/// The answer to a set.
pub const STORED: &[u8] = b"STORED\r\n";

/// A connection and a request buffer.
pub struct Memcached {
    server: Server,
    request: Vec<u8>,
}

impl Memcached {
    /// A server with these keys.
    ///
    /// # Errors
    /// It is not installed, does not answer, or does not hold all keys.
    pub fn load(count: u32) -> Result<Memcached> {
        let mib = u64::from(count) * 256 / (1 << 20) + 64;
        let server = Server::start(("memcached", "memcached"), |socket, command| {
            command.arg("-s").arg(socket).args(["-m", &mib.to_string(), "-t", "2", "-M"]);
            if nix::unistd::geteuid().is_root() {
                command.args(["-u", "nobody"]);
            }
        })?;
        let mut memcached = Memcached { server, request: Vec::new() };
        let mut request = Vec::new();
        for number in 0..count {
            request.extend_from_slice(b"set ");
            request.extend_from_slice(&key(number));
            request.extend_from_slice(b" 0 0 64 noreply\r\n");
            request.extend_from_slice(&value(number));
            request.extend_from_slice(LINE);
            if (number + 1) % TOGETHER == 0 || number + 1 == count {
                memcached.server.connection.send(&request)?;
                request.clear();
            }
        }
        memcached.server.connection.send(b"stats\r\n")?;
        let answer = memcached.server.connection.receive(|answer| answer.ends_with(END))?;
        let text = String::from_utf8_lossy(answer);
        let held = text.lines().find_map(|line| line.strip_prefix("STAT curr_items "));
        if held.and_then(|held| held.trim().parse().ok()) != Some(count) {
            bail!(Failure::Tier(format!("memcached holds {held:?} of {count} keys")));
        }
        Ok(memcached)
    }

    /// Where the server listens.
    pub fn path(&self) -> PathBuf {
        self.server.socket()
    }
}

/// Asks for a key; `request` is a buffer for the request. Returns whether the value was there.
///
/// # Errors
/// The server is gone, or silent.
pub fn get(
    connection: &mut Connection,
    request: &mut Vec<u8>,
    key: &[u8; KEY_BYTES],
    value: &mut [u8; VALUE_BYTES],
) -> Result<bool> {
    request.clear();
    request.extend_from_slice(b"get ");
    request.extend_from_slice(key);
    request.extend_from_slice(LINE);
    connection.send(request)?;
    // No value of the lab ends like this: their last bytes are `v`, or those of a small number.
    let answer = connection.receive(|answer| answer.ends_with(END))?;
    let found = answer.strip_suffix(END).and_then(|rest| rest.strip_suffix(LINE));
    let Some(from) = found.and_then(<[u8]>::last_chunk) else { return Ok(false) };
    *value = *from;
    Ok(true)
}

/// Appends a set to a request.
pub fn set(request: &mut Vec<u8>, key: &[u8; KEY_BYTES], value: &[u8; VALUE_BYTES]) {
    request.extend_from_slice(b"set ");
    request.extend_from_slice(key);
    request.extend_from_slice(b" 0 0 64\r\n");
    request.extend_from_slice(value);
    request.extend_from_slice(LINE);
}

impl Read for Memcached {
    const NAME: &'static str = "memcached";
    const HANDS_OUT: &'static str = "bytes from a unix socket";
    const IS_REMOTE: bool = true;
    type Buffer = [u8; VALUE_BYTES];

    fn buffer(&self) -> [u8; VALUE_BYTES] {
        [0; VALUE_BYTES]
    }

    fn read(&mut self, op: &Op, value: &mut [u8; VALUE_BYTES]) -> bool {
        get(&mut self.server.connection, &mut self.request, &op.key, value).unwrap_or(false)
    }
}
