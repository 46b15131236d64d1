//! The systemd journal: whether standard error leads there, and events in its own protocol, so that
//! `journalctl -p warning` and `journalctl L1D_TIER=L3` find them.

use nix::sys::stat::fstat;
use std::fmt::{Debug, Write as _};
use std::io::{self, Write, stderr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::layer::{Context, Layer};

/// Where the journal takes events.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Another place, for tests and containers.
const SOCKET_VARIABLE: &str = "L1D_JOURNAL_SOCKET";
/// Set by systemd: device and inode of what it has connected standard error to.
const STREAM_VARIABLE: &str = "JOURNAL_STREAM";
/// Longest text of an event; the journal takes datagrams of some 200 KiB.
const MESSAGE_BYTES_MAX: usize = 32 << 10;

/// Whether standard error is the journal's. Somebody who has redirected it wants it elsewhere.
pub(super) fn has_stderr() -> bool {
    let Some(stream) = std::env::var(STREAM_VARIABLE).ok() else { return false };
    let Some((device, inode)) = stream.split_once(':') else { return false };
    fstat(stderr())
        .is_ok_and(|found| (device.parse(), inode.parse()) == (Ok(found.st_dev), Ok(found.st_ino)))
}

/// The priority of a level, as syslog numbers them.
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// A socket to the journal, which takes one event per call of `write`.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// Connects to the journal, if there is one.
    pub(super) fn connect() -> io::Result<Journal> {
        let named = std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
        let path = named.map_or_else(|| SOCKET.into(), PathBuf::from);
        Ok(Journal { socket: connected(&path)?, path })
    }
}

impl Write for Journal {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match self.socket.send(event) {
            // It was started again.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                self.socket = connected(&self.path)?;
                self.socket.send(event)
            }
            sent => sent,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn connected(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // The writer polls, so that it ends when the process does.
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

/// Sends events to a queue in the journal's protocol.
pub(super) struct JournalLayer {
    pub(super) queue: NonBlocking,
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let meta = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { mut message, shown, mut encoded } = fields;
        message.push_str(&shown);
        append(&mut encoded, "L1D_TARGET", meta.target());
        let encoded = encode(*meta.level(), &message, &encoded);
        // In one call: each call is an element of the queue. It cannot fail.
        let _ = self.queue.clone().write_all(&encoded);
    }
}

/// An event in the journal's protocol; `more` are encoded fields.
pub(super) fn encode(level: Level, message: &str, more: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    append(&mut encoded, "PRIORITY", &priority(level).to_string());
    append(&mut encoded, "SYSLOG_IDENTIFIER", "l1d");
    let mut ends = (0..=message.len().min(MESSAGE_BYTES_MAX)).rev();
    let end = ends.find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    append(&mut encoded, "MESSAGE", &message[..end]);
    if more.len() <= MESSAGE_BYTES_MAX {
        encoded.extend_from_slice(more);
    }
    encoded
}

/// A field's text may have several lines, which the protocol delimits by their length.
fn append(encoded: &mut Vec<u8>, name: &str, value: &str) {
    encoded.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        encoded.push(b'\n');
        encoded.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        encoded.push(b'=');
    }
    encoded.extend_from_slice(value.as_bytes());
    encoded.push(b'\n');
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    /// The others as people read them, after the message.
    shown: String,
    /// The others in the journal's protocol.
    encoded: Vec<u8>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        if field.name() == "message" {
            self.message = value;
            return;
        }
        // Writing to a String cannot fail.
        let _ = write!(self.shown, " {}={value}", field.name());
        let name: String = field.name().chars().map(upper).collect();
        append(&mut self.encoded, &format!("L1D_{name}"), &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }
}

/// Names of fields have these characters only.
fn upper(char: char) -> char {
    if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_several_lines_are_delimited_by_their_length() {
        let mut more = Vec::new();
        append(&mut more, "L1D_A", "one\ntwo");
        append(&mut more, "L1D_B", "three");
        assert_eq!(more, b"L1D_A\n\x07\0\0\0\0\0\0\0one\ntwo\nL1D_B=three\n");
        let encoded = encode(Level::WARN, "hot", &more);
        assert!(encoded.starts_with(b"PRIORITY=4\nSYSLOG_IDENTIFIER=l1d\nMESSAGE=hot\nL1D_A\n"));
        assert!(encode(Level::ERROR, &"\u{fc}".repeat(1 << 20), b"").len() < 40_000);
    }
}
