//! `[defaults]` and `[[policy]]`.

use l1d_wire::policy::{
    ClientFlags, Evict, OnWriteError, PINNED_PERMILLE_MAX, PREFIX_BYTES_MAX, PolicySet, RULES_MAX,
    Rule, Scope, WriteMode, show_prefix,
};
use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;
use toml::de::DeValue;

use super::Origins;
use super::read::TTL_MIN;
use super::section::{Reported, Section, Text, Wrong};
use super::units::{show_duration, show_size};
use super::value;

/// Longest TTL below L1; anything longer is written as "forever".
const TIER_TTL_MAX: Duration = Duration::from_secs(3650 * 24 * 3600);
/// memcached counts TTLs in seconds.
const L2_TTL_MIN: Duration = Duration::from_secs(1);

/// Limits that `[table]` sets for all rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleLimits {
    pub ttl: Duration,
    pub value_bytes: u32,
}

/// The policy; `None` if a rule is missing because of a problem.
pub(super) fn policy<'a>(
    mut defaults: Section<'a>,
    policy: Option<(&'a DeValue<'a>, Range<usize>)>,
    limits: RuleLimits,
    origins: &mut Origins,
    text: &'a Text<'a>,
) -> Option<PolicySet> {
    let builtin = Rule::default();
    let builtin = Rule {
        ttl: builtin.ttl.min(limits.ttl),
        negative_ttl: builtin.negative_ttl.min(limits.ttl),
        value_bytes_max: limits.value_bytes,
        ..builtin
    };
    let default = rule(&mut defaults, &builtin, limits);
    origins.note(b"", defaults.given());
    let mut pinned = 0;
    check_evict(&defaults, &default, &mut pinned);
    let no_prefix = "[defaults] applies to all keys; give a prefix its own rule under [[policy]]";
    defaults.finish(&[("prefix", no_prefix), ("prefix_hex", no_prefix)]);

    let mut rules = vec![default];
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    let sections = sections(policy, ("policy", "[[policy]]"), text);
    if let Some(first_too_many) = sections.get(RULES_MAX - 1) {
        let (count, most) = (sections.len(), RULES_MAX - 1);
        first_too_many.problem(
            first_too_many.at,
            &format!(
                "{count} rules are more than {most}; remove {}, or merge several under a shorter \
                 prefix",
                count - most
            ),
        );
    }
    for mut section in sections {
        let prefix = prefix(&mut section);
        let rule = rule(&mut section, &rules[0], limits);
        let at = section.place(&["prefix", "prefix_hex"]);
        if let Ok(prefix) = prefix {
            origins.note(&prefix, section.given());
            check_evict(&section, &rule, &mut pinned);
            match places.insert(prefix.clone(), at) {
                Some(first) => {
                    let line = text.position(first).line;
                    let message = format!(
                        "the rule in line {line} has the same prefix; remove one of the two, or \
                         make one prefix longer"
                    );
                    section.problem(at, &message);
                    places.insert(prefix, first);
                }
                None => rules.push(Rule { prefix, ..rule }),
            }
        }
        section.finish(&[("name", "remove it: a rule is named by its prefix")]);
    }
    for (id, rule) in rules.iter_mut().enumerate() {
        // If there are more rules than ids, that was reported above and the set is refused.
        rule.id = u8::try_from(id).unwrap_or(u8::MAX);
    }
    PolicySet::new(rules).ok()
}

/// Whether a rule that never evicts can keep that. `pinned` is the share that such rules take.
fn check_evict(section: &Section<'_>, rule: &Rule, pinned: &mut u32) {
    if rule.evict != Evict::Never {
        return;
    }
    let at = section.place(&["evict", "share_max", "prefix", "prefix_hex"]);
    if rule.scope == Scope::Process {
        section.problem(
            at,
            "evict = \"never\" holds for entries of the table, and scope = \"process\" keeps copies \
             in each process; write scope = \"host\"",
        );
    }
    let Some(share) = rule.share_max_permille else {
        section.problem(
            at,
            "evict = \"never\" needs a bound on what it keeps; write for example share_max = \"5%\"",
        );
        return;
    };
    *pinned += u32::from(share);
    if *pinned > u32::from(PINNED_PERMILLE_MAX) {
        let percent = |permille: u32| f64::from(permille) / 10.0;
        let (all, most) = (percent(*pinned), percent(PINNED_PERMILLE_MAX.into()));
        section.problem(
            at,
            &format!(
                "with this rule, those with evict = \"never\" may take {all}% of the table, and \
                 {most}% is the most that can be kept for them; lower its share_max, or remove evict"
            ),
        );
    }
}

/// The sections of a list of rules with this key and title.
pub(super) fn sections<'a>(
    list: Option<(&'a DeValue<'a>, Range<usize>)>,
    (key, title): (&str, &str),
    text: &'a Text<'a>,
) -> Vec<Section<'a>> {
    let Some((value, span)) = list else { return Vec::new() };
    let wrong = |at: usize| {
        text.problem(at, format!("{key} is a list of rules; write {title} above each of them"));
    };
    let DeValue::Array(items) = value else {
        wrong(span.start);
        return Vec::new();
    };
    let mut sections = Vec::new();
    for item in items {
        match item.get_ref() {
            DeValue::Table(table) => {
                sections.push(Section::new(title, item.span().start, Some(table), text));
            }
            _ => wrong(item.span().start),
        }
    }
    sections
}

