//! A summary of a configuration.

use super::read::Look;
use super::units::{show_duration, show_share, show_size};
use super::{Config, ConfigError, LogFormat, access, read, read_text};
use crate::tiers::parse_url;
use comfy_table::{ContentArrangement, Table, presets};
use l1d_wire::policy::{
    ClientFlags, Evict, OnWriteError, PolicySet, Rule, Scope, WriteMode, show_prefix,
};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// The result of [`check_config`] for a valid configuration.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// A summary for people.
    pub text: String,
    /// The configuration as JSON. Sizes in bytes, durations in ms.
    pub json: Value,
}

/// Reads a file as the daemon would, and checks that this host has the group and space for the
/// table.
///
/// # Errors
/// All problems.
pub fn check_config(path: &Path) -> Result<Checked, ConfigError> {
    let (text, file) = read_text(path)?;
    let config = read::read(&text, &path.display().to_string(), Look::Check(&file))?;
    let (text, json) = (self::text(&config), json(&config));
    Ok(Checked { config, text, json })
}

/// The rules in the order of their ids. Sizes in bytes, durations in ms; `null` means forever.
#[must_use]
pub fn policy_json(policy: &PolicySet) -> Value {
    policy.rules().iter().map(rule_json).collect()
}

/// One rule, as in [`policy_json`].
#[must_use]
pub fn rule_json(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "prefix": String::from_utf8_lossy(&rule.prefix),
        "prefix_hex": rule.prefix.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "scope": scope(rule),
        "ttl_ms": ms(rule.ttl),
        "l2_ttl_ms": ms(rule.l2_ttl),
        "l3_ttl_ms": rule.l3_ttl.map(ms),
        "negative_ttl_ms": ms(rule.negative_ttl),
        "write": write_mode(rule),
        "on_write_error": on_write_error(rule),
        "value_bytes_max": rule.value_bytes_max,
        "share_max_percent": rule.share_max_permille.map(percent),
        "evict": evict(rule),
        "l2": rule.l2,
        "client_flags": client_flags(rule),
    })
}

/// The settings outside the policy in which two configurations differ, as `[section] setting`.
#[must_use]
pub fn changed_settings(before: &Config, now: &Config) -> Vec<String> {
    let (old, new) = (json(before), json(now));
    let mut changed = Vec::new();
    for (section, settings) in new.as_object().into_iter().flatten() {
        let former = &old[section];
        match (settings, former) {
            _ if section == "policy" || settings == former => {}
            (Value::Object(settings), Value::Object(former)) => {
                let differs = |name: &&String| former.get(*name) != settings.get(*name);
                let name = |name: &String| format!("[{section}] {}", setting_name(name));
                changed.extend(settings.keys().filter(differs).map(name));
            }
            _ if section == "access" => changed.push("[[access]]".to_owned()),
            // The section has appeared or gone.
            _ => changed.push(format!("[{section}]")),
        }
    }
    // The summary shows no password.
    let url = |config: &Config| config.tiers.l3.as_ref().map(|l3| l3.url.clone());
    let is_named = changed.iter().any(|name| name.starts_with("[l3]") && name != "[l3] deadline");
    if url(before) != url(now) && !is_named {
        changed.push("[l3] url".to_owned());
    }
    let password = |config: &Config| config.tiers.l3.as_ref().map(|l3| l3.password.clone());
    if let (Some(before), Some(now)) = (password(before), password(now))
        && before != now
    {
        changed.push("[l3] password".to_owned());
    }
    changed
}

/// The name in the file of a setting in the summary.
fn setting_name(name: &str) -> &str {
    match name {
        "spin_us" => "spin",
        "ttl_max_ms" => "ttl_max",
        "absent_share_max_percent" => "absent_share_max",
        "deadline_ms" => "deadline",
        "server" => "url",
        name => name,
    }
}

