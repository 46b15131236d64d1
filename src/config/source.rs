//! Where the configuration comes from, and reading it again while the daemon serves.

use super::{Config, ConfigError, Overrides};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// A file, and the values of the command line that override it.
#[derive(Debug, Clone, Default)]
pub struct ConfigSource {
    /// The file; `None`: the built-in configuration.
    pub file: Option<PathBuf>,
    /// The command line.
    pub overrides: Overrides,
}

impl ConfigSource {
    /// Reads the configuration.
    ///
    /// # Errors
    /// The file cannot be read, or all problems in it.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let config = self.file.as_deref().map_or_else(|| Ok(Config::default()), Config::load);
        config.map(|mut config| {
            config.apply(self.overrides.clone());
            config
        })
    }
}

/// Reads the configuration in a thread, one reading at a time: its disk may be slow, and the caller
/// never waits.
#[derive(Debug)]
pub struct ConfigReader {
    source: ConfigSource,
    /// Readable when a reading has ended.
    woken: Arc<EventFd>,
    running: Option<Receiver<Result<Config, ConfigError>>>,
}

impl ConfigReader {
    /// Reads `source`.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(source: ConfigSource) -> io::Result<ConfigReader> {
        let woken = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(ConfigReader { source, woken: Arc::new(woken), running: None })
    }

    /// The descriptor to watch.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// The file, if there is one.
    #[must_use]
    pub fn source(&self) -> &ConfigSource {
        &self.source
    }

    /// Begins to read. [`take`](Self::take) has the result when the descriptor is readable.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn begin(&mut self) -> io::Result<()> {
        let (sender, receiver) = channel();
        let (source, woken) = (self.source.clone(), Arc::clone(&self.woken));
        std::thread::Builder::new().name("l1d-config".into()).spawn(move || {
            // Fails if the daemon has stopped meanwhile.
            let _ = sender.send(source.load());
            // Also after a panic, which drops the sender.
            drop(sender);
            let _ = woken.write(1);
        })?;
        self.running = Some(receiver);
        Ok(())
    }

    /// The result of the reading, if it has ended.
    pub fn take(&mut self) -> Option<Result<Config, ConfigError>> {
        // Resets the counter; fails if it is zero.
        let _ = self.woken.read();
        let result = match self.running.as_ref()?.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(ConfigError::whole(
                "the configuration",
                "reading it has failed; the log says why".to_owned(),
            )),
        };
        self.running = None;
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, poll};

    fn result(reader: &mut ConfigReader) -> Result<Config, ConfigError> {
        reader.begin().unwrap();
        loop {
            let fd = reader.fd();
            poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], 10_000_u16).unwrap();
            if let Some(result) = reader.take() {
                return result;
            }
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_the_command_line_still_overrides_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("l1d.toml");
        let overrides = Overrides { table_size: Some(1 << 24), ..Overrides::default() };
        let source = ConfigSource { file: Some(file.clone()), overrides };
        let mut reader = ConfigReader::new(source).unwrap();
        assert!(result(&mut reader).unwrap_err().to_string().contains("cannot be read"));
        std::fs::write(&file, "[table]\nsize = \"128MiB\"\nttl_max = \"1h\"\n").unwrap();
        let config = result(&mut reader).unwrap();
        assert_eq!((config.table.size, config.table.ttl_max.as_secs()), (1 << 24, 3600));
        std::fs::write(&file, "[table]\nttl_max = 7\n").unwrap();
        let error = result(&mut reader).unwrap_err();
        assert_eq!(error.problems()[0].position.unwrap().line, 2);
        assert!(reader.take().is_none());
    }
}
