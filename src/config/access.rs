//! `[[access]]` and `[limits]`: the rights and limits of users and groups.

use super::rules::sections;
use super::section::{Section, Text, Wrong};
use super::value;
use crate::access::{Access, AccessRule, Keys, Named, Quota, Rights};
use comfy_table::{ContentArrangement, Table, presets};
use l1d_wire::policy::{PREFIX_BYTES_MAX, show_prefix};
use nix::unistd::{Group, User};
use serde_json::Value;
use std::ops::Range;
use toml::de::DeValue;

/// Rules; far more than anybody can keep in mind.
const RULES_MAX: usize = 1000;
/// Prefixes of one right.
const PREFIXES_MAX: usize = 256;
/// The smallest limit of bytes: room for requests of a usual size.
const BYTES_LEAST: u64 = 64 << 10;

/// The rules; their problems are collected in `text`.
pub(super) fn read<'a>(
    rules: Option<(&'a DeValue<'a>, Range<usize>)>,
    mut limits: Section<'a>,
    text: &'a Text<'a>,
) -> Access {
    let quota = quota(&mut limits);
    limits.finish(&[("clients_max", "write it under [daemon]")]);
    let sections = sections(rules, ("access", "[[access]]"), text);
    if let Some(first_too_many) = sections.get(RULES_MAX) {
        let message = format!("more than {RULES_MAX} rules; use groups");
        first_too_many.problem(first_too_many.at, &message);
    }
    let mut for_everyone: Option<usize> = None;
    let mut rules = Vec::new();
    for section in sections {
        let line = text.position(section.at).line;
        if let Some(earlier) = for_everyone {
            let message = format!(
                "this rule is never reached, because the one in line {earlier} is for everyone; \
                 move that to the end"
            );
            section.problem(section.at, &message);
        }
        let rule = rule(section, line);
        if rule.users.is_empty() && rule.groups.is_empty() {
            for_everyone = for_everyone.or(Some(line));
        }
        rules.push(rule);
    }
    Access::new(rules, quota)
}

fn rule(mut section: Section<'_>, line: usize) -> AccessRule {
    let users = section.read_or("user", Vec::new(), |value| named(value, "www-data", user_id));
    let groups = section.read_or("group", Vec::new(), |value| named(value, "l1d", group_id));
    let write = section.read_or("write", Keys::NONE, keys);
    let rights = Rights {
        attach: section.read_or("attach", true, value::truth),
        fetch: section.read_or("fetch", Keys::All, keys),
        delete: section.read_or("delete", write.clone(), keys),
        write,
        flush: section.read_or("flush", Keys::NONE, keys),
        observe: section.read_or("observe", true, value::truth),
        admin: section.read_or("admin", false, value::truth),
        quota: quota(&mut section),
    };
    if !rights.attach {
        let given = section.given();
        let others = ["fetch", "write", "delete", "flush", "observe", "admin"];
        if let Some(other) = given.iter().find(|key| others.contains(key)) {
            let message = format!("{other} means nothing with attach = false; remove one of them");
            section.problem(section.place(&[other]), &message);
        }
    }
    section.finish(&[
        ("read", "write fetch for the tiers; whoever may attach reads all that is in the table"),
        ("users", "did you mean user?"),
        ("groups", "did you mean group?"),
        ("uid", "did you mean user?"),
        ("gid", "did you mean group?"),
        ("prefix", "give the prefixes to a right: write = [\"page:\"]"),
    ]);
    // In a rule that has a wrong name, nobody is loaded: the configuration is refused.
    AccessRule { users, groups, line, rights }
}

/// The limits that a section sets for each user.
fn quota(section: &mut Section<'_>) -> Quota {
    let mut limit = |key| {
        let limit =
            section.read(key, |value| value::count(value, 1..=1_000_000).map(value::as_usize));
        limit.ok().flatten()
    };
    let [connections, mailboxes, fetches, writes] =
        ["connections_max", "mailboxes_max", "fetches_max", "writes_max"].map(&mut limit);
    let bytes = section.read("bytes_max", |value| {
        value::size(value, BYTES_LEAST..=1 << 40, "64MiB").map(value::as_usize)
    });
    let bytes = bytes.ok().flatten();
    Quota { connections, mailboxes, fetches, writes, bytes }
}

