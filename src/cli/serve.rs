//! `l1d serve`.

use super::{REFUSED, USAGE, print_error};
use crate::config::{Config, DaemonConfig, LogFormat, Overrides, parse_size};
use crate::daemon::{self, DaemonError};
use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::IsTerminal;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Own the table and serve clients.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Configuration file; without it: no tiers, and defaults for everything else.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Control socket; overrides the configuration.
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
        let config = match self.configuration() {
            Ok(config) => config,
            Err(error) => {
                print_error(error);
                return ExitCode::from(USAGE);
            }
        };
        log_to_stderr(&config.daemon);
        match serve(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                print_error(format_args!("l1d: {error}"));
                ExitCode::from(REFUSED)
            }
        }
    }

    fn configuration(self) -> Result<Config, crate::config::ConfigError> {
        let mut config =
            self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::load)?;
        config.apply(Overrides {
            socket: self.socket,
            table_directory: self.table_directory,
            table_size: self.table_size,
        });
        Ok(config)
    }
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "not a size; write for example 256MiB".to_owned())
}

/// Starts logging. The environment variable `L1D_LOG` overrides the configured level.
fn log_to_stderr(config: &DaemonConfig) {
    let filter = EnvFilter::try_from_env("L1D_LOG")
        .unwrap_or_else(|_| EnvFilter::default().add_directive(config.log.into()));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn serve(config: &Config) -> Result<(), DaemonError> {
    // Before any thread starts: threads inherit the mask, so none of them receives the signals.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    let system = |what| move |error: nix::Error| DaemonError::System { what, source: error.into() };
    signals.thread_block().map_err(system("blocking signals"))?;
    let stop = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(system("watching signals"))?;

    let inherited = inherited_listener();
    let is_ours = inherited.is_none();
    let listener = inherited.map_or_else(|| daemon::listen(config), Ok)?;
    let result = daemon::run(config, &listener, stop.as_fd(), || {
        tracing::info!(socket = %config.daemon.socket.display(), "ready");
        // Fails without a service manager, which is fine.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    });
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    if is_ours {
        let _ = std::fs::remove_file(&config.daemon.socket);
    }
    result
}

/// The listening socket of a service manager, if it passed one.
fn inherited_listener() -> Option<UnixListener> {
    let fd = sd_notify::listen_fds().ok()?.next()?;
    // SAFETY: the service manager passes this descriptor to this process for it to own.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Some(UnixListener::from(fd))
}
