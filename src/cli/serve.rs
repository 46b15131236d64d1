//! `l1d serve`.

use super::{REFUSED, USAGE, print_error};
use crate::config::{ConfigSource, Overrides, parse_size};
use crate::daemon;
use crate::log::Log;
use crate::manager::ServiceManager;
use crate::signals::ProcessSignals;
use clap::Args;
use l1d_wire::place::SYSTEM_DIRECTORY;
use l1d_wire::words;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;

/// Own the table and serve clients.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Configuration file; without it: no tiers, and defaults for everything else.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Control socket; overrides the configuration [default: the system's, /run/l1d/l1d.sock, for
    /// root and for the owner of /run/l1d; otherwise the user's own, l1d/l1d.sock in
    /// $XDG_RUNTIME_DIR].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Directory of the table, writable only by the daemon's user; overrides the configuration.
    #[arg(long, value_name = "DIR")]
    table_directory: Option<PathBuf>,
    /// Size of the table, for example "256MiB"; overrides the configuration.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    table_size: Option<u64>,
}

impl Serve {
    pub(super) fn run(self) -> ExitCode {
        let source = self.source();
        let config = match source.load() {
            Ok(config) => config,
            Err(error) => {
                print_error(error);
                return ExitCode::from(USAGE);
            }
        };
        // Before the log's thread starts, which inherits the mask.
        let signals = match ProcessSignals::block() {
            Ok(signals) => signals,
            Err(error) => {
                print_error(format_args!(
                    "l1d: cannot block signals, so as to end when one comes: {}; raise this \
                     process's limit on open files (ulimit -n, LimitNOFILE=)",
                    words::of(&error)
                ));
                return ExitCode::from(REFUSED);
            }
        };
        let log = match Log::start(&config.daemon) {
            Ok(log) => log,
            Err(error) => {
                print_error(format_args!(
                    "l1d: cannot start a thread: {}; raise this process's limits on threads and on \
                     address space (ulimit -u and -v, TasksMax= and LimitAS=)",
                    words::of(&error)
                ));
                return ExitCode::from(REFUSED);
            }
        };
        let mut manager = ServiceManager::from_environment();
        let inherited = inherited_listener();
        if inherited.is_some() || config.daemon.socket().starts_with(SYSTEM_DIRECTORY) {
            refuse_dumps();
        }
        match daemon::run(&config, source, inherited, &signals, &mut manager) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                log.print(format_args!("l1d: {error}"));
                ExitCode::from(REFUSED)
            }
        }
    }

    fn source(self) -> ConfigSource {
        let overrides = Overrides {
            socket: self.socket,
            table_directory: self.table_directory,
            table_size: self.table_size,
        };
        ConfigSource { file: self.config, overrides }
    }
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "not a size; write for example \"256MiB\"".to_owned())
}

/// The system's daemon leaves no core, and no process of its own user can look into it: it holds
/// values of everybody, also outside of the table. A user's own daemon can be debugged.
fn refuse_dumps() {
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        let error = error.desc();
        tracing::warn!(
            error,
            "a crash may leave a core with values in it: set LimitCORE=0, or ulimit -c 0"
        );
    }
}

/// The listening socket of a service manager, if it passed one.
fn inherited_listener() -> Option<UnixListener> {
    let fd = sd_notify::listen_fds().ok()?.next()?;
    // SAFETY: the service manager passes this descriptor to this process for it to own.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Some(UnixListener::from(fd))
}