/// The keys of a right: all, none, or those with some prefixes.
fn keys(value: &DeValue<'_>) -> Result<Keys, Wrong> {
    const EXAMPLE: &str = "[\"page:\", \"session:\"]";
    let wrong = |what: String| Wrong::new(what, EXAMPLE);
    match value {
        DeValue::Boolean(true) => Ok(Keys::All),
        DeValue::Boolean(false) => Ok(Keys::NONE),
        DeValue::Array(items) => {
            if items.len() > PREFIXES_MAX {
                return Err(wrong(format!("has more than {PREFIXES_MAX} prefixes")));
            }
            let prefixes = items.iter().map(|item| match item.get_ref().as_str() {
                Some("") => Err(wrong(
                    "has an empty prefix, with which all keys begin (true stands for that)"
                        .to_owned(),
                )),
                Some(prefix) if prefix.len() > PREFIX_BYTES_MAX => {
                    Err(wrong(format!("has a prefix of more than {PREFIX_BYTES_MAX} bytes")))
                }
                Some(prefix) => Ok(prefix.as_bytes().to_vec()),
                None => {
                    Err(wrong(format!("has {}, which is no text", value::show(item.get_ref()))))
                }
            });
            prefixes.collect::<Result<_, _>>().map(Keys::With)
        }
        other => {
            let shown = value::show(other);
            Err(wrong(format!("{shown} is neither true nor false nor a list of prefixes")))
        }
    }
}

/// One user or group, or a list of them.
fn named(
    value: &DeValue<'_>,
    example: &str,
    id: fn(&str) -> Result<u32, String>,
) -> Result<Vec<Named>, Wrong> {
    let one = |value: &DeValue<'_>| {
        let name = match value {
            DeValue::String(name) if !name.is_empty() => name.to_string(),
            DeValue::Integer(number) => number.to_string(),
            other => {
                let what = format!("{} is no name and no number", value::show(other));
                return Err(Wrong::new(what, value::quoted(example)));
            }
        };
        let id = match name.parse() {
            // What the kernel says where it cannot tell.
            Ok(u32::MAX) => Err(format!("{name} is no user or group")),
            Ok(id) => Ok(id),
            Err(_) => id(&name),
        };
        let id = id.map_err(|what| Wrong::new(what, value::quoted(example)))?;
        Ok(Named { name, id })
    };
    match value {
        DeValue::Array(items) if items.is_empty() => {
            let what = "is an empty list, which would name nobody";
            Err(Wrong::new(what, format!("[{}]", value::quoted(example))))
        }
        DeValue::Array(items) => items.iter().map(|item| one(item.get_ref())).collect(),
        single => Ok(vec![one(single)?]),
    }
}

fn user_id(name: &str) -> Result<u32, String> {
    found(name, "user", User::from_name(name).map(|user| user.map(|user| user.uid.as_raw())))
}

fn group_id(name: &str) -> Result<u32, String> {
    found(name, "group", Group::from_name(name).map(|group| group.map(|group| group.gid.as_raw())))
}

fn found(name: &str, kind: &str, found: nix::Result<Option<u32>>) -> Result<u32, String> {
    match found {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(format!("{name:?}: this host has no such {kind}")),
        Err(errno) => {
            let why = errno.desc();
            Err(format!("{name:?} cannot be looked up: {why}; write its number"))
        }
    }
}

/// The rules in the order of the configuration.
pub(super) fn json(access: &Access) -> Value {
    let rules = access.rules().iter().map(|rule| {
        let ids = |named: &[Named]| -> Value { named.iter().map(|one| one.id).collect() };
        let names =
            |named: &[Named]| -> Value { named.iter().map(|one| one.name.as_str()).collect() };
        let mut shown = rule.rights.json();
        shown["line"] = rule.line.into();
        shown["user"] = names(&rule.users);
        shown["group"] = names(&rule.groups);
        shown["uids"] = ids(&rule.users);
        shown["gids"] = ids(&rule.groups);
        shown
    });
    rules.collect()
}

/// A table of the rules, or a sentence.
pub(super) fn text(access: &Access) -> String {
    if access.rules().is_empty() {
        return "access: no rules; whoever may connect may read, write, delete and flush all keys\n"
            .to_owned();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["line", "access", "fetch", "write", "delete", "flush", "observe", "admin"]);
    let keys = |keys: &Keys| match keys {
        Keys::All => "all".to_owned(),
        Keys::With(prefixes) if prefixes.is_empty() => "-".to_owned(),
        Keys::With(prefixes) => {
            prefixes.iter().map(|prefix| show_prefix(prefix)).collect::<Vec<_>>().join(" ")
        }
    };
    let truth = |truth: bool| if truth { "yes" } else { "-" }.to_owned();
    for rule in access.rules() {
        let rights = &rule.rights;
        let line = [rule.line.to_string(), rule.whom()];
        if rights.attach {
            let granted = [&rights.fetch, &rights.write, &rights.delete, &rights.flush].map(keys);
            let others = [truth(rights.observe), truth(rights.admin)];
            table.add_row(line.into_iter().chain(granted).chain(others));
        } else {
            table.add_row(line.into_iter().chain(["may not attach".to_owned()]));
        }
    }
    format!(
        "{}\nall others may not attach, but root and the daemon's own user may do all\n",
        table.trim_fmt()
    )
}
