//! Metrics for scrapers, made from the snapshot. Reading them disturbs nobody: what they remember
//! from one scrape to the next only keeps counters from falling.

mod format;
mod list;
mod marks;
mod meaning;
mod programs;
mod text;

pub(super) use format::Format;

use list::{Metric, POLICY, PROGRAM, TIER, WHOLE};
use marks::Marks;
use meaning::meaning;
use programs::Programs;
use serde_json::{Number, Value};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use text::{Kind, Text};

/// Rules that are told apart; all that a policy can have.
const POLICIES_MAX: usize = 256;

/// Makes metrics.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    marks: Marks,
    programs: Programs,
}

impl Metrics {
    /// The metrics of a snapshot and the clients, both in JSON.
    ///
    /// # Errors
    /// One of them is no JSON.
    pub(super) fn text(
        &self,
        snapshot: &str,
        clients: &str,
        format: Format,
    ) -> Result<String, serde_json::Error> {
        let snapshot: Value = serde_json::from_str(snapshot)?;
        let clients: Value = serde_json::from_str(clients)?;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = Text::new(format);
        state.whole(&mut text, &snapshot);
        tiers(&mut text, &snapshot["tiers"]);
        state.policies(&mut text, &snapshot["policies"]);
        state.programs(&mut text, &clients["clients"]);
        Ok(text.finish())
    }
}

impl State {
    fn whole(&mut self, text: &mut Text, snapshot: &Value) {
        let version = snapshot["daemon"]["version"].as_str().unwrap_or_default();
        let mut build = text.family("l1d_build_info", Kind::Gauge, "Always 1, for its labels.");
        build.add(&[("version", version)], &1.into());
        for metric in WHOLE {
            let Some(value) = value(snapshot, metric) else { continue };
            let value = match metric.path.starts_with("hits.") {
                true => self.highest(metric, "", value),
                false => value,
            };
            text.family(metric.name, metric.kind, &help(metric, "")).add(&[], &value);
        }
        let is_too_small = u8::from(!snapshot["index_advice"].is_null());
        let help = "1 if the index evicts entries because it is too small for them.";
        let mut family = text.family("l1d_table_index_too_small", Kind::Gauge, help);
        family.add(&[], &is_too_small.into());
    }

    fn policies(&mut self, text: &mut Text, policies: &Value) {
        let policies = policies.as_array().map(Vec::as_slice).unwrap_or_default();
        let policies: Vec<_> = labels(policies).into_iter().zip(policies).collect();
        let there: HashSet<&str> = policies.iter().map(|(label, _)| label.as_str()).collect();
        self.marks.keep(|label| label.is_empty() || there.contains(label));
        for metric in POLICY {
            let mut family = text.family(metric.name, metric.kind, &help(metric, "policies[]."));
            for (label, policy) in policies.iter().take(POLICIES_MAX) {
                let Some(value) = value(policy, metric) else { continue };
                let value = match metric.kind {
                    Kind::Counter => self.highest(metric, label, value),
                    Kind::Gauge => value,
                };
                family.add(&[("policy", label)], &value);
            }
        }
    }

    fn programs(&mut self, text: &mut Text, clients: &Value) {
        let clients = clients.as_array().map(Vec::as_slice).unwrap_or_default();
        let numbers = self.programs.follow(clients);
        let help_of_clients = "Connections of a user's program.";
        let mut family = text.family("l1d_program_connections", Kind::Gauge, help_of_clients);
        for (program, number) in numbers {
            let labels = [("uid", program.uid.as_str()), ("program", program.name.as_str())];
            family.add(&labels, &number.into());
        }
        for (at, metric) in PROGRAM.iter().enumerate() {
            let mut family = text.family(metric.name, metric.kind, &help(metric, "clients[]."));
            for (program, counts) in self.programs.sums() {
                let labels = [("uid", program.uid.as_str()), ("program", program.name.as_str())];
                family.add(&labels, &counts[at].into());
            }
        }
    }

    fn highest(&mut self, metric: &Metric, label: &str, value: Number) -> Number {
        value.as_u64().map_or(value, |value| self.marks.raise(metric.name, label, value).into())
    }
}

fn tiers(text: &mut Text, tiers: &Value) {
    let tiers = ["l2", "l3"].map(|name| (name, &tiers[name]));
    let mut configured = tiers.iter().filter(|(_, tier)| tier.is_object()).peekable();
    if configured.peek().is_none() {
        return;
    }
    let configured: Vec<_> = configured.collect();
    let help_of_up = "1 if the tier is in use, 0 if it is lost and left out.";
    let mut family = text.family("l1d_tier_up", Kind::Gauge, help_of_up);
    for (name, tier) in &configured {
        family.add(&[("tier", name)], &u8::from(tier["breaker"] == "closed").into());
    }
    for metric in TIER {
        let mut family = text.family(metric.name, metric.kind, &help(metric, "tiers.l2."));
        for (name, tier) in &configured {
            if let Some(value) = value(tier, metric) {
                family.add(&[("tier", name)], &value);
            }
        }
    }
}

/// The label of each rule. Prefixes that only differ in bytes that are no text get their number.
fn labels(policies: &[Value]) -> Vec<String> {
    let prefix = |policy: &Value| match policy["prefix"].as_str().unwrap_or_default() {
        "" => "[defaults]".to_owned(),
        prefix => prefix.to_owned(),
    };
    let mut counts: HashMap<String, usize> = HashMap::new();
    for policy in policies {
        *counts.entry(prefix(policy)).or_default() += 1;
    }
    let label = |policy: &Value| {
        let prefix = prefix(policy);
        match counts[&prefix] {
            1 if prefix.chars().count() <= text::LABEL_CHARS_MAX => prefix,
            _ => format!("#{} {prefix}", policy["id"]),
        }
    };
    policies.iter().map(label).collect()
}

/// A figure in base units; `None` if it is not known.
fn value(figures: &Value, metric: &Metric) -> Option<Number> {
    let number = figures.pointer(&format!("/{}", metric.path.replace('.', "/")))?.as_number()?;
    match metric.scale {
        1.0 => Some(number.clone()),
        scale => Number::from_f64(number.as_f64()? * scale),
    }
}

/// The meaning of a metric: that of its figure, in base units.
fn help(metric: &Metric, parent: &str) -> String {
    let meaning = meaning(&format!("{parent}{}", metric.path)).unwrap_or_default();
    let meaning = match metric.scale {
        1.0 => meaning.to_owned(),
        _ => meaning
            .replace("microseconds", "seconds")
            .replace("milliseconds", "seconds")
            .replace("in percent", "as a part of 1"),
    };
    // What JSON has instead of a sample that is left out.
    let end = meaning.find("; `null`").unwrap_or(meaning.len());
    let sentence = meaning[..end].trim_end_matches('.').replace('`', "");
    format!("{sentence}.")
}

#[cfg(test)]
mod tests;
