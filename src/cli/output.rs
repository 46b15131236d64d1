//! What a command says on standard output.

use std::io::{ErrorKind, Result, Write, stdout};

/// Writes `bytes` to standard output. That nobody reads on (`| head`) is no failure, unlike for
/// `print!`, which panics then; a full disk is one.
pub fn put(bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut out = stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        end => end,
    }
}
