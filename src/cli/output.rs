//! Standard output and standard error of the command line tools. Unlike `print!` and `eprint!`,
//! nothing here panics if nobody reads on (`| head`, `2>&1 | head`).

use l1d_wire::words;
use std::fmt::Display;
use std::io::{Error, ErrorKind, Result, Write, stderr, stdout};

/// Writes `bytes` to standard output. A closed pipe counts as success: its reader has all it
/// wanted.
///
/// # Errors
/// Any other failure to write, for example a full disk.
pub fn print(bytes: impl AsRef<[u8]>) -> Result<()> {
    print_on(bytes).map(drop)
}

/// The same. Returns whether anybody reads on.
///
/// # Errors
/// As [`print`].
pub fn print_on(bytes: impl AsRef<[u8]>) -> Result<bool> {
    let mut out = stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        end => end.map(|()| true),
    }
}

/// What to tell of a failure to print.
pub(crate) fn failed(error: &Error) -> String {
    let why = words::of(error);
    format!("cannot write to standard output: {why}; send it to where there is room for it")
}

/// Writes `message` and a line feed to standard error. Failures are ignored: there is no other
/// place to report them.
pub fn print_error(message: impl Display) {
    // One call, so that messages of several processes do not mix within a line.
    let _ = stderr().write_all(format!("{message}\n").as_bytes());
}
