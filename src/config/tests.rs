//! Every mistake gets its line and its advice.

use super::*;
use l1d_client::policy::{Scope, WriteMode};

fn refused(text: &str) -> String {
    Config::parse(text, "l1d.toml").expect_err("a mistake").to_string()
}

#[test]
fn the_shipped_example_says_what_it_should() {
    let text = include_str!("../../systemd/l1d.toml");
    let config = Config::parse(text, "systemd/l1d.toml").unwrap();
    for prefix in
        ["analysis:", "market:", "confluence:", "dashboard:", "system:", "unified:", "virtuoso:"]
    {
        let rule = config.policy.rule(format!("{prefix}x").as_bytes());
        assert_eq!(rule.prefix, prefix.as_bytes());
        assert_eq!(rule.scope, Scope::Host, "{prefix}");
    }
    for prefix in ["ohlcv:", "indicator:"] {
        let rule = config.policy.rule(format!("{prefix}x").as_bytes());
        assert_eq!((rule.scope, rule.ttl), (Scope::Process, Duration::from_secs(30)), "{prefix}");
    }
}

#[test]
fn what_a_policy_leaves_open_comes_from_the_defaults() {
    let config = Config::parse(
        "[defaults]\nttl = \"5s\"\nwrite = \"l1-only\"\n[[policy]]\nprefix = \"a:\"\nttl = \"1s\"\n",
        "l1d.toml",
    )
    .unwrap();
    let rule = config.policy.rule(b"a:1");
    assert_eq!((rule.ttl, rule.write), (Duration::from_secs(1), WriteMode::L1Only));
    assert_eq!(config.policy.rule(b"b").ttl, Duration::from_secs(5));
}

#[test]
fn mistakes_are_named_with_their_line_and_what_to_write() {
    let cases = [
        ("[table]\nsiez = \"1GiB\"\n", "l1d.toml:2:1: ", "size"),
        ("[[policy]]\nprefix = \"a:\"\nttl = \"2 parsecs\"\n", "l1d.toml:3:7: ", "\"30s\""),
        ("[defaults]\nttl = \"1ms\"\n", "l1d.toml:2:7: ", "at least 100ms"),
        ("[defaults]\nttl = \"48h\"\n", "l1d.toml:2:7: ", "ttl_max"),
        ("[table]\nsize = \"1MiB\"\n", "l1d.toml:2:8: ", "smallest that would do"),
        ("[table]\nsize = \"big\"\n", "l1d.toml:2:8: ", "\"256MiB\""),
        ("[table]\nmode = \"0666\"\n", "l1d.toml:2:8: ", "\"0640\""),
        (
            "[[policy]]\nprefix = \"a:\"\n[[policy]]\nprefix = \"a:\"\n",
            "l1d.toml:4:10: ",
            "keep one",
        ),
        ("[[policy]]\nprefix = \"\"\n", "l1d.toml:2:10: ", "[defaults]"),
        ("[defaults]\nvalue_bytes_max = \"2MiB\"\n", "l1d.toml:2:19: ", "raise [table]"),
        ("[defaults]\nscope = \"planet\"\n", "l1d.toml:2:9: ", "host"),
        ("[l2]\n", "l1d.toml:1:1: ", "address"),
        ("size = \n", "l1d.toml:1:", ""),
    ];
    for (text, place, advice) in cases {
        let error = refused(text);
        assert!(error.starts_with(place) && error.contains(advice), "{text:?}: {error}");
    }
}

#[test]
fn all_mistakes_are_named_at_once() {
    let error = refused("[defaults]\nttl = \"1ms\"\nl2_ttl = \"1ms\"\n");
    assert_eq!(error.lines().count(), 2, "{error}");
}