fn json(config: &Config) -> Value {
    let Config { daemon, status, table, tiers, policy, origins: _, access: rules } = config;
    json!({
        "daemon": {
            "socket": daemon.socket(),
            "socket_mode": format!("{:04o}", daemon.socket_mode),
            "clients_max": daemon.clients_max,
            "spin_us": u64::try_from(daemon.spin.as_micros()).unwrap_or(u64::MAX),
            "log": daemon.log.to_string(),
            "log_format": match daemon.log_format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            },
        },
        "status": {
            "socket": status.socket(&daemon.socket()),
            "socket_mode": format!("{:04o}", status.socket_mode),
            "listen": status.listen.map(|address| address.to_string()),
        },
        "table": {
            "directory": table.directory(),
            "size": table.size,
            "value_bytes_max": table.value_bytes_max,
            "average_entry_bytes": table.average_entry_bytes,
            "fit_index": table.fit_index,
            "mode": format!("{:04o}", table.mode),
            "group": table.group,
            "segment_bytes": table.segment_bytes,
            "ttl_max_ms": ms(table.ttl_max),
            "absent_share_max_percent": percent(table.absent_share_max_permille),
        },
        "l2": tiers.l2.as_ref().map(|l2| json!({
            "address": l2.address, "deadline_ms": ms(l2.deadline),
        })),
        "l3": tiers.l3.as_ref().map(|l3| json!({
            "server": server(&l3.url), "deadline_ms": ms(l3.deadline),
        })),
        "limits": rules.limits().json(),
        "access": access::json(rules),
        "policy": policy_json(policy),
    })
}

fn text(config: &Config) -> String {
    let Config { daemon, status, table, tiers, policy, origins: _, access: rules } = config;
    let mut out = String::new();
    let mut line = |name: &str, what: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<8}{what}");
    };
    line("socket", format!("{}, mode {:04o}", daemon.socket().display(), daemon.socket_mode));
    let places = [
        status.socket(&daemon.socket()).map(|path| path.display().to_string()),
        status.listen.map(|address| format!("http://{address}")),
    ];
    let places: Vec<String> = places.into_iter().flatten().collect();
    line("status", if places.is_empty() { "off".to_owned() } else { places.join(", ") });
    line(
        "table",
        format!(
            "{} in {}, values up to {}",
            show_size(table.size),
            table.directory().display(),
            show_size(table.value_bytes_max.into())
        ),
    );
    let tier = |tier: Option<(String, Duration)>| {
        tier.map_or("none".to_owned(), |(server, deadline)| {
            format!("{server}, deadline {}", show_duration(deadline))
        })
    };
    line("L2", tier(tiers.l2.as_ref().map(|l2| (l2.address.clone(), l2.deadline))));
    line("L3", tier(tiers.l3.as_ref().map(|l3| (server(&l3.url), l3.deadline))));
    let _ = write!(out, "\n{}\n\n{}", rules_table(policy), access::text(rules));
    out
}

fn rules_table(policy: &PolicySet) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "prefix",
        "scope",
        "ttl",
        "l2_ttl",
        "l3_ttl",
        "negative_ttl",
        "write",
        "on_write_error",
        "value_bytes_max",
        "share_max",
        "evict",
        "l2",
        "client_flags",
    ]);
    for rule in policy.rules() {
        table.add_row([
            if rule.prefix.is_empty() {
                "(all others)".to_owned()
            } else {
                show_prefix(&rule.prefix)
            },
            scope(rule).to_owned(),
            show_duration(rule.ttl),
            show_duration(rule.l2_ttl),
            rule.l3_ttl.map_or("forever".to_owned(), show_duration),
            show_duration(rule.negative_ttl),
            write_mode(rule).to_owned(),
            on_write_error(rule).to_owned(),
            show_size(rule.value_bytes_max.into()),
            rule.share_max_permille.map_or("100%".to_owned(), show_share),
            evict(rule).to_owned(),
            rule.l2.to_string(),
            client_flags(rule).to_owned(),
        ]);
    }
    table.trim_fmt()
}

/// The server of a URL, without a password.
fn server(url: &str) -> String {
    parse_url(url).map_or_else(|_| "?".to_owned(), |server| server.addr().to_string())
}

/// Thousandths in percent.
fn percent(permille: u16) -> f64 {
    f64::from(permille) / 10.0
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn scope(rule: &Rule) -> &'static str {
    match rule.scope {
        Scope::Host => "host",
        Scope::Process => "process",
    }
}

fn write_mode(rule: &Rule) -> &'static str {
    match rule.write {
        WriteMode::Through => "through",
        WriteMode::L1Only => "l1-only",
    }
}

fn evict(rule: &Rule) -> &'static str {
    match rule.evict {
        Evict::AsNeeded => "as-needed",
        Evict::Never => "never",
    }
}

fn client_flags(rule: &Rule) -> &'static str {
    match rule.client_flags {
        ClientFlags::Refuse => "refuse",
        ClientFlags::NeverFillL2 => "never-fill-l2",
        ClientFlags::Frame => "frame",
        ClientFlags::Ignore => "ignore",
    }
}

fn on_write_error(rule: &Rule) -> &'static str {
    match rule.on_write_error {
        OnWriteError::Refuse => "refuse",
        OnWriteError::Publish => "publish",
    }
}
