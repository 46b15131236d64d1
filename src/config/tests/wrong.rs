//! The hazard: an error in a configuration without its place or without advice.

use super::*;

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
pub(super) const WRONG: &[(&str, &str, &[&str])] = &[
    // Names.
    ("[deamon]", "1:2", &["unknown key \"deamon\"", "did you mean daemon?"]),
    ("[table]\nsise = 1", "2:1", &["[table]", "unknown key \"sise\"", "did you mean size?"]),
    ("[table]\nq = 1", "2:1", &["unknown key \"q\"", "known here: directory, size"]),
    ("[[policy]]\nprefix = 'a'\nttls = '1s'", "3:1", &["\"a\"", "did you mean ttl?"]),
    ("[defaults]\nprefix = 'a'", "2:1", &["[[policy]]"]),
    ("ttl = '1s'", "1:1", &["top level", "unknown key \"ttl\"", "write it under [defaults]"]),
    ("[daemon]\nttl_max = '1h'", "2:1", &["[daemon]", "write it under [table]"]),
    ("[[policy]]\nprefix = 'b'\n[table]\nprefix = 'a'", "4:1", &["write it under [[policy]]"]),
    ("[status]\nmode = '0660'", "2:1", &["did you mean socket_mode?"]),
    ("[policies]", "1:2", &["write [[policy]] above each rule"]),
    ("[limits]\nclients_max = 1", "2:1", &["write it under [daemon]"]),
    ("[[policy]]\nprefix = 'a'\nname = 'b'", "3:1", &["a rule is named by its prefix"]),
    ("[l2]\naddress = 'h:1'\nurl = 'a:1'", "3:1", &["write address ="]),
    // Shapes.
    ("table = 3", "1:9", &["write [table] once"]),
    ("[[table]]", "1:1", &["write [table] once"]),
    ("[policy]\nprefix = 'a'", "1:1", &["write [[policy]]"]),
    ("policy = ['a']", "1:11", &["write [[policy]]"]),
    // TOML.
    ("[defaults]\nttl = 30s", "2:7", &["must be quoted", "ttl = \"30s\""]),
    ("[table]\nsize = '1GiB'\nsize = '2GiB'", "3:1", &["duplicate key; remove one"]),
    ("[table", "1:7", &["unclosed table", "write for example [table]"]),
    ("[[policy]", "1:10", &["unclosed array table", "write for example [[policy]]"]),
    ("[[access]]\nwrite = ['a'", "2:", &["unclosed array", "end it with ]"]),
    ("size 5", "1:6", &["no value", "write for example size ="]),
    ("[table]\nsize = 5 mode = 3", "2:", &["unexpected key or value", "begin another line"]),
    ("[defaults]\nttl = \"\\q\"", "2:", &["escaped", "\\\\ for a backslash"]),
    ("[defaults]\nttl = \"30s", "2:", &["string", "end the text with the quotes"]),
    ("[defaults]\nl2 = True", "2:6", &["boolean", "write true or false"]),
    ("[table]\nmode = 0640", "2:8", &["leading zero", "mode = \"0640\""]),
    ("[defaults]\nttl = 2020-13-01", "2:7", &["date", "ttl = \"30s\""]),
    ("[defaults]\nttl = 10:61:00", "2:7", &["time", "ttl = \"30s\""]),
    ("[]", "1:2", &["cannot be empty", "write for example [defaults] on one line"]),
    // Durations.
    ("[defaults]\nttl = 30", "2:7", &["ttl 30 is not a duration", "ttl = \"30s\""]),
    ("[defaults]\nttl = '0s'", "2:7", &["less than 100ms", "ttl = \"100ms\""]),
    ("[defaults]\nttl = '99ms'", "2:7", &["less than 100ms"]),
    ("[defaults]\nttl = '25h'", "2:7", &["more than 1d, which is the ttl_max of [table]"]),
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
    (
        "[defaults]\nvalue_bytes_max = '2MiB'",
        "2:19",
        &["more than 1MiB, which is the value_bytes_max of [table]"],
    ),
    ("[table]\nsegment_bytes = [1]", "2:17", &["segment_bytes [...] is not a size"]),
    ("[defaults]\nttl.x = 3", "2:1", &["ttl {...} is not a duration"]),
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
    ("[[policy]]\nprefix = 'a'\nevict = 'never'", "3:9", &["needs", "share_max = \"5%\""]),
    ("[[policy]]\nprefix = 'a'\nevict = 'no'", "3:9", &["none of \"as-needed\", \"never\""]),
    (
        "[[policy]]\nprefix = 'a'\nevict = 'never'\nshare_max = '5%'\nscope = 'process'",
        "3:9",
        &["scope = \"host\""],
    ),
    (
        "[[policy]]\nprefix = 'a'\nevict = 'never'\nshare_max = '30%'\n\
         [[policy]]\nprefix = 'b'\nevict = 'never'\nshare_max = '10.1%'",
        "7:9",
        &["[[policy]] \"b\"", "40.1%", "40% is the most", "lower its share_max"],
    ),
    ("[table]\nabsent_share_max = '200%'", "2:20", &["at most 100%", "absent_share_max = \"5%\""]),
    // Words, modes, paths, servers.
    ("[defaults]\nscope = 'hots'", "2:9", &["\"host\", \"process\"", "scope = \"host\""]),
    ("[defaults]\nscope = 'proces'", "2:9", &["scope = \"process\""]),
    ("[defaults]\nwrite = true", "2:9", &["\"l1-only\""]),
    ("[daemon]\nlog = 'verbose'", "2:7", &["log = \"info\""]),
    ("[daemon]\nclients_max = 0", "2:15", &["0 is too few", "clients_max = 1"]),
    ("[daemon]\nclients_max = 1000000", "2:15", &["is too many", "clients_max = 100000"]),
    ("[daemon]\nspin = '1s'", "2:8", &["10ms"]),
    ("[daemon]\nclients_max = 'many'", "2:15", &["whole number"]),
    ("[daemon]\nsocket_mode = '0666'", "2:15", &["every user write", "\"0660\""]),
    ("[table]\nmode = '0660'", "2:8", &["allows more than 0644"]),
    ("[table]\nmode = '0642'", "2:8", &["every user write"]),
    ("[table]\nmode = '0400'", "2:8", &["allows less than 0600"]),
    ("[table]\nmode = 640", "2:8", &["octal", "mode = \"0640\""]),
    ("[table]\ndirectory = 'shm'", "2:13", &["absolute"]),
    ("[daemon]\nsocket = ''", "2:10", &["socket is empty"]),
    ("[table]\ngroup = 5", "2:9", &["5 is not a text", "group = \"l1d\""]),
    ("[status]\nsocket = 'here'", "2:10", &["absolute", "l1d-status.sock"]),
    ("[status]\nsocket = false", "2:10", &["not a text"]),
    ("[status]\nsocket_mode = '0666'", "2:15", &["every user write", "\"0660\""]),
    ("[status]\nlisten = 9401", "2:10", &["not a text", "\"127.0.0.1:9401\""]),
    ("[status]\nlisten = '127.0.0.1'", "2:10", &["an IP address with a port"]),
    ("[status]\nlisten = 'localhost:9401'", "2:10", &["an IP address with a port"]),
    ("[status]\nlisten = '0.0.0.0:9401'", "2:10", &["no password", "\"127.0.0.1:9401\""]),
    ("[status]\nlisten = '[::]:9401'", "2:10", &["not a loopback address"]),
    ("[status]\nlisten = '192.0.2.1:9401'", "2:10", &["not a loopback address"]),
    ("[status]\nlisten = '127.0.0.1:0'", "2:10", &["no port"]),
    ("[status]\nport = 9401", "2:1", &["write listen = \"127.0.0.1:9401\""]),
    ("[l2]", "1:1", &["address is missing"]),
    ("[l2]\naddress = '127.0.0.1'", "2:11", &["host:port", "\"127.0.0.1:11211\""]),
    ("[l2]\naddress = '::1:11211'", "2:11", &["host:port"]),
    ("[l2]\naddress = 'h:0'", "2:11", &["host:port"]),
    ("[l2]\naddress = 'a:1,b:1'", "2:11", &["several memcached servers are not supported"]),
    ("[l2]\naddress = 'u:p@h:1'", "2:11", &["SASL) is not supported"]),
    ("[l2]\naddress = 'memcacheds://h:1'", "2:11", &["TLS is not supported"]),
    ("[l2]\naddress = 'unix:memcached.sock'", "2:11", &["absolute path"]),
    ("[l2]\naddress = 'http://h:1'", "2:11", &["cannot be used: it is a URL, not host:port"]),
    ("[l2]\naddress = 'h:1'\npassword_file = '/x'", "3:1", &["SASL) is not supported"]),
    ("[l2]\naddress = 'h:1'\npassword = 'x'", "3:1", &["SASL) is not supported"]),
    ("[l2]\naddress = 'h:1'\nservers = ['h:1']", "3:1", &["several memcached servers"]),
    ("[l3]\nurl = 'rediss://h:1'", "2:7", &["TLS is not supported"]),
    ("[l3]\nurl = 'redis://a:1,b:1'", "2:7", &["Cluster and Sentinel are not supported"]),
    ("[l3]\nurl = 'redis+sentinel://h:1/m'", "2:7", &["Cluster and Sentinel are not supported"]),
    ("[l3]\nurl = 'redis://h:1'\ncluster = true", "3:1", &["Cluster and Sentinel"]),
    ("[l3]", "1:1", &["url is missing"]),
    ("[l3]\nurl = 'http://127.0.0.1'", "2:7", &["no URL of Redis", "redis://127.0.0.1:6379/0"]),
    ("[l3]\nurl = 'redis://h:99999'", "2:7", &["no URL of Redis"]),
    ("[l3]\nurl = 'redis://h:1/x'", "2:7", &["its database is no number"]),
    ("[l3]\nurl = 'redis+unix:r.sock'", "2:7", &["it has no absolute path"]),
    ("[l3]\nurl = 'redis://:1/0'", "2:7", &["url cannot be used: it"]),
    ("[l3]\nurl = 'redis://h:1?protocol=4'", "2:7", &["neither resp2 nor resp3"]),
    ("[l3]\nurl = 'redis://h:1'\npassword = 'x'", "3:1", &["password_file", "holds no password"]),
    ("[l3]\nurl = 'redis://h:1'\nuser = 'x'", "3:1", &["redis://USER@HOST:PORT"]),
    ("[l3]\nurl = 'redis://h:1'\naddress = 'h:1'", "3:1", &["write url ="]),
    (
        "[l3]\nurl = 'redis://h:1'\npassword_env = 'A'\npassword_file = '/a'",
        "4:17",
        &["more than one password", "keep it either in url or by one of"],
    ),
    ("[l3]\nurl = 'redis://h:1'\npassword_file = 3", "3:17", &["password_file is not a text"]),
    ("[l3]\nurl = 'redis://h:1'\npassword_file = 'x'", "3:17", &["not an absolute path"]),
    (
        "[l3]\nurl = 'redis://h:1'\npassword_credential = 'a/b'",
        "3:23",
        &["not the name of a credential", "\"redis-password\""],
    ),
    (
        "[l3]\nurl = 'redis://h:1'\npassword_env = 'a=b'",
        "3:16",
        &["not the name of a variable", "\"L1D_REDIS_PASSWORD\""],
    ),
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
    ("[[policy]]\nprefix = 3", "2:10", &["3 is not a text", "prefix = \"analysis:\""]),
    // Who may do what.
    ("[access]\nuser = 'x'", "1:1", &["access is a list of rules", "write [[access]]"]),
    ("[[access]]\nuser = 'no-such-user-here'", "2:8", &["this host has no such user", "www-data"]),
    ("[[access]]\ngroup = 'no-such-group-here'", "2:9", &["this host has no such group"]),
    ("[[access]]\nuser = []", "2:8", &["an empty list, which would name nobody"]),
    ("[[access]]\nuser = 4294967295", "2:8", &["is no user or group", "www-data"]),
    ("[[access]]\nuser = 1.5", "2:8", &["1.5 is no name and no number"]),
    ("[[access]]\nwrite = 'page:'", "2:9", &["nor a list of prefixes", "[\"page:\""]),
    ("[[access]]\nwrite = ['']", "2:9", &["has an empty prefix", "[\"page:\""]),
    ("[[access]]\nwrite = [3]", "2:9", &["has 3, which is no text"]),
    ("[[access]]\nattach = false\nwrite = true", "3:9", &["write means nothing", "remove one"]),
    ("[[access]]\nfetch = true\n[[access]]\nuser = 0", "3:1", &["never reached", "line 1", "move"]),
    ("[[access]]\nread = true", "2:1", &["unknown key \"read\"", "write fetch"]),
    ("[[access]]\nusers = 'root'", "2:1", &["did you mean user?"]),
    ("[[access]]\ngroups = 'root'", "2:1", &["did you mean group?"]),
    ("[[access]]\nprefix = 'a'", "2:1", &["give the prefixes to a right"]),
    ("[[access]]\nadmin = 'yes'", "2:9", &["neither true nor false", "admin = true"]),
    ("[limits]\nfetches_max = 0", "2:15", &["0 is too few", "fetches_max = 1"]),
    ("[limits]\nbytes_max = 1", "2:13", &["less than 64KiB", "bytes_max = \"64KiB\""]),
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
