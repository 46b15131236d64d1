//! Would catch: a configuration with an error that starts a daemon, an error without its place or
//! without advice, a rule that inherits from the wrong place, an example that is refused.

use super::*;
use l1d_wire::policy::{ClientFlags, Evict, OnWriteError, Rule, Scope, WriteMode};
use proptest::prelude::*;
use shm_layout::Geometry;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

mod reasons;
mod wrong;

fn config(text: &str) -> Config {
    Config::from_str(text, "l1d.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn error(text: &str) -> String {
    Config::from_str(text, "l1d.toml").expect_err(text).to_string()
}

fn rule<'a>(config: &'a Config, prefix: &str) -> &'a Rule {
    config.policy.rules().iter().find(|rule| rule.prefix == prefix.as_bytes()).unwrap()
}

#[test]
fn nothing_is_the_default() {
    assert_eq!(config(""), Config::default());
    assert_eq!(config("[daemon]\n[table]\n[defaults]\n"), Config::default());
    assert!(Config::default().tiers.l2.is_none() && Config::default().tiers.l3.is_none());
    Geometry::plan(&Config::default().table.plan()).unwrap();
}

#[test]
fn the_documented_configuration_means_what_it_says() {
    let text: String = include_str!("mod.rs")
        .lines()
        .skip_while(|line| *line != "//! ```toml")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| format!("{}\n", line.trim_start_matches("//!")))
        .collect();
    let documented = config(&text);
    let default = Config::default();
    let table = TableConfig { value_follows_size: false, ..default.table };
    assert_eq!((&documented.daemon, &documented.table), (&default.daemon, &table));
    assert_eq!(documented.status, default.status);
    assert_eq!(documented.policy.by_id(0), default.policy.by_id(0));
    assert_eq!(documented.policy.rule(&[0, 0xff, 1]).id, 2);
    let bare =
        config("[l2]\naddress = \"127.0.0.1:11211\"\n[l3]\nurl = \"redis://127.0.0.1:6379/0\"");
    assert_eq!(documented.tiers, bare.tiers);
}

#[test]
fn the_shipped_example_yields_its_rules() {
    let shipped = config(include_str!("../../systemd/l1d.toml"));
    let host =
        ["analysis:", "market:", "confluence:", "dashboard:", "system:", "unified:", "virtuoso:"];
    let process = ["ohlcv:", "indicator:"];
    let prefixes: Vec<_> =
        shipped.policy.rules()[1..].iter().map(|rule| rule.prefix.clone()).collect();
    assert_eq!(
        prefixes,
        [&host[..], &process].concat().iter().map(|p| p.as_bytes()).collect::<Vec<_>>()
    );
    for prefix in host {
        let expected =
            Rule { id: rule(&shipped, prefix).id, prefix: prefix.into(), ..Rule::default() };
        assert_eq!(*rule(&shipped, prefix), expected);
    }
    for prefix in process {
        assert_eq!(rule(&shipped, prefix).scope, Scope::Process);
        assert_eq!(rule(&shipped, prefix).ttl, Duration::from_secs(30));
    }
    let tiers = shipped.tiers.clone();
    assert!(tiers.l2.is_some() && tiers.l3.is_some());
    assert_eq!(
        shipped,
        Config {
            policy: shipped.policy.clone(),
            origins: shipped.origins.clone(),
            tiers,
            ..Config::default()
        }
    );
}

/// The commented-out keys of the example are accepted, and are the defaults.
#[test]
fn the_shipped_example_stays_right_without_its_comments() {
    let text: String = include_str!("../../systemd/l1d.toml")
        .lines()
        .filter(|line| !line.contains("redis+unix"))
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| {
                    (rest.contains(" = ") && !rest.starts_with(' ')) || rest.starts_with('[')
                })
                .unwrap_or(line)
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let full = config(&text);
    assert!(full.tiers.l2.is_some() && full.tiers.l3.is_some());
    let daemon =
        DaemonConfig { socket: Some("/run/l1d/l1d.sock".into()), ..DaemonConfig::default() };
    let table = TableConfig {
        group: Some("l1d".into()),
        directory: Some("/dev/shm/l1d".into()),
        value_follows_size: false,
        ..TableConfig::default()
    };
    assert_eq!((full.daemon, full.table), (daemon, table));
}

