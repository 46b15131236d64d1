//! From text to [`Config`].

use std::collections::HashSet;
use std::fs::Metadata;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::{DeTable, DeValue};
use tracing::level_filters::LevelFilter;

use super::error::ConfigError;
use super::rules::{self, RuleLimits};
use super::section::{Section, Text, Wrong};
use super::units::show_size;
use super::{
    Config, DaemonConfig, LogFormat, Origins, TableConfig, access, host, password, sizes, status,
    syntax, value,
};
use crate::tiers::{
    L2Config, L3Config, TiersConfig, UNSUPPORTED_L2_KEYS, UNSUPPORTED_L3_KEYS, check_address,
    parse_url,
};
use shm_layout::entry::entry_bytes_max;
use shm_layout::geometry::ENTRIES_PER_SEGMENT_MIN;
use shm_layout::geometry::SEGMENT_WORDS_BITS;
use shm_layout::{Geometry, LayoutError, Plan};

/// Shortest TTL of an L1 copy: six ticks of the expiry clock, so that rounding stays small.
pub(super) const TTL_MIN: Duration = Duration::from_millis(100);
/// Entries count time in ticks of 16.8 ms, which run out 834 days after the table was created.
const TTL_MAX_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// A daemon that polls longer takes a core from its own clients.
const SPIN_MAX: Duration = Duration::from_millis(10);
const DEADLINES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(60);
/// Longest path of a unix socket: `sun_path` without its terminating zero.
const SOCKET_BYTES_MAX: usize = 107;
/// A table size that has a valid index for entries of any size.
const SIZE_OF_LARGEST: u64 = 512 << 30;
/// Largest segment: as many words of eight bytes as a slot's offset can count.
const SEGMENT_BYTES_MAX: u64 = 8 << SEGMENT_WORDS_BITS;

/// How far a reading looks beyond the text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Look<'f> {
    /// Not at all.
    None,
    /// As the daemon that starts: passwords are read. The text is from this file.
    Daemon(&'f Metadata),
    /// As a check: the host has what the table needs. Passwords that only the daemon can have are
    /// left out.
    Check(&'f Metadata),
}

impl<'f> Look<'f> {
    /// The file that the text is from.
    pub(super) fn file(self) -> Option<&'f Metadata> {
        match self {
            Look::None => None,
            Look::Daemon(file) | Look::Check(file) => Some(file),
        }
    }

    pub(super) fn reads_passwords(self) -> bool {
        !matches!(self, Look::None)
    }

    pub(super) fn is_check(self) -> bool {
        matches!(self, Look::Check(_))
    }
}

/// Reads a text.
pub(super) fn read(text: &str, name: &str, look: Look<'_>) -> Result<Config, ConfigError> {
    let (root, syntax) = DeTable::parse_recoverable(text);
    let text = Text::new(name, text);
    let mut lines = HashSet::new();
    for error in &syntax {
        let at = error.span().map_or(0, |span| span.start);
        // Further errors in a line are consequences of the first.
        if lines.insert(text.position(at).line) {
            text.problem(at, syntax::message(error.message()));
        }
    }
    if !syntax.is_empty() {
        return Err(ConfigError::new(text.into_problems()));
    }
    let mut root = Section::new("top level", 0, Some(root.get_ref()), &text);
    let daemon = daemon(section(&mut root, "daemon", &text));
    let status = status::read(section(&mut root, "status", &text));
    let l2 = l2(section(&mut root, "l2", &text));
    let l3 = l3(section(&mut root, "l3", &text), look);
    let (table, limits) = table(section(&mut root, "table", &text), look);
    let tiers = TiersConfig { l2, l3, value_bytes_max: table.value_bytes_max as usize };
    let defaults = section(&mut root, "defaults", &text);
    let mut origins = Origins::default();
    let policy = rules::policy(defaults, root.raw("policy"), limits, &mut origins, &text);
    let limits = section(&mut root, "limits", &text);
    let access = access::read(root.raw("access"), limits, &text);
    root.finish(&[("policies", "write [[policy]] above each rule")]);
    let problems = text.into_problems();
    match policy {
        Some(policy) if problems.is_empty() => {
            Ok(Config { daemon, status, table, tiers, policy, origins, access })
        }
        _ => Err(ConfigError::new(problems)),
    }
}

