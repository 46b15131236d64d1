//! Where each setting of a rule was written.

use super::rule_json;
use l1d_wire::policy::Rule;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// By prefix, the settings that its section gives; the empty prefix stands for `[defaults]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins(BTreeMap<Vec<u8>, Vec<&'static str>>);

impl Origins {
    /// The section of `prefix` gives these settings.
    pub(super) fn note(&mut self, prefix: &[u8], settings: Vec<&'static str>) {
        if !settings.is_empty() {
            self.0.insert(prefix.to_vec(), settings);
        }
    }

    /// Whether the section of `prefix`, or `[defaults]`, gives this setting.
    pub(super) fn gives(&self, prefix: &[u8], setting: &str) -> bool {
        let given = |prefix: &[u8]| self.0.get(prefix).is_some_and(|all| all.contains(&setting));
        given(prefix) || given(b"")
    }

    /// Each setting of `rule`, as in [`rule_json`], with the section that it comes from.
    #[must_use]
    pub fn settings(&self, rule: &Rule) -> Value {
        let gives = |prefix: &[u8], name: &str| {
            // JSON names end with the unit.
            let is_it = |setting: &&str| name.strip_prefix(*setting).is_some_and(is_unit);
            self.0.get(prefix).is_some_and(|settings| settings.iter().any(is_it))
        };
        let Value::Object(settings) = rule_json(rule) else { return Value::Null };
        let settings = settings
            .into_iter()
            .filter(|(name, _)| !["id", "prefix", "prefix_hex"].contains(&name.as_str()))
            .map(|(name, value)| {
                let origin = if !rule.prefix.is_empty() && gives(&rule.prefix, &name) {
                    "the rule"
                } else if gives(b"", &name) {
                    "[defaults]"
                } else {
                    "built in, within the limits of [table]"
                };
                let setting = json!({ "value": value, "from": origin });
                (name, setting)
            });
        Value::Object(settings.collect::<Map<_, _>>())
    }
}

fn is_unit(suffix: &str) -> bool {
    ["", "_ms", "_percent"].contains(&suffix)
}
