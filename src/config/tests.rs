//! Would catch: a configuration with an error that starts a daemon, an error without its place or
//! without advice, a rule that inherits from the wrong place, an example that is refused.

use super::*;
use l1d_wire::policy::{ClientFlags, OnWriteError, Rule, Scope, WriteMode};
use proptest::prelude::*;
use shm_layout::Geometry;

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
        l2: false,
        client_flags: ClientFlags::NeverFillL2,
    };
    let second = Rule { id: 2, prefix: vec![0, 0xff], ..default.clone() };
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
fn one_error_reads_like_this() {
    let text = "[table]\n\n[[policy]]\nprefix = \"analysis:\"\nttl = \"2 parsecs\"\n";
    assert_eq!(
        error(text),
        "l1d.toml:5:7: [[policy]] \"analysis:\": ttl \"2 parsecs\" is not a duration; \
         write for example ttl = \"30s\""
    );
}

/// Text, position, and parts of the message.
const WRONG: &[(&str, &str, &[&str])] = &[
    // Names.
    ("[deamon]", "1:2", &["unknown key \"deamon\"", "did you mean daemon?"]),
    ("[table]\nsise = 1", "2:1", &["[table]", "unknown key \"sise\"", "did you mean size?"]),
    ("[table]\nq = 1", "2:1", &["unknown key \"q\"", "known here: directory, size"]),
    ("[[policy]]\nprefix = 'a'\nttls = '1s'", "3:1", &["\"a\"", "did you mean ttl?"]),
    ("[defaults]\nprefix = 'a'", "2:1", &["[[policy]]"]),
    ("ttl = '1s'", "1:1", &["unknown key \"ttl\""]),
    ("[l2]\naddress = 'h:1'\nurl = 'a:1'", "3:1", &["write address ="]),
    // Shapes.
    ("table = 3", "1:9", &["write [table] once"]),
    ("[[table]]", "1:1", &["write [table] once"]),
    ("[policy]\nprefix = 'a'", "1:1", &["write [[policy]]"]),
    ("policy = ['a']", "1:11", &["write [[policy]]"]),
    // TOML.
    ("[defaults]\nttl = 30s", "2:7", &["must be quoted", "ttl = \"30s\""]),
    ("[table]\nsize = '1GiB'\nsize = '2GiB'", "3:1", &["duplicate key; remove one"]),
    ("[table", "1:", &["write", "example"]),
    // Durations.
    ("[defaults]\nttl = 30", "2:7", &["ttl 30 is not a duration", "ttl = \"30s\""]),
    ("[defaults]\nttl = '0s'", "2:7", &["less than 100ms", "ttl = \"100ms\""]),
    ("[defaults]\nttl = '99ms'", "2:7", &["less than 100ms"]),
    ("[defaults]\nttl = '25h'", "2:7", &["more than 1d"]),
    ("[table]\nttl_max = '10s'\n[defaults]\nttl = '11s'", "4:7", &["more than 10s"]),
    ("[table]\nttl_max = '366d'", "2:11", &["more than 365d", "ttl_max ="]),
    ("[defaults]\nnegative_ttl = '20ms'", "2:16", &["not 0s"]),
    ("[defaults]\nl2_ttl = '500ms'", "2:10", &["less than 1s"]),
    ("[defaults]\nl3_ttl = 'always'", "2:10", &["l3_ttl = \"forever\""]),
    ("[l2]\naddress = 'h:1'\ndeadline = '0s'", "3:12", &["less than 1ms"]),
    // Sizes.
    ("[table]\nsize = '12 parsecs'", "2:8", &["is not a size", "size = \"256MiB\""]),
    ("[table]\nsize = -1", "2:8", &["is not a size"]),
    ("[table]\nsize = '1MiB'", "2:8", &["too small", "size = \"5MiB\""]),
    (
        "[table]\nvalue_bytes_max = '64MiB'",
        "2:19",
        &["too small", "write for example size = \"4261MiB\""],
    ),
    ("[table]\nsize = '1EiB'\n", "2:8", &["more than a table can have"]),
    ("[table]\nvalue_bytes_max = '1GiB'", "2:19", &["value_bytes_max", "more than"]),
    (
        "[table]\nvalue_bytes_max = '1MiB'\nsegment_bytes = '1MiB'",
        "3:17",
        &["less than", "segment_bytes ="],
    ),
    ("[table]\nsegment_bytes = '128MiB'", "2:17", &["too small", "size ="]),
    ("[table]\naverage_entry_bytes = 1", "2:23", &["less than 32B"]),
    ("[defaults]\nvalue_bytes_max = '2MiB'", "2:19", &["more than 1MiB"]),
    ("[defaults]\nvalue_bytes_max = 0", "2:19", &["less than 1B"]),
    // Shares.
    (
        "[defaults]\nshare_max = '101%'",
        "2:13",
        &["more than the whole table", "share_max = \"20%\""],
    ),
    ("[defaults]\nshare_max = '0%'", "2:13", &["a share of nothing"]),
    ("[[policy]]\nprefix = 'a'\nshare_max = 20", "3:13", &["20 is not a share in percent"]),
    ("[[policy]]\nprefix = 'a'\nshare_max = '1.25%'", "3:13", &["to one decimal"]),
    ("[table]\nfit_index = 'yes'", "2:13", &["neither true nor false", "fit_index = true"]),
    ("[table]\nabsent_share_max = '200%'", "2:20", &["at most 100%", "absent_share_max = \"5%\""]),
    // Words, modes, paths, servers.
    ("[defaults]\nscope = 'hots'", "2:9", &["\"host\", \"process\"", "scope = \"host\""]),
    ("[defaults]\nscope = 'proces'", "2:9", &["scope = \"process\""]),
    ("[defaults]\nwrite = true", "2:9", &["\"l1-only\""]),
    ("[daemon]\nlog = 'verbose'", "2:7", &["log = \"info\""]),
    ("[daemon]\nclients_max = 0", "2:15", &["too few"]),
    ("[daemon]\nspin = '1s'", "2:8", &["10ms"]),
    ("[daemon]\nclients_max = 'many'", "2:15", &["whole number"]),
    ("[daemon]\nsocket_mode = '0666'", "2:15", &["every user write", "\"0660\""]),
    ("[table]\nmode = '0660'", "2:8", &["allows more than 0644"]),
    ("[table]\nmode = '0642'", "2:8", &["every user write"]),
    ("[table]\nmode = '0400'", "2:8", &["allows less than 0600"]),
    ("[table]\nmode = 640", "2:8", &["octal", "mode = \"0640\""]),
    ("[table]\ndirectory = 'shm'", "2:13", &["absolute"]),
    ("[daemon]\nsocket = ''", "2:10", &["not a text"]),
    ("[l2]", "1:1", &["address is missing"]),
    ("[l2]\naddress = '127.0.0.1'", "2:11", &["host:port", "\"127.0.0.1:11211\""]),
    ("[l2]\naddress = '::1:11211'", "2:11", &["host:port"]),
    ("[l2]\naddress = 'h:0'", "2:11", &["host:port"]),
    ("[l2]\naddress = 'a:1,b:1'", "2:11", &["several memcached servers are not supported"]),
    ("[l2]\naddress = 'u:p@h:1'", "2:11", &["SASL) is not supported"]),
    ("[l2]\naddress = 'memcacheds://h:1'", "2:11", &["TLS is not supported"]),
    ("[l2]\naddress = 'unix:memcached.sock'", "2:11", &["absolute path"]),
    ("[l2]\naddress = 'h:1'\npassword = 'x'", "3:1", &["SASL) is not supported"]),
    ("[l2]\naddress = 'h:1'\nservers = ['h:1']", "3:1", &["several memcached servers"]),
    ("[l3]\nurl = 'rediss://h:1'", "2:7", &["TLS is not supported"]),
    ("[l3]\nurl = 'redis://a:1,b:1'", "2:7", &["Cluster and Sentinel are not supported"]),
    ("[l3]\nurl = 'redis+sentinel://h:1/m'", "2:7", &["Cluster and Sentinel are not supported"]),
    ("[l3]\nurl = 'redis://h:1'\ncluster = true", "3:1", &["Cluster and Sentinel"]),
    ("[l3]", "1:1", &["url is missing"]),
    ("[l3]\nurl = 'http://127.0.0.1'", "2:7", &["redis://127.0.0.1:6379/0"]),
    // Prefixes.
    ("[[policy]]\nttl = '1s'", "1:1", &["prefix is missing"]),
    ("[[policy]]\nprefix = ''", "2:10", &["[defaults]"]),
    ("[[policy]]\nprefix = 'a'\nprefix_hex = '61'", "3:14", &["remove one"]),
    ("[[policy]]\nprefix_hex = '6'", "2:14", &["hexadecimal"]),
    ("[[policy]]\nprefix_hex = '6g'", "2:14", &["hexadecimal"]),
    (
        "[[policy]]\nprefix='a'\n[[policy]]\nprefix_hex='61'",
        "4:12",
        &["rule in line 2", "remove one"],
    ),
];

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    for (text, place, words) in WRONG {
        let error = error(text);
        assert_eq!(error.lines().count(), 1, "{text}\n{error}");
        assert!(error.starts_with(&format!("l1d.toml:{place}")), "{text}\n{error}");
        for word in *words {
            assert!(error.contains(word), "no {word} for\n{text}\n{error}");
        }
    }
}

