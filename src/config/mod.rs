//! The daemon's configuration, `l1d.toml`.
//!
//! ```toml
//! [daemon]
//! # socket = "/run/l1d/l1d.sock"  # control socket; default: see "Places"
//! socket_mode = "0660"            # permission to connect: to read and write the cache
//! clients_max = 1024              # open connections; one user can have 7/8 of them
//! spin = "50us"                   # longest wait by polling before the daemon sleeps; or "0s"
//! log = "info"                    # off, error, warn, info, debug, trace
//! log_format = "text"             # or "json"
//!
//! [status]                        # metrics and the status page, over HTTP
//! # socket = "/run/l1d/l1d-status.sock"   # or "off"; default: beside the control socket
//! socket_mode = "0660"            # permission to connect: to see all figures, clients and keys;
//!                                 # the socket's group is that of [table]
//! # listen = "127.0.0.1:9401"     # a loopback address to serve as well, for scrapers: without
//!                                 # keys and clients, because any local user can ask there
//!
//! [table]
//! # directory = "/dev/shm/l1d"    # on a tmpfs; only the daemon's user may write it
//! size = "256MiB"                 # of the whole table, from 4MiB on
//! value_bytes_max = "1MiB"        # largest value; default: less in tables under 72MiB
//! average_entry_bytes = 256       # header, key and value; determines the size of the index
//! fit_index = false               # rebuild the index automatically if that was wrong, for which
//!                                 # there must be memory for two tables
//! ttl_max = "24h"                 # longest ttl of any rule
//! absent_share_max = "5%"         # largest share of the table for known absences
//! mode = "0640"                   # of the table's file
//! # group = "l1d"                 # of the table's file; default: the daemon's
//! # segment_bytes = "8MiB"        # default: depends on the size of the table
//!
//! [limits]                        # for each user but root; default: see docs/src/access.md
//! # connections_max = 896         # 7/8 of clients_max
//! # mailboxes_max = 896           # connections beyond use the socket, which is slower
//! # fetches_max = 6144            # from the tiers at once
//! # writes_max = 2048             # that wait for the tiers at once
//! # bytes_max = "64MiB"           # of values that wait, and of requests and replies under way
//!
//! [[access]]                      # without these: whoever may connect may do all but administrate
//! user = ["nobody"]               # names or numbers; or
//! group = ["daemon"]              # without both: everyone. The first rule that matches holds
//! attach = true                   # may connect, and so read all that is in the table
//! fetch = true                    # of the tiers: all keys, none, or prefixes: ["page:"]
//! write = false                   # the same
//! # delete = false                # the same; default: as write
//! flush = false                   # the same
//! observe = true                  # may see clients, keys, and the status socket
//! admin = false                   # may reload and resize
//!                                 # and each limit of [limits], for users of this rule
//!
//! [l2]                            # without this section there is no L2
//! address = "127.0.0.1:11211"     # memcached; or "unix:/run/memcached.sock"
//! deadline = "100ms"
//!
//! [l3]                            # without this section there is no L3
//! url = "redis://127.0.0.1:6379/0"    # or "redis+unix:///run/redis/redis.sock?db=0"
//! deadline = "200ms"
//! # password_file = "/etc/l1d/redis-password"     # that only the daemon can read; or
//! # password_credential = "redis-password"        # of systemd; or
//! # password_env = "L1D_REDIS_PASSWORD"           # of the environment
//!
//! [defaults]                      # for keys without a [[policy]], and keys that a rule omits
//! scope = "host"                  # or "process"
//! ttl = "30s"                     # in L1
//! l2_ttl = "5m"
//! l3_ttl = "forever"              # or a duration
//! negative_ttl = "1s"             # of a confirmed absence; "0s": not cached
//! write = "through"               # or "l1-only"
//! on_write_error = "refuse"       # or "publish"
//! l2 = true                       # false: Redis alone holds these keys
//! client_flags = "refuse"         # or "never-fill-l2", "frame", "ignore"
//! value_bytes_max = "1MiB"        # default: that of [table]; not above it
//!
//! [[policy]]
//! prefix = "analysis:"            # the longest matching prefix wins
//! ttl = "10s"                     # and any other key of [defaults]
//!
//! [[policy]]
//! prefix_hex = "00ff"             # a prefix of bytes that are not text
//! ```
//!
//! These are the defaults, except in `[[policy]]` and for `user` and `group`. A prefix is UTF-8.
//! TOML escapes stand for characters (`"\u0000"` is one zero byte), so other bytes need
//! `prefix_hex`, two digits per byte.
//!
//! Places: by default, root's daemon and the owner of `/run/l1d` have their socket and table in the
//! system's directories, `/run/l1d` and `/dev/shm/l1d`. A daemon of another user has directories of
//! that user's own; see [`l1d_wire::place`].

mod access;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod host;
mod origins;
mod password;
mod read;
mod rules;
mod section;
mod sizes;
mod source;
mod status;
mod summary;
mod syntax;
#[cfg(test)]
mod tests;
mod units;
mod value;

pub use error::{ConfigError, Position, Problem};
pub use origins::Origins;
pub use source::{ConfigReader, ConfigSource};
pub use status::{StatusConfig, StatusSocket};
pub use summary::{Checked, changed_settings, check_config, policy_json, rule_json};
pub use units::{parse_duration, parse_mode, parse_size, show_duration, show_size};

