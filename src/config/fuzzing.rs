//! Target: any text as a configuration.

use super::{Config, changed_settings, policy_json};
use l1d_wire::policy::PolicySet;

/// Reads a configuration and, if it is one, passes its policy on as the daemon does.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Config::from_str(&text, "l1d.toml") {
        Ok(config) => {
            let decoded = PolicySet::decode(&config.policy.encode()).expect("clients can read it");
            assert_eq!(decoded.rules().len(), config.policy.rules().len());
            for (rule, told) in config.policy.rules().iter().zip(decoded.rules()) {
                assert_eq!((&rule.prefix, rule.ttl), (&told.prefix, told.ttl));
                assert_eq!(config.policy.rule(&rule.prefix).prefix, rule.prefix);
            }
            // A table of these sizes can be made, or is refused with a reason.
            let _ = shm_layout::Geometry::plan(&config.table.plan());
            let _ = changed_settings(&Config::default(), &config);
            let _ = policy_json(&config.policy);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The documented configuration, the shipped one, and parts of them.
#[cfg(test)]
pub fn seeds() -> Vec<Vec<u8>> {
    let shipped = include_str!("../../systemd/l1d.toml");
    let documented = include_str!("mod.rs").lines().filter_map(|line| line.strip_prefix("//! "));
    let documented: Vec<&str> = documented.filter(|line| line.contains(" = ")).collect();
    let rules = "[defaults]\nttl = \"5s\"\n[[policy]]\nprefix = \"a:\"\nscope = \"process\"\n\
        write = \"l1-only\"\n[[policy]]\nprefix_hex = \"00ff\"\n\
        evict = \"never\"\nshare_max = \"5%\"\n";
    let tiers = "[l2]\naddress = \"unix:/run/m.sock\"\ndeadline = \"1ms\"\n\
        [l3]\nurl = \"rediss://u:p@[::1]:1/7?protocol=resp3\"\n";
    let wrong = "[table]\nsize = 3\n[[policy]]\nprefix = 1\nttl = \"-1s\"\n[defaults]\nno = []\n";
    [shipped, &documented.join("\n"), rules, tiers, wrong]
        .map(|text| text.as_bytes().to_vec())
        .into()
}
