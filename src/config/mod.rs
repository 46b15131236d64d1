//! The configuration: one TOML file, checked as a whole before anything starts.

mod rules;
#[cfg(test)]
mod tests;
mod values;

pub use values::Size;

use crate::tiers::{L2Config, L3Config, TiersConfig};
use l1d_client::policy::PolicySet;
use rules::{Complaint, Defaults, PolicyText};
use serde::Deserialize;
use shm_layout::{Geometry, Plan};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use values::{Mode, Span};

/// What the daemon is to do.
#[derive(Debug, Clone)]
pub struct Config {
    /// Path of the control socket.
    pub socket: PathBuf,
    /// Its mode: who may connect.
    pub socket_mode: u32,
    /// Connections at a time.
    pub clients_max: usize,
    /// Directory of the table.
    pub table_directory: PathBuf,
    /// Bytes of the table.
    pub table_bytes: u64,
    /// Largest value.
    pub value_bytes_max: u32,
    /// Expected bytes of an entry: sizes the index.
    pub average_entry_bytes: u32,
    /// Bytes of a segment, where they are not to follow from the table's.
    pub segment_bytes: Option<u64>,
    /// Mode of the table's file.
    pub table_mode: u32,
    /// Group of the table's file.
    pub table_group: Option<String>,
    /// L2 and L3.
    pub tiers: TiersConfig,
    /// Key policy.
    pub policy: PolicySet,
}

/// Everything that is wrong with a configuration, each with its line and what to write instead.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct ConfigError {
    text: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    daemon: DaemonText,
    #[serde(default)]
    table: TableText,
    l2: Option<L2Text>,
    l3: Option<L3Text>,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    policy: Vec<Spanned<PolicyText>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DaemonText {
    socket: Option<PathBuf>,
    socket_mode: Option<Spanned<Mode>>,
    clients_max: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableText {
    directory: Option<PathBuf>,
    size: Option<Spanned<Size>>,
    value_bytes_max: Option<Spanned<Size>>,
    average_entry_bytes: Option<Spanned<Size>>,
    segment_bytes: Option<Size>,
    mode: Option<Spanned<Mode>>,
    group: Option<String>,
    ttl_max: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct L2Text {
    address: String,
    deadline: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct L3Text {
    url: String,
    deadline: Option<Span>,
}

impl Default for Config {
    /// No tiers, a table of 256 MiB in the usual place.
    fn default() -> Config {
        Config {
            socket: "/run/l1d/l1d.sock".into(),
            socket_mode: 0o660,
            clients_max: 1000,
            table_directory: "/dev/shm/l1d".into(),
            table_bytes: 256 << 20,
            value_bytes_max: 1 << 20,
            average_entry_bytes: 256,
            segment_bytes: None,
            table_mode: 0o640,
            table_group: None,
            tiers: TiersConfig::default(),
            policy: PolicySet::default(),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// A file that cannot be read, or everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            text: format!("{}: {error}; name a configuration that can be read", path.display()),
        })?;
        Config::parse(&text, &path.display().to_string())
    }

    /// Checks a text; `name` is what errors call it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(source: &str, name: &str) -> Result<Config, ConfigError> {
        let text: Text = toml::from_str(source).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            ConfigError { text: located(source, name, &[(at, error.message().to_owned())]) }
        })?;
        let mut complaints: Vec<Complaint> = Vec::new();
        let mut config = Config::default();
        config.take_daemon(text.daemon, &mut complaints);
        let table_at = source.find("[table]").unwrap_or(0);
        let ttl_max = text.table.ttl_max.map_or(Duration::from_secs(86_400), |Span(ttl)| ttl);
        config.take_table(text.table, table_at, &mut complaints);
        config.tiers = TiersConfig {
            l2: text.l2.map(|l2| L2Config {
                address: l2.address,
                deadline: l2.deadline.map_or(Duration::from_millis(100), |Span(span)| span),
            }),
            l3: text.l3.map(|l3| L3Config {
                url: l3.url,
                deadline: l3.deadline.map_or(Duration::from_millis(200), |Span(span)| span),
            }),
        };
        let rules = rules::rules(
            text.defaults,
            text.policy,
            config.value_bytes_max,
            ttl_max,
            |at| line(source, at),
            &mut complaints,
        );
        match PolicySet::new(rules) {
            Ok(policy) => config.policy = policy,
            Err(error) => complaints.push((0, error.to_string())),
        }
        if complaints.is_empty() {
            return Ok(config);
        }
        complaints.sort();
        Err(ConfigError { text: located(source, name, &complaints) })
    }

    /// The shape of the table.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan {
            table_bytes: self.table_bytes,
            value_bytes_max: self.value_bytes_max,
            entry_bytes: self.average_entry_bytes,
            segment_bytes: self.segment_bytes,
            ..Plan::default()
        }
    }

    fn take_daemon(&mut self, text: DaemonText, complaints: &mut Vec<Complaint>) {
        if let Some(socket) = text.socket {
            self.socket = socket;
        }
        if let Some(mode) = text.socket_mode {
            let (at, Mode(mode)) = (mode.span().start, mode.into_inner());
            self.socket_mode = mode;
            if mode & 0o600 != 0o600 {
                complaints.push((at, "socket_mode must let the owner in, as \"0660\"".into()));
            }
        }
        self.clients_max = text.clients_max.unwrap_or(self.clients_max).max(1);
    }

    fn take_table(&mut self, text: TableText, table_at: usize, complaints: &mut Vec<Complaint>) {
        if let Some(directory) = text.directory {
            self.table_directory = directory;
        }
        let mut narrow = |size: Option<Spanned<Size>>, what: &str| {
            let size = size?;
            let at = size.span().start;
            let bytes = u32::try_from(size.into_inner().0).ok();
            if bytes.is_none() {
                complaints.push((at, format!("{what} is below 4GiB")));
            }
            bytes
        };
        let value_bytes_max = narrow(text.value_bytes_max, "value_bytes_max");
        let average = narrow(text.average_entry_bytes, "average_entry_bytes");
        self.value_bytes_max = value_bytes_max.unwrap_or(self.value_bytes_max);
        self.average_entry_bytes = average.unwrap_or(self.average_entry_bytes);
        self.segment_bytes = text.segment_bytes.map(|Size(bytes)| bytes);
        self.table_group = text.group;
        if let Some(mode) = text.mode {
            let (at, Mode(mode)) = (mode.span().start, mode.into_inner());
            self.table_mode = mode;
            if mode & 0o133 != 0 || mode & 0o600 != 0o600 {
                complaints.push((
                    at,
                    "mode lets the owner write and others only read: \"0600\", \"0640\" or \"0644\""
                        .into(),
                ));
            }
        }
        let mut size_at = table_at;
        if let Some(size) = text.size {
            size_at = size.span().start;
            self.table_bytes = size.into_inner().0;
        }
        if let Err(error) = Geometry::plan(&self.plan()) {
            complaints.push((size_at, error.to_string()));
        }
    }
}

/// The line of a byte.
fn line(source: &str, at: usize) -> usize {
    source.get(..at).unwrap_or(source).matches('\n').count() + 1
}

/// Complaints with file, line and column.
fn located(source: &str, name: &str, complaints: &[Complaint]) -> String {
    let lines = complaints.iter().map(|(at, what)| {
        let before = source.get(..*at).unwrap_or(source);
        let line = line(source, *at);
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        format!("{name}:{line}:{column}: {what}")
    });
    lines.collect::<Vec<_>>().join("\n")
}