/// The prefix of a rule, which becomes the section's title.
fn prefix(section: &mut Section<'_>) -> Result<Vec<u8>, Reported> {
    const EXAMPLE: &str = "analysis:";
    let text = section.read("prefix", |value| {
        let text = value.as_str().ok_or_else(|| {
            let what = format!("{} is not a text", value::show(value));
            Wrong::new(what, value::quoted(EXAMPLE))
        })?;
        Ok(text.as_bytes().to_vec())
    })?;
    let hex = section.read("prefix_hex", |value| {
        value.as_str().and_then(parse_hex).ok_or_else(|| {
            let what = format!("{} is not pairs of hexadecimal digits", value::show(value));
            Wrong::new(what, value::quoted("00ff"))
        })
    })?;
    let at = section.place(&["prefix_hex", "prefix"]);
    let prefix =
        match (text, hex) {
            (Some(prefix), None) | (None, Some(prefix)) => prefix,
            (None, None) => {
                return Err(section
                    .problem(at, "prefix is missing; write for example prefix = \"analysis:\""));
            }
            (Some(_), Some(_)) => {
                return Err(section
                    .problem(at, "prefix and prefix_hex say the same thing; remove one of them"));
            }
        };
    if prefix.is_empty() {
        return Err(section.problem(
            at,
            "an empty prefix matches all keys; write its keys under [defaults] instead",
        ));
    }
    if prefix.len() > PREFIX_BYTES_MAX {
        let bytes = prefix.len();
        return Err(section
            .problem(at, &format!("a prefix of {bytes} bytes; write at most {PREFIX_BYTES_MAX}")));
    }
    section.title = format!("[[policy]] {}", show_prefix(&prefix));
    Ok(prefix)
}

/// A rule without its prefix. Keys that the section omits are taken from `template`.
fn rule(section: &mut Section<'_>, template: &Rule, limits: RuleLimits) -> Rule {
    let scopes = [("host", Scope::Host), ("process", Scope::Process)];
    let writes = [("through", WriteMode::Through), ("l1-only", WriteMode::L1Only)];
    let flags = [
        ("refuse", ClientFlags::Refuse),
        ("never-fill-l2", ClientFlags::NeverFillL2),
        ("frame", ClientFlags::Frame),
        ("ignore", ClientFlags::Ignore),
    ];
    let evictions = [("as-needed", Evict::AsNeeded), ("never", Evict::Never)];
    let failures = [("refuse", OnWriteError::Refuse), ("publish", OnWriteError::Publish)];
    Rule {
        id: 0,
        prefix: Vec::new(),
        scope: section.read_or("scope", template.scope, |value| value::choice(value, &scopes)),
        ttl: section.read_or("ttl", template.ttl, |value| ttl(value, TTL_MIN, limits, "30s")),
        l2_ttl: section.read_or("l2_ttl", template.l2_ttl, |value| {
            value::duration(value, L2_TTL_MIN..=TIER_TTL_MAX, "5m")
        }),
        l3_ttl: section.read_or("l3_ttl", template.l3_ttl, |value| match value.as_str() {
            Some("forever") => Ok(None),
            _ => value::duration(value, TTL_MIN..=TIER_TTL_MAX, "forever").map(Some),
        }),
        negative_ttl: section.read_or("negative_ttl", template.negative_ttl, |value| {
            match ttl(value, Duration::ZERO, limits, "1s")? {
                Duration::ZERO => Ok(Duration::ZERO),
                short if short < TTL_MIN => {
                    let what = format!("{} is less than 100ms and not 0s", value::show(value));
                    Err(Wrong::new(what, value::quoted("100ms")))
                }
                ttl => Ok(ttl),
            }
        }),
        write: section.read_or("write", template.write, |value| value::choice(value, &writes)),
        on_write_error: section.read_or("on_write_error", template.on_write_error, |value| {
            value::choice(value, &failures)
        }),
        value_bytes_max: section.read_or("value_bytes_max", template.value_bytes_max, |value| {
            let bytes = value::size(value, 1..=u64::MAX, "1MiB")?;
            let most = (limits.value_bytes.into(), "value_bytes_max of [table]");
            value::within(value, bytes, most, show_size).map(value::as_u32)
        }),
        share_max_permille: section.read_or("share_max", template.share_max_permille, |value| {
            value::share(value, "20%").map(Some)
        }),
        evict: section.read_or("evict", template.evict, |value| value::choice(value, &evictions)),
        l2: section.read_or("l2", template.l2, value::truth),
        client_flags: section
            .read_or("client_flags", template.client_flags, |value| value::choice(value, &flags)),
    }
}

/// A life in L1.
fn ttl(
    value: &DeValue<'_>,
    least: Duration,
    limits: RuleLimits,
    example: &str,
) -> Result<Duration, Wrong> {
    let ttl = value::duration(value, least..=Duration::MAX, example)?;
    value::within(value, ttl, (limits.ttl, "ttl_max of [table]"), show_duration)
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits =
        text.bytes().map(|byte| char::from(byte).to_digit(16)).collect::<Option<Vec<_>>>()?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}
