//! `[defaults]` and `[[policy]]`.

use super::values::{Lifetime, Size, Span};
use l1d_client::policy::{OnWriteError, PREFIX_BYTES_MAX, RULES_MAX, Rule, Scope, WriteMode};
use serde::Deserialize;
use std::time::Duration;
use toml::Spanned;

/// The shortest life: expiry is kept in ticks of 16.8 ms, and rounded down by up to two.
const TTL_MIN: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ScopeName {
    Host,
    Process,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum WriteName {
    #[serde(rename = "through")]
    Through,
    #[serde(rename = "l1-only")]
    L1Only,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OnWriteErrorName {
    Refuse,
    Publish,
}

/// What `[defaults]` and each `[[policy]]` may say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Defaults {
    scope: Option<ScopeName>,
    ttl: Option<Spanned<Span>>,
    l2_ttl: Option<Spanned<Span>>,
    l3_ttl: Option<Spanned<Lifetime>>,
    negative_ttl: Option<Spanned<Span>>,
    write: Option<WriteName>,
    on_write_error: Option<OnWriteErrorName>,
    value_bytes_max: Option<Spanned<Size>>,
}

/// One `[[policy]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyText {
    prefix: Spanned<String>,
    scope: Option<ScopeName>,
    ttl: Option<Spanned<Span>>,
    l2_ttl: Option<Spanned<Span>>,
    l3_ttl: Option<Spanned<Lifetime>>,
    negative_ttl: Option<Spanned<Span>>,
    write: Option<WriteName>,
    on_write_error: Option<OnWriteErrorName>,
    value_bytes_max: Option<Spanned<Size>>,
}

/// A complaint about the text at this byte.
pub(super) type Complaint = (usize, String);

/// The rules in the order of the file, the default rule first.
pub(super) fn rules(
    defaults: Defaults,
    policies: Vec<Spanned<PolicyText>>,
    table_value_bytes_max: u32,
    ttl_max: Duration,
    line_of: impl Fn(usize) -> usize,
    complaints: &mut Vec<Complaint>,
) -> Vec<Rule> {
    let built_in = Rule {
        id: 0,
        prefix: Vec::new(),
        scope: Scope::Host,
        ttl: Duration::from_secs(30).min(ttl_max),
        l2_ttl: Duration::from_secs(300),
        l3_ttl: None,
        negative_ttl: Duration::from_secs(1).min(ttl_max),
        write: WriteMode::Through,
        on_write_error: OnWriteError::Refuse,
        value_bytes_max: table_value_bytes_max,
    };
    let limits = (table_value_bytes_max, ttl_max);
    let default = overlay(&built_in, defaults, limits, complaints);
    let mut rules = vec![default];
    let mut seen: Vec<(String, usize)> = Vec::new();
    for policy in policies {
        let at = policy.span().start;
        let policy = policy.into_inner();
        let prefix_at = policy.prefix.span().start;
        let prefix = policy.prefix.into_inner();
        if prefix.is_empty() {
            complaints.push((
                prefix_at,
                "prefix \"\" matches every key; write these settings under [defaults]".into(),
            ));
            continue;
        }
        if prefix.len() > PREFIX_BYTES_MAX {
            complaints.push((prefix_at, format!("a prefix has at most {PREFIX_BYTES_MAX} bytes")));
        }
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == prefix) {
            complaints.push((
                prefix_at,
                format!(
                    "prefix {prefix:?} has a rule in line {} already; keep one of them",
                    line_of(*first)
                ),
            ));
            continue;
        }
        seen.push((prefix.clone(), prefix_at));
        let Ok(id) = u8::try_from(rules.len()) else {
            complaints.push((at, format!("a policy has at most {} rules", RULES_MAX - 1)));
            break;
        };
        let text = Defaults {
            scope: policy.scope,
            ttl: policy.ttl,
            l2_ttl: policy.l2_ttl,
            l3_ttl: policy.l3_ttl,
            negative_ttl: policy.negative_ttl,
            write: policy.write,
            on_write_error: policy.on_write_error,
            value_bytes_max: policy.value_bytes_max,
        };
        let rule = overlay(&rules[0].clone(), text, limits, complaints);
        rules.push(Rule { id, prefix: prefix.into_bytes(), ..rule });
    }
    rules
}

/// `base` with what `text` says.
fn overlay(
    base: &Rule,
    text: Defaults,
    (value_bytes_max, ttl_max): (u32, Duration),
    complaints: &mut Vec<Complaint>,
) -> Rule {
    let mut rule = base.clone();
    if let Some(scope) = text.scope {
        rule.scope = match scope {
            ScopeName::Host => Scope::Host,
            ScopeName::Process => Scope::Process,
        };
    }
    let mut life = |name: &str, text: Option<Spanned<Span>>, zero: bool, max: Duration| {
        let text = text?;
        let (at, Span(ttl)) = (text.span().start, text.into_inner());
        if ttl < TTL_MIN && !(zero && ttl.is_zero()) {
            let zero = if zero { ", or \"0s\" for none" } else { "" };
            complaints.push((at, format!("{name} is at least 100ms{zero}")));
        } else if ttl > max {
            let most = humantime::format_duration(max);
            complaints.push((at, format!("{name} is at most {most} ([table] ttl_max)")));
        }
        Some(ttl)
    };
    let forever = Duration::MAX;
    rule.ttl = life("ttl", text.ttl, false, ttl_max).unwrap_or(rule.ttl);
    rule.l2_ttl = life("l2_ttl", text.l2_ttl, false, forever).unwrap_or(rule.l2_ttl);
    rule.negative_ttl =
        life("negative_ttl", text.negative_ttl, true, ttl_max).unwrap_or(rule.negative_ttl);
    if let Some(text) = text.l3_ttl {
        let (at, Lifetime(ttl)) = (text.span().start, text.into_inner());
        if ttl.is_some_and(|ttl| ttl < TTL_MIN) {
            complaints.push((at, "l3_ttl is at least 100ms, or \"forever\"".into()));
        }
        rule.l3_ttl = ttl;
    }
    if let Some(write) = text.write {
        rule.write = match write {
            WriteName::Through => WriteMode::Through,
            WriteName::L1Only => WriteMode::L1Only,
        };
    }
    if let Some(on_write_error) = text.on_write_error {
        rule.on_write_error = match on_write_error {
            OnWriteErrorName::Refuse => OnWriteError::Refuse,
            OnWriteErrorName::Publish => OnWriteError::Publish,
        };
    }
    if let Some(text) = text.value_bytes_max {
        let (at, Size(bytes)) = (text.span().start, text.into_inner());
        match u32::try_from(bytes) {
            Ok(bytes) if bytes <= value_bytes_max => rule.value_bytes_max = bytes,
            _ => complaints.push((
                at,
                format!(
                    "value_bytes_max is at most the table's, {value_bytes_max} bytes; \
                     lower it or raise [table] value_bytes_max"
                ),
            )),
        }
    }
    rule
}
