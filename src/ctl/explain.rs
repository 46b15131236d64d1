//! `explain KEY`: one screen that says where a key stands, and why.

use super::clients::{program, user};
use super::screen::{Style, cell, size, span};
use super::{Failure, admin, other_release};
use crate::cli::print;
use l1d_client::Client;
use l1d_wire::snapshot::{Clients, Explanation, InTier, LastChange};
use serde_json::Value;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) fn show(client: &Client, key: &[u8], json: bool) -> Result<ExitCode, Failure> {
    let text = client.admin().explain_json(key)?;
    if json {
        print(format!("{text}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer = admin::parse(&text)?;
    let explanation: Explanation =
        serde_json::from_value(answer.clone()).map_err(|_| other_release("answer"))?;
    let author = match &explanation.last_change {
        Some(change) => author(change, &client.admin().clients_json()?),
        None => String::new(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    print(page(&answer, &explanation, &author, now, Style::of_output()))?;
    Ok(ExitCode::SUCCESS)
}

/// Who made a change: process, program and user. A pid may be another process's by now, so the
/// program is told only of a client that was connected at the time of the change.
pub(crate) fn author(change: &LastChange, clients: &str) -> String {
    let Some(uid) = change.uid else { return String::new() };
    let Some(pid) = change.pid else { return format!(" by a process of {}", user(uid)) };
    let clients: Clients = serde_json::from_str(clients).unwrap_or_default();
    let is_it = clients
        .clients
        .iter()
        .any(|client| client.pid == pid && (client.connected_seconds + 1) * 1000 >= change.age_ms);
    match program(pid.into()).filter(|_| is_it) {
        Some(program) => format!(" by process {pid} ({}) of {}", cell(&program), user(uid)),
        None => format!(" by process {pid} (not connected any more) of {}", user(uid)),
    }
}

fn page(
    answer: &Value,
    explanation: &Explanation,
    author: &str,
    now: Duration,
    style: Style,
) -> String {
    let mut page = String::new();
    let mut row = |label: &str, text: &str| style.row(&mut page, label, text);
    let key = answer["key"].as_str().unwrap_or_default();
    row("Key", &format!("{key} ({} bytes)", answer["key_bytes"]));
    row("Rule", &rule(&answer["policy"]));
    row("L1", &in_l1(explanation));
    row(
        "Last change",
        &match &explanation.last_change {
            None => "not known: long ago, or never".to_owned(),
            Some(change) => format!("{}{author}, {} ago", change.cause, life(change.age_ms)),
        },
    );
    row("L2 memcached", &in_tier(explanation.l2.as_ref()));
    row("L3 Redis", &in_tier(explanation.l3.as_ref()));
    row("Under way", &under_way(explanation));
    page.push('\n');
    style.paragraph(&mut page, &sentence_of(answer, explanation, now));
    page
}

fn rule(policy: &Value) -> String {
    let name = match policy["prefix"].as_str() {
        None | Some("") => "[defaults]".to_owned(),
        Some(prefix) => format!("{prefix:?}"),
    };
    let word = |name: &str| policy[name].as_str().unwrap_or("?").to_owned();
    let ttl = policy["ttl_ms"].as_u64().map_or("forever".to_owned(), life);
    let (scope, write) = (word("scope"), word("write"));
    let l2 = if policy["l2"] == false { ", leaves L2 out" } else { "" };
    let evict = if policy["evict"] == "never" { ", never evicted" } else { "" };
    format!("{name}: scope {scope}, at most {ttl} in L1{evict}, write {write}{l2}")
}

fn in_l1(explanation: &Explanation) -> String {
    let Some(held) = &explanation.in_table else { return "nothing".to_owned() };
    let what = match held.known_absent {
        true => "known to have no value".to_owned(),
        false => size(held.value_bytes),
    };
    format!("{what}, {}, version {}, flags {}", left(held.ttl_ms), held.version, held.flags)
}

fn in_tier(tier: Option<&InTier>) -> String {
    let Some(tier) = tier else { return "not asked: not configured, or left out".to_owned() };
    let why = tier.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    match tier.found {
        None => format!("not known{why}"),
        Some(false) => "nothing".to_owned(),
        Some(true) => {
            let same = match tier.same_as_l1 {
                None => "",
                Some(true) => ", the same bytes as in L1",
                Some(false) => ", not the same bytes as in L1",
            };
            let bytes = tier.value_bytes.map_or("a value".to_owned(), size);
            format!("{bytes}, {}{same}{why}", left(tier.ttl_ms))
        }
    }
}

fn under_way(explanation: &Explanation) -> String {
    let mut all = Vec::new();
    if explanation.write_under_way {
        all.push("a change on its way to the tiers".to_owned());
    }
    if explanation.flight_waiters > 0 {
        all.push(format!("a fetch, for which {} reads wait", explanation.flight_waiters));
    }
    if let Some(load) = explanation.load {
        let told = load.told_to_wait;
        all.push(format!("a load by one process; others were told to wait {told} times"));
    }
    if all.is_empty() { "nothing".to_owned() } else { all.join("; ") }
}

/// What an answer comes to, at this time since 1970.
pub(crate) fn sentence_of(answer: &Value, explanation: &Explanation, now: Duration) -> String {
    if answer["policy"]["scope"] == "process" {
        return "Each process keeps a copy of its own: its rule has scope = \"process\"."
            .to_owned();
    }
    sentence(explanation, now)
}

/// What it all comes to, for a key whose copy the host shares.
fn sentence(explanation: &Explanation, now: Duration) -> String {
    let Explanation { in_table, l2, l3, .. } = explanation;
    // The store of record: L3, or L2 where it is alone.
    let record = match (l2, l3) {
        (_, Some(l3)) => Some(("Redis", l3)),
        (Some(l2), None) => Some(("memcached", l2)),
        (None, None) => None,
    };
    if explanation.write_under_way {
        return "A change is on its way to the tiers: until they have taken it, every process of \
                this host reads what L1 holds now."
            .to_owned();
    }
    let Some(held) = in_table else {
        return match (l2, record) {
            (Some(InTier { found: Some(true), .. }), Some(("Redis", _))) => {
                "L1 holds nothing: the next read fetches memcached's value into L1.".to_owned()
            }
            (_, Some((name, InTier { found: Some(true), .. }))) => {
                format!("L1 holds nothing: the next read fetches {name}'s value into L1.")
            }
            (_, Some((_, InTier { found: Some(false), .. }))) => {
                "No process of this host finds a value, and neither do the tiers.".to_owned()
            }
            (_, Some((name, InTier { found: None, .. }))) => {
                format!("L1 holds nothing, and {name} does not answer: reads fail until it does.")
            }
            (_, None) => {
                "No process of this host finds a value until somebody sets one.".to_owned()
            }
        };
    };
    let ends = match held.ttl_ms {
        None => "until it is changed or evicted".to_owned(),
        Some(ms) => format!("until {} at the latest", clock(now + Duration::from_millis(ms))),
    };
    let within = |l2: Option<&InTier>| {
        // A copy in L2 comes before L3's value, and L1 keeps it no longer than L2 does.
        let l2 = l2.filter(|l2| l2.found == Some(true)).map(|l2| l2.ttl_ms);
        match (held.ttl_ms, l2.unwrap_or(Some(0))) {
            (Some(l1), Some(l2)) => format!("in {} at the latest", life(l1.max(l2))),
            _ => "only when the key is set or deleted".to_owned(),
        }
    };
    let is_other = |tier: &InTier| tier.found == Some(true) && tier.same_as_l1 == Some(false);
    match record {
        Some((name, tier)) if is_other(tier) => {
            let what = if held.known_absent { "a value" } else { "another value" };
            let within = within(l2.as_ref().filter(|_| name == "Redis"));
            format!("{name} holds {what}; L1 will show it {within}.")
        }
        Some((name, tier)) if tier.found == Some(false) && !held.known_absent => {
            let within = within(l2.as_ref().filter(|_| name == "Redis"));
            format!("{name} holds no value any more; L1 will show that {within}.")
        }
        _ if l2.as_ref().is_some_and(is_other) => {
            format!("memcached holds another value; L1 will show it {}.", within(None))
        }
        _ if held.known_absent => {
            format!("Every process of this host is told \"no value\" {ends}.")
        }
        _ => format!("Every process of this host reads this value {ends}."),
    }
}

/// A remaining life.
fn left(ms: Option<u64>) -> String {
    ms.map_or("without end".to_owned(), |ms| format!("{} left", life(ms)))
}

fn life(ms: u64) -> String {
    span(Duration::from_millis(ms))
}

/// The time of day at this time since 1970.
fn clock(at: Duration) -> String {
    let (days, second) = (at.as_secs() / 86_400, at.as_secs() % 86_400);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    let time = format!("{:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60);
    match days.saturating_sub(now) {
        0 => time,
        1 => format!("{time} tomorrow"),
        days => format!("{time} in {days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use l1d_wire::snapshot::{Cause, InTable};
    use serde_json::json;

    const HELD: InTable = InTable {
        version: 3,
        value_bytes: 10,
        entry_bytes: 64,
        flags: 0,
        known_absent: false,
        ttl_ms: Some(26_400),
        stored_under_policy: 1,
        segment: 0,
    };

    fn tier(found: Option<bool>, same_as_l1: Option<bool>) -> Option<InTier> {
        Some(InTier { found, same_as_l1, ..InTier::default() })
    }

    #[test]
    fn the_sentence_is_what_a_reader_will_see() {
        let now = Duration::from_secs(1000 * 86_400 + 43_445);
        let say = |in_table, l2, l3| {
            sentence(&Explanation { in_table, l2, l3, ..Explanation::default() }, now)
        };
        let (held, forever) = (Some(HELD), Some(InTable { ttl_ms: None, ..HELD }));
        let absent = Some(InTable { known_absent: true, ..HELD });
        let (same, other) = (tier(Some(true), Some(true)), tier(Some(true), Some(false)));
        let copy = |ttl_ms| Some(InTier { ttl_ms, ..same.clone().unwrap_or_default() });
        let (none, lost) = (tier(Some(false), None), tier(None, None));
        for (text, words) in [
            (say(held, None, same.clone()), "reads this value until 12:04:31 UTC at the latest."),
            (say(held, None, None), "reads this value until 12:04:31 UTC at the latest."),
            (say(held, None, lost.clone()), "reads this value until 12:04:31 UTC at the latest."),
            (say(forever, None, None), "reads this value until it is changed or evicted."),
            (
                say(held, none.clone(), other.clone()),
                "Redis holds another value; L1 will show it in 26 s at the latest.",
            ),
            (
                say(held, copy(Some(297_000)), other.clone()),
                "Redis holds another value; L1 will show it in 4 min 57 s at the latest.",
            ),
            (
                say(held, copy(Some(1000)), other.clone()),
                "Redis holds another value; L1 will show it in 26 s at the latest.",
            ),
            (say(held, copy(None), other.clone()), "only when the key is set or deleted."),
            (say(held, copy(None), none.clone()), "no value any more; L1 will show that only when"),
            (
                say(held, other.clone(), same.clone()),
                "memcached holds another value; L1 will show it in 26 s at the latest.",
            ),
            (say(held, other.clone(), None), "memcached holds another value; L1 will show it in"),
            (say(forever, None, other.clone()), "only when the key is set or deleted."),
            (say(held, None, none.clone()), "Redis holds no value any more; L1 will show that in"),
            (say(absent, None, other.clone()), "Redis holds a value; L1 will show it in 26 s"),
            (say(absent, None, none.clone()), "is told \"no value\" until 12:04:31"),
            (say(None, none.clone(), same.clone()), "the next read fetches Redis's value into L1."),
            (say(None, same, none.clone()), "the next read fetches memcached's value into L1."),
            (say(None, none.clone(), none), "and neither do the tiers."),
            (say(None, None, lost), "Redis does not answer: reads fail until it does."),
            (say(None, None, None), "until somebody sets one."),
        ] {
            assert!(text.ends_with(words) || text.contains(words), "{text:?} without {words:?}");
        }
    }

    #[test]
    fn the_screen_fits_whatever_the_key_is() {
        let answer = json!({
            "key": "k\x1b[2J ".repeat(50), "key_bytes": 300,
            "policy": { "prefix": "k", "scope": "host", "ttl_ms": 30_000, "write": "through" },
        });
        let change = LastChange { cause: Cause::Set, age_ms: 61_000, pid: Some(7), uid: Some(0) };
        let explanation = Explanation {
            in_table: Some(HELD),
            l3: tier(Some(true), Some(false)),
            last_change: Some(change),
            flight_waiters: 3,
            ..Explanation::default()
        };
        let by = author(&change, "{}");
        let page = page(&answer, &explanation, &by, Duration::ZERO, Style::plain());
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
        assert!(!page.contains('\x1b'), "{page}");
        let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            flat.contains("set by process 7 (not connected any more) of root, 1 min 1 s ago"),
            "{page}"
        );
        assert!(flat.contains("a fetch, for which 3 reads wait"), "{page}");
        assert!(flat.ends_with("L1 will show it in 26 s at the latest."), "{page}");
    }
}
