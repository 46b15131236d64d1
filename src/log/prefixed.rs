//! Lines with their priority in front, as systemd reads them from standard error.

use super::journal::priority;
use std::io::{self, Write};
use tracing::{Level, Metadata};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::fmt::MakeWriter;

/// Puts `<4>` before each line of a warning, and so on.
#[derive(Debug)]
pub(super) struct Prefixed(pub(super) NonBlocking);

/// The lines of one event.
pub(super) struct Lines {
    queue: NonBlocking,
    prefix: String,
}

impl<'a> MakeWriter<'a> for Prefixed {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        Lines { queue: self.0.clone(), prefix: format!("<{}>", priority(Level::INFO)) }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Lines {
        Lines { queue: self.0.clone(), prefix: format!("<{}>", priority(*meta.level())) }
    }
}

impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut lines = Vec::with_capacity(event.len() + 16);
        for line in event.split_inclusive(|byte| *byte == b'\n') {
            lines.extend_from_slice(self.prefix.as_bytes());
            lines.extend_from_slice(line);
        }
        // In one call: each call is an element of the queue.
        self.queue.write_all(&lines)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
