//! memcached behind a unix socket, spoken to in its text protocol.

use super::super::contest::Read;
use super::super::workload::{Op, VALUE_BYTES, key, value};
use super::server::Server;
use crate::failure::Failure;
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Sets in one write.
const TOGETHER: u32 = 512;
const END: &[u8] = b"END\r\n";
const LINE: &[u8] = b"\r\n";

/// A connection, and the request that is being made.
pub struct Memcached {
    server: Server,
    request: Vec<u8>,
}

impl Memcached {
    /// One with these keys.
    ///
    /// # Errors
    /// It is not installed, does not answer, or does not hold them all.
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
                memcached.server.send(&request)?;
                request.clear();
            }
        }
        memcached.server.send(b"stats\r\n")?;
        let answer = memcached.server.receive(|answer| answer.ends_with(END))?;
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

    fn get(&mut self, op: &Op, value: &mut [u8; VALUE_BYTES]) -> Result<bool> {
        self.request.clear();
        self.request.extend_from_slice(b"get ");
        self.request.extend_from_slice(&op.key);
        self.request.extend_from_slice(LINE);
        self.server.send(&self.request)?;
        // No value of this workload ends like this: they begin with a small number, `v` after it.
        let answer = self.server.receive(|answer| answer.ends_with(END))?;
        let found = answer.strip_suffix(END).and_then(|rest| rest.strip_suffix(LINE));
        let Some(from) = found.and_then(<[u8]>::last_chunk) else { return Ok(false) };
        *value = *from;
        Ok(true)
    }
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
        self.get(op, value).unwrap_or(false)
    }
}