/// Why a table cannot have this size, and a size that it can have.
fn geometry_advice(table: &TableConfig, error: &LayoutError) -> (String, String) {
    let size = show_size(table.size);
    let value = show_size(table.value_bytes_max.into());
    match error {
        LayoutError::TableTooSmall { smallest, .. } => (
            format!(
                "{size} is too small for values of {value}: each of 16 segments must hold four of \
                 the largest entries"
            ),
            show_size(smallest.next_multiple_of(1 << 20)),
        ),
        LayoutError::TableTooLarge { .. } => (
            format!("{size} is more than a table can have with an index for so many entries"),
            show_size(SIZE_OF_LARGEST),
        ),
        other => (format!("{size} cannot be had: {other}"), show_size(TableConfig::default().size)),
    }
}

fn section<'a>(root: &mut Section<'a>, key: &'static str, text: &'a Text<'a>) -> Section<'a> {
    let title = format!("[{key}]");
    let (table, at) = match root.raw(key) {
        Some((DeValue::Table(table), span)) => (Some(table), span.start),
        Some((other, span)) => {
            let message =
                format!("{key} is {}; write [{key}] once, above its keys", value::show(other));
            text.problem(span.start, message);
            (None, span.start)
        }
        None => (None, 0),
    };
    Section::new(&title, at, table, text)
}

