//! Reading the configuration again and bringing its policy into force, while service continues.
//!
//! A thread reads and checks the file. What may not stay in the table is hidden in the turn in which
//! the configuration arrives, and from then on requests follow the new policy; keys that belong to
//! another rule than before are removed by a walk over the index, some buckets a turn. Whoever asked
//! is answered after that.

use super::Owner;
use super::admin::{Task, reply_json};
use crate::config::{Config, ConfigReader, changed_settings, rule_json};
use crate::doors::{Origin, Replies};
use crate::manager::Reloads;
use crate::table::RuleChange;
use l1d_wire::policy::{PolicySet, Rule, show_prefix};
use l1d_wire::protocol::{ErrorCode, Response};
use l1d_wire::words;
use serde_json::{Value, json};

/// Settings outside the policy that a reload applies, besides those of `[limits]`.
const APPLIED: [&str; 4] =
    ["[[access]]", "[table] ttl_max", "[table] absent_share_max", "[table] fit_index"];

/// The configuration, and reloads of it.
#[derive(Debug, Default)]
pub(super) struct Reloading {
    /// The configuration as it was read last.
    pub(super) config: Config,
    /// The configuration of the start, with the settings applied since.
    in_force: Config,
    reader: Option<ConfigReader>,
    /// Those who wait for the reload under way.
    waiting: Vec<Origin>,
    /// For the service manager, too.
    pub(super) reloads: Reloads,
    /// Those who asked meanwhile: the file may have changed after it was read.
    later: Vec<Origin>,
    is_wanted_again: bool,
    /// The answer to those who wait, except for the result of the walk.
    report: Value,
}

impl Reloading {
    pub(super) fn gone(&mut self, origin: Origin) {
        self.waiting.retain(|waiting| *waiting != origin);
        self.later.retain(|later| *later != origin);
    }
}

impl Owner {
    /// The configuration that the owner was made from, and how to read it again. The reader's
    /// descriptor is registered as [`Token::CONFIG`](crate::reactor::Token::CONFIG).
    pub fn watch_config(&mut self, config: Config, reader: ConfigReader) {
        self.reloading.config = config.clone();
        self.reloading.in_force = config;
        self.reloading.reader = Some(reader);
    }

    /// Begins a reload, or has one follow the one under way. `origin` waits for it.
    pub(super) fn begin_reload(&mut self, origin: Option<Origin>, replies: &mut dyn Replies) {
        let reloading = &mut self.reloading;
        reloading.reloads.asked += 1;
        if reloading.reloads.is_under_way {
            reloading.later.extend(origin);
            reloading.is_wanted_again = true;
            return;
        }
        reloading.reloads.is_under_way = true;
        reloading.waiting.extend(origin);
        let begun = match &mut reloading.reader {
            Some(reader) if reader.source().file.is_some() => reader.begin().map_err(|error| {
                let error = words::of(&error);
                format!("no thread to read the file: {error}; raise the limit on threads")
            }),
            _ => {
                Err("the daemon was started without --config, so there is no file to read again; \
                      restart it with one"
                    .to_owned())
            }
        };
        if let Err(message) = begun {
            self.refuse_reload(&message, replies);
        }
    }

    /// The configuration may have been read.
    pub(super) fn config_read(&mut self, replies: &mut dyn Replies) {
        match self.reloading.reader.as_mut().and_then(ConfigReader::take) {
            None => {}
            Some(Ok(config)) => self.bring_into_force(config, replies),
            Some(Err(error)) => self.refuse_reload(&error.to_string(), replies),
        }
    }

    fn refuse_reload(&mut self, message: &str, replies: &mut dyn Replies) {
        for line in message.lines() {
            tracing::error!("the configuration was not reloaded, and nothing has changed: {line}");
        }
        let message = format!("nothing has changed: {message}");
        for origin in std::mem::take(&mut self.reloading.waiting) {
            let code = ErrorCode::Refused;
            replies.reply(origin, &Response::Error { code, message: &message });
        }
        self.end_reload(replies);
    }

    pub(super) fn bring_into_force(&mut self, config: Config, replies: &mut dyn Replies) {
        let (applied, needs_restart) = self.apply_settings(&config);
        self.follow_access(&config.access, replies);
        let before = self.policy.clone();
        let change = self.tables.begin_policy(&config.policy);
        self.follow_policy();
        let rules = describe(&before, &self.policy, &change.rules);
        for rule in &rules {
            tracing::info!("reloaded: {}", rule["change"].as_str().unwrap_or_default());
        }
        for setting in &applied {
            tracing::info!("reloaded: {setting} is applied");
        }
        for setting in &needs_restart {
            tracing::warn!("reloaded: {setting} has changed and needs a restart");
        }
        self.reloading.config = config;
        self.reloading.report = json!({
            "rules": rules,
            "applied": applied,
            "needs_restart": needs_restart,
        });
        if change.must_walk {
            self.tasks.add_own(Task::WalkPolicy { next: 0, removed: 0, in_successor: false });
        } else {
            self.policy_in_force(0, replies);
        }
    }