#[test]
fn every_key_is_read() {
    let read = config(
        r#"
        [daemon]
        socket = "/tmp/l1d.sock"
        socket_mode = "0600"
        clients_max = 7
        spin = "20us"
        log = "debug"
        log_format = "json"
        [status]
        socket = "/tmp/status"
        socket_mode = "0640"
        listen = "[::1]:80"
        [table]
        directory = "/tmp/table"
        size = "1.5GiB"
        value_bytes_max = "2MiB"
        average_entry_bytes = 512
        fit_index = true
        mode = 0o600
        group = "www-data"
        segment_bytes = "16MiB"
        ttl_max = "2h"
        absent_share_max = "2.5%"
        [l2]
        address = "[::1]:11212"
        deadline = "30ms"
        [l3]
        url = "redis+unix:///run/redis.sock?db=3"
        deadline = "40ms"
        [defaults]
        ttl = "1h"
        l2_ttl = "2h"
        l3_ttl = "3d"
        negative_ttl = "0s"
        write = "l1-only"
        on_write_error = "publish"
        client_flags = "frame"
        value_bytes_max = 1000
        [[policy]]
        prefix = "a:"
        scope = "process"
        ttl = "2s"
        l2_ttl = "10s"
        l3_ttl = "forever"
        negative_ttl = "100ms"
        write = "through"
        on_write_error = "refuse"
        client_flags = "never-fill-l2"
        l2 = false
        value_bytes_max = "2MiB"
        share_max = "20%"
        [[policy]]
        prefix_hex = "00FF"
        scope = "host"
        share_max = "10%"
        evict = "never"
        "#,
    );
    let daemon = DaemonConfig {
        socket: Some("/tmp/l1d.sock".into()),
        socket_mode: 0o600,
        clients_max: 7,
        spin: Duration::from_micros(20),
        log: LevelFilter::DEBUG,
        log_format: LogFormat::Json,
    };
    assert_eq!(read.daemon, daemon);
    let status = StatusConfig {
        socket: StatusSocket::At("/tmp/status".into()),
        socket_mode: 0o640,
        listen: Some("[::1]:80".parse().unwrap()),
    };
    assert_eq!(read.status, status);
    assert_eq!(config("[status]\nsocket = \"off\"").status.socket, StatusSocket::Off);
    let table = TableConfig {
        directory: Some("/tmp/table".into()),
        size: 3 << 29,
        value_bytes_max: 2 << 20,
        value_follows_size: false,
        average_entry_bytes: 512,
        fit_index: true,
        mode: 0o600,
        group: Some("www-data".into()),
        segment_bytes: Some(16 << 20),
        ttl_max: Duration::from_secs(7200),
        absent_share_max_permille: 25,
    };
    assert_eq!(read.table, table);
    let (l2, l3) = (read.tiers.l2.as_ref().unwrap(), read.tiers.l3.as_ref().unwrap());
    assert_eq!((l2.address.as_str(), l2.deadline.as_millis()), ("[::1]:11212", 30));
    assert_eq!(
        (l3.url.as_str(), l3.deadline.as_millis()),
        ("redis+unix:///run/redis.sock?db=3", 40)
    );
    let default = Rule {
        id: 0,
        prefix: Vec::new(),
        scope: Scope::Host,
        ttl: Duration::from_secs(3600),
        l2_ttl: Duration::from_secs(7200),
        l3_ttl: Some(Duration::from_secs(3 * 86400)),
        negative_ttl: Duration::ZERO,
        write: WriteMode::L1Only,
        on_write_error: OnWriteError::Publish,
        value_bytes_max: 1000,
        share_max_permille: None,
        evict: Evict::AsNeeded,
        l2: true,
        client_flags: ClientFlags::Frame,
    };
    let first = Rule {
        id: 1,
        prefix: b"a:".to_vec(),
        scope: Scope::Process,
        ttl: Duration::from_secs(2),
        l2_ttl: Duration::from_secs(10),
        l3_ttl: None,
        negative_ttl: Duration::from_millis(100),
        write: WriteMode::Through,
        on_write_error: OnWriteError::Refuse,
        value_bytes_max: 2 << 20,
        share_max_permille: Some(200),
        evict: Evict::AsNeeded,
        l2: false,
        client_flags: ClientFlags::NeverFillL2,
    };
    let second = Rule {
        id: 2,
        prefix: vec![0, 0xff],
        scope: Scope::Host,
        share_max_permille: Some(100),
        evict: Evict::Never,
        ..default.clone()
    };
    assert_eq!(read.policy.rules(), [default, first, second]);
}