use crate::access::Access;
use crate::tiers::TiersConfig;
use l1d_wire::place;
use l1d_wire::policy::PolicySet;
use l1d_wire::words;
use read::Look;
use shm_layout::Plan;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// Largest configuration file: an endless file must not be read to its end.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Section `[daemon]`.
    pub daemon: DaemonConfig,
    /// Section `[status]`.
    pub status: StatusConfig,
    /// Section `[table]`.
    pub table: TableConfig,
    /// Sections `[l2]` and `[l3]`.
    pub tiers: TiersConfig,
    /// `[defaults]`, which is rule 0, and the `[[policy]]` rules in the order of the text. The
    /// daemon gives them other numbers if the entries in its table have others.
    pub policy: PolicySet,
    /// Where the settings of the rules come from.
    pub origins: Origins,
    /// `[[access]]` and `[limits]`.
    pub access: Access,
}

/// Section `[daemon]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonConfig {
    /// The control socket; `None`: see [`socket`](Self::socket).
    pub socket: Option<PathBuf>,
    /// Its permission bits, if the daemon creates it.
    pub socket_mode: u32,
    /// Most connections at a time.
    pub clients_max: usize,
    /// How long the daemon polls mailboxes in use before it sleeps.
    pub spin: Duration,
    /// The least severe level that is logged.
    pub log: LevelFilter,
    /// The format of log messages.
    pub log_format: LogFormat,
}

/// The format of log messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Section `[table]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// The directory of the table's file; `None`: see [`directory`](Self::directory).
    pub directory: Option<PathBuf>,
    /// Bytes of the whole table.
    pub size: u64,
    /// Bytes of the largest value.
    pub value_bytes_max: u32,
    /// That is not configured, and follows the size.
    pub value_follows_size: bool,
    /// Expected bytes of an entry, with header, key and value.
    pub average_entry_bytes: u32,
    /// If that was wrong, the entries move to a table with a better index.
    pub fit_index: bool,
    /// Permission bits of the file.
    pub mode: u32,
    /// Group of the file, by name or number; `None`: the daemon's.
    pub group: Option<String>,
    /// Bytes of a segment; `None`: chosen by the size of the table.
    pub segment_bytes: Option<u64>,
    /// Longest TTL of an L1 copy.
    pub ttl_max: Duration,
    /// Largest share of the table for known absences, in thousandths.
    pub absent_share_max_permille: u16,
}

/// Values from the command line, which override the file's.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--table-directory`
    pub table_directory: Option<PathBuf>,
    /// `--table-size`, in bytes; see [`parse_size`].
    pub table_size: Option<u64>,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, or all problems in it.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let (text, file) = read_text(path)?;
        read::read(&text, &path.display().to_string(), Look::Daemon(&file))
    }

    /// Reads a text; `name` names it in errors. Passwords that the text only points at are left
    /// out.
    ///
    /// # Errors
    /// All problems in it.
    pub fn from_str(text: &str, name: &str) -> Result<Config, ConfigError> {
        read::read(text, name, Look::None)
    }

    /// Applies the command line. An impossible table size is not detected here but when the table
    /// is created.
    pub fn apply(&mut self, overrides: Overrides) {
        if let Some(socket) = overrides.socket {
            self.daemon.socket = Some(socket);
        }
        if let Some(directory) = overrides.table_directory {
            self.table.directory = Some(directory);
        }
        if let Some(size) = overrides.table_size {
            self.table.size = size;
            sizes::follow(self);
        }
    }
}

impl DaemonConfig {
    /// The configured socket, or the one that this process's user serves by default.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(place::socket_to_serve)
    }
}

impl TableConfig {
    /// The configured directory, or the one that this process's user has by default.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.directory.clone().unwrap_or_else(place::table_directory)
    }

    /// The plan of a new table, without its identity. A table of about the smallest possible size
    /// becomes a little larger than configured.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let plan = Plan {
            table_bytes: self.size,
            value_bytes_max: self.value_bytes_max,
            entry_bytes: self.average_entry_bytes,
            segment_bytes: self.segment_bytes,
            ..Plan::default()
        };
        let follows = self.value_follows_size;
        Plan { table_bytes: if follows { sizes::table_bytes(&plan) } else { self.size }, ..plan }
    }

    /// The id of the file's group.
    ///
    /// # Errors
    /// The group does not exist on this host.
    pub fn group_id(&self) -> Result<Option<u32>, ConfigError> {
        host::group_id(self).map_err(|message| ConfigError::whole("[table] group", message))
    }
}

impl Default for DaemonConfig {
    fn default() -> DaemonConfig {
        DaemonConfig {
            socket: None,
            socket_mode: 0o660,
            clients_max: 1024,
            spin: Duration::from_micros(50),
            log: LevelFilter::INFO,
            log_format: LogFormat::Text,
        }
    }
}

impl Default for TableConfig {
    fn default() -> TableConfig {
        TableConfig {
            directory: None,
            size: 256 << 20,
            value_bytes_max: 1 << 20,
            value_follows_size: true,
            average_entry_bytes: 256,
            fit_index: false,
            mode: 0o640,
            group: None,
            segment_bytes: None,
            ttl_max: Duration::from_secs(24 * 60 * 60),
            absent_share_max_permille: 50,
        }
    }
}

/// The text of a file, and whose it is.
fn read_text(path: &Path) -> Result<(String, Metadata), ConfigError> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        let metadata = file.metadata()?;
        file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(metadata)
    });
    let metadata = read.map_err(|error| {
        let advice = "give the path of a configuration that this user can read";
        ConfigError::whole(&name, format!("cannot be read: {}; {advice}", words::of(&error)))
    })?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        let message = "over 4 MiB, so this is no configuration; give the path of l1d.toml";
        return Err(ConfigError::whole(&name, message.to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let text = section::Text::new(&name, &text);
        let message = "a byte that is not UTF-8; save the file as UTF-8, and write prefixes of \
                       other bytes with prefix_hex";
        text.problem(valid, message.to_owned());
        ConfigError::new(text.into_problems())
    })?;
    Ok((text, metadata))
}