    /// Applies the settings outside the policy that can be. Returns these, and those that cannot.
    fn apply_settings(&mut self, config: &Config) -> (Vec<String>, Vec<String>) {
        let changed = changed_settings(&self.reloading.in_force, config);
        let is_applied = |setting: &String| {
            APPLIED.contains(&setting.as_str()) || setting.starts_with("[limits]")
        };
        let (applied, needs_restart): (Vec<_>, Vec<_>) = changed.into_iter().partition(is_applied);
        self.reloading.in_force.access = config.access.clone();
        let in_force = &mut self.reloading.in_force.table;
        in_force.ttl_max = config.table.ttl_max;
        in_force.absent_share_max_permille = config.table.absent_share_max_permille;
        in_force.fit_index = config.table.fit_index;
        self.ttl_max = config.table.ttl_max;
        self.tables.limit_absences(Some(config.table.absent_share_max_permille));
        self.fit_index(config.table.fit_index);
        (applied, needs_restart)
    }

    /// The table's policy has changed: everything that depends on it follows.
    fn follow_policy(&mut self) {
        let before = std::mem::replace(&mut self.policy, self.tables.policy().clone());
        self.policy_hits.follow(&before, &self.policy);
        self.tables.limit_policies();
        let policy = &self.policy;
        // Fetched values are checked against their rule when they land, written ones here.
        self.flights.renumber(|key| policy.rule(key).id);
        self.writes.renumber(|key| policy.rule(key));
        if let Some(below) = &mut self.below {
            below.allow_l2_ttl(policy.l2_ttl_max());
        }
        let bytes = policy.encode();
        if bytes != self.policy_bytes {
            // Clients ask for it from here on.
            self.policy_bytes = bytes;
            self.tables.announce_policy();
        }
    }

    /// The walk has ended, or none was needed: the reload is in force, and is acknowledged.
    pub(super) fn policy_in_force(&mut self, removed: u64, replies: &mut dyn Replies) {
        self.tables.settle_policy();
        let mut report = std::mem::take(&mut self.reloading.report);
        report["entries_of_other_rules_dropped"] = removed.into();
        tracing::info!(
            rules = self.policy.rules().len(),
            entries_of_other_rules_dropped = removed,
            "the configuration was reloaded"
        );
        for origin in std::mem::take(&mut self.reloading.waiting) {
            reply_json(origin, &report, replies);
        }
        self.end_reload(replies);
    }

    fn end_reload(&mut self, replies: &mut dyn Replies) {
        let reloading = &mut self.reloading;
        reloading.reloads.is_under_way = false;
        if std::mem::take(&mut reloading.is_wanted_again) {
            reloading.waiting = std::mem::take(&mut reloading.later);
            self.begin_reload(None, replies);
        }
    }

    /// Why a rule holds for `key`: the prefixes that match, and where each setting comes from.
    pub(super) fn rule_reasons(&self, key: &[u8]) -> Value {
        let rule = self.policy.rule(key);
        let mut matching: Vec<&Rule> =
            self.policy.rules().iter().filter(|rule| key.starts_with(&rule.prefix)).collect();
        matching.sort_by_key(|rule| std::cmp::Reverse(rule.prefix.len()));
        let show = |rule: &Rule| match rule.prefix.as_slice() {
            [] => "[defaults], which holds for all keys".to_owned(),
            prefix => show_prefix(prefix),
        };
        json!({
            "rule": show(rule),
            "rule_number": rule.id,
            "because": "the longest prefix that the key begins with",
            "matching": matching.into_iter().map(show).collect::<Vec<_>>(),
            "settings": self.reloading.config.origins.settings(rule),
        })
    }
}

/// What has happened to each rule that differs.
fn describe(before: &PolicySet, now: &PolicySet, dropping: &[RuleChange]) -> Vec<Value> {
    let by_prefix = |policy: &PolicySet, prefix: &[u8]| {
        policy.rules().iter().find(|rule| rule.prefix == prefix).map(rule_json)
    };
    let mut rules: Vec<Value> = dropping
        .iter()
        .map(|change| {
            let settings = differences(
                by_prefix(before, &change.prefix).as_ref(),
                by_prefix(now, &change.prefix).as_ref(),
            );
            entry(&change.prefix, change.to_string(), &settings)
        })
        .collect();
    for rule in now.rules() {
        let settings =
            differences(by_prefix(before, &rule.prefix).as_ref(), Some(&rule_json(rule)));
        if !settings.is_empty() && !dropping.iter().any(|change| change.prefix == rule.prefix) {
            let text = RuleChange::kept(&rule.prefix).to_string();
            rules.push(entry(&rule.prefix, text, &settings));
        }
    }
    rules
}

fn entry(prefix: &[u8], mut change: String, settings: &[String]) -> Value {
    if !settings.is_empty() {
        change = format!("{change} ({})", settings.join(", "));
    }
    json!({ "prefix": String::from_utf8_lossy(prefix), "change": change })
}

/// The settings in which two rules of one prefix differ.
fn differences(before: Option<&Value>, now: Option<&Value>) -> Vec<String> {
    let (Some(Value::Object(before)), Some(Value::Object(now))) = (before, now) else {
        return Vec::new();
    };
    now.iter()
        .filter(|(name, value)| name.as_str() != "id" && before.get(*name) != Some(value))
        .map(|(name, value)| {
            format!("{name} {} -> {value}", before.get(name).unwrap_or(&Value::Null))
        })
        .collect()
}