/// Limits in the text also bound the built-in defaults.
#[test]
fn defaults_follow_the_table() {
    let small = config("[table]\nttl_max = \"500ms\"\nvalue_bytes_max = \"1KiB\"");
    let rule = small.policy.by_id(0).unwrap();
    assert_eq!((rule.ttl, rule.negative_ttl), (small.table.ttl_max, small.table.ttl_max));
    assert_eq!(rule.value_bytes_max, 1024);
}

#[test]
fn the_advised_size_will_do() {
    for text in [
        "value_bytes_max = '1MiB'\nsize = '1B'",
        "value_bytes_max = '200MiB'",
        "segment_bytes = '300MiB'",
        "size = '1EiB'",
    ] {
        let error = error(&format!("[table]\n{text}"));
        let size = error.split("size = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let text: String = text.lines().filter(|line| !line.starts_with("size")).collect();
        config(&format!("[table]\n{text}\nsize = '{size}'"));
    }
}

#[test]
fn the_command_line_comes_first() {
    let mut config = Config::default();
    let overrides = Overrides {
        socket: Some("/tmp/s".into()),
        table_directory: Some("/tmp/d".into()),
        table_size: Some(1 << 30),
    };
    config.apply(overrides);
    assert_eq!(config.daemon.socket(), Path::new("/tmp/s"));
    assert_eq!(config.table.directory(), Path::new("/tmp/d"));
    assert_eq!(config.table.size, 1 << 30);
}

#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l1d.toml");
    let load = || Config::load(&path).unwrap_err().to_string();
    assert!(load().contains("No such file"), "{}", load());
    std::fs::write(&path, b"[table]\n# \xff").unwrap();
    assert!(load().contains("l1d.toml:2:3: a byte that is not UTF-8"), "{}", load());
    let error = Config::load(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(error.contains("over 4 MiB"), "{error}");
}

#[test]
fn a_check_looks_at_the_host_and_tells_what_it_means() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l1d.toml");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        check_config(&path)
    };
    let checked = check(
        "[table]\nsize = '72MiB'\ndirectory = '/dev/shm/l1d'\n[l3]\nurl = 'redis://:geheim@h:1'\n\
         [[policy]]\nprefix = 'a:'\nttl = '2s'\nscope = 'process'",
    )
    .unwrap();
    assert!(checked.text.contains("72MiB in /dev/shm/l1d"), "{}", checked.text);
    assert!(!format!("{}{}", checked.text, checked.json).contains("geheim"));
    let line = checked.text.lines().find(|line| line.contains("\"a:\"")).unwrap();
    assert!(line.contains("process") && line.contains("2s"), "{line}");
    assert_eq!(checked.json["policy"][1]["ttl_ms"], 2000);
    assert_eq!(checked.json["policy"][0]["l3_ttl_ms"], serde_json::Value::Null);

    let error = check(
        "[table]\nsize = '512TiB'\naverage_entry_bytes = '1MiB'\ngroup = 'no-such-group-here'",
    )
    .unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("l1d.toml:2:8: [table]: size 512TiB is more than the file system"),
        "{error}"
    );
    assert!(
        error.contains("l1d.toml:4:9: [table]: group \"no-such-group-here\" does not exist"),
        "{error}"
    );
}

#[test]
fn groups_have_numbers() {
    let group = |group: &str| TableConfig { group: Some(group.into()), ..TableConfig::default() };
    assert_eq!(TableConfig::default().group_id(), Ok(None));
    assert_eq!(group("root").group_id(), Ok(Some(0)));
    assert_eq!(group("123").group_id(), Ok(Some(123)));
    assert!(group("no-such-group-here").group_id().is_err());
}

proptest! {
    /// Damaged text never causes a panic, and every problem has a position.
    #[test]
    fn damaged_text_is_safe(
        at in any::<prop::sample::Index>(),
        with in "[\\PC\n\"'\\[\\]={}\\\\]{0,4}",
        cut in 0..20_usize,
    ) {
        let text = include_str!("../../systemd/l1d.toml");
        let at = at.index(text.len());
        prop_assume!(text.is_char_boundary(at));
        let rest = text.get(at + cut..).unwrap_or("");
        if let Err(error) = Config::from_str(&format!("{}{with}{rest}", &text[..at]), "f") {
            prop_assert!(!error.problems().is_empty());
            prop_assert!(error.problems().iter().all(|problem| problem.position.is_some()));
        }
    }
}
