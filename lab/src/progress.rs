//! A progress line on stderr, if stderr is a terminal.

use std::io::{IsTerminal, Write};

/// The line. Erased when dropped.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// A progress line that is still empty.
    pub fn new() -> Progress {
        Progress { shown: std::io::stderr().is_terminal() }
    }

    /// Replaces the line. Errors do not matter: the terminal may be gone.
    pub fn say(&self, what: &str) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K{what}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.say("");
    }
}