#[test]
fn all_errors_are_told_in_the_order_of_the_text() {
    let text =
        "[[policy]]\nprefix = 'ä'\nttl = 'x' # ü\nscope = 3\n[l3]\n[table]\nsize = 'y'\nsice = 1\n";
    let error = Config::from_str(text, "f").unwrap_err();
    let places: Vec<_> = error
        .problems()
        .iter()
        .map(|problem| problem.position.unwrap())
        .map(|p| (p.line, p.column))
        .collect();
    assert_eq!(places, [(3, 7), (4, 9), (5, 1), (7, 8), (8, 1)], "{error}");
    assert_eq!(error.to_string().lines().count(), 5);
}

#[test]
fn a_column_counts_characters() {
    let error = error("policy = [{ prefix = 'äöü', ttl = 'x' }]");
    assert!(error.starts_with("l1d.toml:1:35: "), "{error}");
}

#[test]
fn a_wrong_limit_is_not_held_against_the_rules() {
    let text = "[table]\nttl_max = 'x'\nvalue_bytes_max = 'y'\n\
                [defaults]\nttl = '48h'\nvalue_bytes_max = '2MiB'";
    assert_eq!(error(text).lines().count(), 2, "{}", error(text));
}

#[test]
fn a_password_is_not_repeated() {
    for url in
        ["redis://:geheim@127.0.0.1:x/0", "http://:geheim@h", "rediss://:geheim@h", ":geheim@h"]
    {
        let error = error(&format!("[l3]\nurl = '{url}'"));
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[test]
fn too_many_rules_are_refused_at_the_first_of_them() {
    let rules = |count: usize| -> String {
        (0..count).map(|n| format!("[[policy]]\nprefix = 'p{n}:'\n")).collect()
    };
    assert_eq!(config(&rules(255)).policy.rules().len(), 256);
    let error = error(&rules(257));
    assert!(
        error.starts_with("l1d.toml:511:1: [[policy]]: 257 rules are more than 255; remove 2"),
        "{error}"
    );
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