fn daemon(mut section: Section<'_>) -> DaemonConfig {
    let default = DaemonConfig::default();
    let levels = [
        ("info", LevelFilter::INFO),
        ("off", LevelFilter::OFF),
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("debug", LevelFilter::DEBUG),
        ("trace", LevelFilter::TRACE),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let config = DaemonConfig {
        socket: section
            .read("socket", |value| socket_path(value, "/run/l1d/l1d.sock"))
            .unwrap_or_default(),
        socket_mode: section.read_or("socket_mode", default.socket_mode, |value| {
            value::mode(value, 0o600, 0o775, "0660")
        }),
        clients_max: section.read_or("clients_max", default.clients_max, |value| {
            value::count(value, 1..=100_000).map(value::as_usize)
        }),
        spin: section.read_or("spin", default.spin, |value| {
            value::duration(value, Duration::ZERO..=SPIN_MAX, "50us")
        }),
        log: section.read_or("log", default.log, |value| value::choice(value, &levels)),
        log_format: section
            .read_or("log_format", default.log_format, |value| value::choice(value, &formats)),
    };
    section.finish(&[]);
    config
}

/// The section, and the limits that it sets for the rules.
fn table(mut section: Section<'_>, look: Look<'_>) -> (TableConfig, RuleLimits) {
    let default = TableConfig::default();
    let directory = section.read("directory", |value| absolute(value, "/dev/shm/l1d"));
    let size = section.read("size", |value| value::size(value, 1..=u64::MAX, "256MiB"));
    // A segment must hold four of them.
    let value_most = SEGMENT_BYTES_MAX / ENTRIES_PER_SEGMENT_MIN - (128 << 10);
    let value_bytes_max = section.read("value_bytes_max", |value| {
        value::size(value, 1..=value_most, "1MiB").map(value::as_u32)
    });
    let average_entry_bytes = section.read("average_entry_bytes", |value| {
        let bytes = value::size(value, 32..=1 << 30, "256")?;
        Ok(value::as_u32(bytes))
    });
    let fit_index = section.read_or("fit_index", default.fit_index, value::truth);
    let mode = section.read("mode", |value| value::mode(value, 0o600, 0o644, "0640"));
    let group = section.read("group", |value| value::text(value, "l1d").map(str::to_owned));
    let segment_bytes = section.read("segment_bytes", |value| {
        let value_bytes = value_bytes_max.as_ref().ok().copied().flatten();
        let entry = entry_bytes_max(value_bytes.unwrap_or(0)) as u64;
        let least = (ENTRIES_PER_SEGMENT_MIN * entry).next_multiple_of(1 << 10);
        value::size(value, least..=SEGMENT_BYTES_MAX, "8MiB")
    });
    let ttl_max =
        section.read("ttl_max", |value| value::duration(value, TTL_MIN..=TTL_MAX_MAX, "24h"));
    let absent_share_max_permille =
        section.read_or("absent_share_max", default.absent_share_max_permille, |value| {
            value::share(value, "5%")
        });
    let plan = Plan {
        table_bytes: size.as_ref().ok().copied().flatten().unwrap_or(default.size),
        entry_bytes: average_entry_bytes.as_ref().ok().copied().flatten().unwrap_or(256),
        segment_bytes: segment_bytes.as_ref().ok().copied().flatten(),
        ..Plan::default()
    };
    let value_follows_size = matches!(value_bytes_max, Ok(None));
    let value_bytes_default = sizes::value_bytes_max(&plan, default.value_bytes_max);
    // If a limit could not be read, nothing is checked against it.
    let limits = RuleLimits {
        ttl: limit(&ttl_max, default.ttl_max, TTL_MAX_MAX),
        value_bytes: limit(&value_bytes_max, value_bytes_default, u32::MAX),
    };
    let sizes_known = size.is_ok()
        && value_bytes_max.is_ok()
        && segment_bytes.is_ok()
        && average_entry_bytes.is_ok();
    let config = TableConfig {
        directory: directory.unwrap_or_default(),
        size: or(size, default.size),
        value_bytes_max: or(value_bytes_max, value_bytes_default),
        value_follows_size,
        average_entry_bytes: or(average_entry_bytes, default.average_entry_bytes),
        fit_index,
        mode: or(mode, default.mode),
        group: group.unwrap_or_default(),
        segment_bytes: segment_bytes.unwrap_or_default(),
        ttl_max: or(ttl_max, default.ttl_max),
        absent_share_max_permille,
    };
    match Geometry::plan(&config.plan()) {
        Err(error) if sizes_known => {
            let (what, instead) = geometry_advice(&config, &error);
            let at = section.place(&["size", "value_bytes_max", "segment_bytes"]);
            section.problem(at, &format!("size {what}; write for example size = {:?}", instead));
        }
        _ if look.is_check() => host::check(&config, &section),
        _ => {}
    }
    section.finish(&[]);
    (config, limits)
}

fn l2(mut section: Section<'_>) -> Option<L2Config> {
    let address = section.read("address", |value| {
        let example = "127.0.0.1:11211";
        let address = value::text(value, example)?;
        // The message does not repeat the address, because it may contain a password.
        check_address(address)
            .map(|()| address.to_owned())
            .map_err(|error| Wrong::new(format!("cannot be used: {error}"), value::quoted(example)))
    });
    let address = required(&section, "address", address, "127.0.0.1:11211");
    let deadline = section.read_or("deadline", Duration::from_millis(100), |value| {
        value::duration(value, DEADLINES, "100ms")
    });
    let url = ("url", "write address = \"127.0.0.1:11211\"");
    section.finish(&[&[url], UNSUPPORTED_L2_KEYS].concat());
    Some(L2Config { address: address?, deadline })
}

fn l3(mut section: Section<'_>, look: Look<'_>) -> Option<L3Config> {
    let url = section.read("url", |value| {
        let example = "redis://127.0.0.1:6379/0";
        let url = value::text(value, example)?;
        // The message does not repeat the URL, because it may contain a password.
        parse_url(url)
            .map(|_| url.to_owned())
            .map_err(|error| Wrong::new(format!("cannot be used: {error}"), value::quoted(example)))
    });
    let url = required(&section, "url", url, "redis://127.0.0.1:6379/0");
    let password = password::read(&mut section, url.as_deref(), look);
    let deadline = section.read_or("deadline", Duration::from_millis(200), |value| {
        value::duration(value, DEADLINES, "200ms")
    });
    let address = ("address", "write url = \"redis://127.0.0.1:6379/0\"");
    section.finish(&[&[address], UNSUPPORTED_L3_KEYS].concat());
    Some(L3Config { url: url?, password, deadline })
}

/// Reports a missing mandatory key, if the section exists.
fn required<T>(
    section: &Section<'_>,
    key: &str,
    value: Result<Option<T>, super::section::Reported>,
    example: &str,
) -> Option<T> {
    let value = value.ok()?;
    if value.is_none() && section.is_there() {
        let message = format!("{key} is missing; write for example {key} = \"{example}\"");
        section.problem(section.at, &message);
    }
    value
}

/// The path of a unix socket.
pub(super) fn socket_path(value: &DeValue<'_>, example: &str) -> Result<PathBuf, Wrong> {
    let path = absolute(value, example)?;
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_BYTES_MAX {
        let what = format!("has {bytes} bytes, and a socket's path at most {SOCKET_BYTES_MAX}");
        return Err(Wrong::new(what, value::quoted(example)));
    }
    Ok(path)
}

fn absolute(value: &DeValue<'_>, example: &str) -> Result<PathBuf, Wrong> {
    let path = PathBuf::from(value::text(value, example)?);
    if !path.is_absolute() || path.as_os_str().as_encoded_bytes().contains(&0) {
        let what = format!("{} is not an absolute path", value::show(value));
        return Err(Wrong::new(what, value::quoted(example)));
    }
    Ok(path)
}

fn or<T>(value: Result<Option<T>, super::section::Reported>, default: T) -> T {
    value.ok().flatten().unwrap_or(default)
}

fn limit<T: Copy>(value: &Result<Option<T>, super::section::Reported>, default: T, none: T) -> T {
    value.as_ref().map_or(none, |value| value.unwrap_or(default))
}
