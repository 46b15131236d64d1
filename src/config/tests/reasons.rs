//! The hazard: a reason to refuse a configuration that nobody has read as its reader does. Each one
//! in the sources has an input here or in `wrong.rs`.

use super::wrong::WRONG;
use super::*;
use std::collections::HashSet;
use test_support::literals::{fixed_parts, literals};

/// What is wrong by its length or number: as `WRONG`.
fn too_long() -> Vec<(String, &'static str, &'static str)> {
    let long = |bytes: usize| "a".repeat(bytes);
    let rules = |title: &str| format!("{title}\nuser = 0\n").repeat(1001);
    let prefixes = vec!["'a'"; 257].join(",");
    let policies: String =
        (0..257).map(|number| format!("[[policy]]\nprefix = '{number}'\n")).collect();
    vec![
        (format!("[daemon]\nsocket = '/{}'", long(107)), "2:10", "socket's path at most 107"),
        (format!("[l2]\naddress = 'unix:/{}'", long(107)), "2:11", "its path has 108 bytes"),
        (format!("[[policy]]\nprefix = '{}'", long(256)), "2:10", "256 bytes; write at most"),
        (format!("[[access]]\nwrite = ['{}']", long(256)), "2:9", "has a prefix of more than"),
        (format!("[[access]]\nwrite = [{prefixes}]"), "2:9", "has more than 256 prefixes"),
        (rules("[[access]]"), "2001:1", "more than 1000 rules; use groups"),
        (policies, "511:1", "257 rules are more than 255; remove 2"),
    ]
}

/// Looked for on the host, with the file's mode: as `WRONG`.
fn on_this_host(directory: &Path) -> Vec<(String, u32, &'static str, Vec<&'static str>)> {
    let l3 = |setting: String| format!("[l3]\nurl = 'redis://h:1'\n{setting}\n");
    let file = |name: &str, content: &[u8], mode: u32| {
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        l3(format!("password_file = '{}'", path.display()))
    };
    let large = "[table]\nsize = '512TiB'\naverage_entry_bytes = '1MiB'".to_owned();
    let in_url = "[l3]\nurl = 'redis://:x@h:1'".to_owned();
    vec![
        (large, 0o600, "2:8", vec!["more than the file system of", "write for example size ="]),
        (
            "[table]\ngroup = 'no-such-group-here'".to_owned(),
            0o600,
            "2:9",
            vec!["does not exist on this host", "groupadd", "or omit the key"],
        ),
        (
            in_url,
            0o644,
            "2:7",
            vec!["url holds a password", "every user can read", "chmod 0640", "password_file"],
        ),
        (
            l3("password_file = '/nonexistent'".to_owned()),
            0o600,
            "3:17",
            vec!["cannot be read: No such file or directory", "give the daemon's user a file"],
        ),
        (l3("password_file = '/'".to_owned()), 0o600, "3:17", vec!["no regular file", "name one"]),
        (file("open", b"x", 0o644), 0o600, "3:17", vec!["every user can read", "chmod 0640"]),
        (file("empty", b"\n", 0o600), 0o600, "3:17", vec!["is empty", "write the password into"]),
        (file("large", &[b'x'; 5000], 0o600), 0o600, "3:17", vec!["more than 4096 bytes", "write"]),
        (file("binary", b"\xff", 0o600), 0o600, "3:17", vec!["is not UTF-8", "write the password"]),
        ("#".repeat(5 << 20), 0o600, " over", vec!["over 4 MiB", "give the"]),
    ]
}

fn refused_by_length() -> Vec<String> {
    let refused = |(text, place, words): (String, &str, &str)| {
        let error = error(&text);
        assert!(error.starts_with(&format!("l1d.toml:{place}: ")), "{error}");
        assert!(error.contains(words), "no {words} in {error}");
        error
    };
    too_long().into_iter().map(refused).collect()
}

fn refused_by_this_host() -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l1d.toml");
    let refused = |(text, mode, place, words): (String, u32, &str, Vec<&str>)| {
        std::fs::write(&path, &text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = check_config(&path).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(&format!("l1d.toml:{place}")), "{error}");
        for word in words {
            assert!(error.contains(word), "no {word} in {error}");
        }
        error
    };
    on_this_host(directory.path()).into_iter().map(refused).collect()
}

/// What only a daemon finds: passwords of its unit and of its environment.
fn refused_at_start() -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l1d.toml");
    let refused = |setting: &str, words: &[&str]| {
        std::fs::write(&path, format!("[l3]\nurl = 'redis://h:1'\n{setting}\n")).unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "no {word} in {error}");
        }
        error
    };
    vec![
        refused(
            "password_credential = 'pw'",
            &[":3:23", "LoadCredential=pw:PATH", "password_file"],
        ),
        refused("password_env = 'L1D_NOT_SET'", &[":3:16", "has no such text; set it"]),
        Config::load(Path::new("/nonexistent")).unwrap_err().to_string(),
    ]
}

/// Fixed parts of reasons for which no input can be made here.
const WITHOUT_INPUT: &[&str] = &[
    // The table of users or groups cannot be read.
    "cannot be looked up",
    "write its number",
    "write the group's number instead",
    // A foreign group, which only root could give to a file; and to root every group is its own.
    "which is none of the daemon's, can read or write the file (mode",
    // What the library says of a URL, of which not every text can be reached, and our words for it.
    "Redis URL did not parse",
    "URL provided is not a redis URL",
    "Missing hostname",
    "Missing path",
    "Invalid database number",
    "Invalid protocol version",
    "it names no host",
    // A panic of the thread that reads.
    "the configuration",
    "reading it has failed; the log says why",
    // A geometry that no size leads to.
    "cannot be had",
    // Whatever the parser says that is not in the table.
    "write for example [defaults] on one line and ttl = \"30s\" on the next",
    "expected nothing",
    "top level",
];

#[test]
fn each_reason_in_the_sources_has_an_input() {
    let mut said: Vec<String> = WRONG.iter().map(|(text, _, _)| error(text)).collect();
    said.extend(refused_by_length().into_iter().chain(refused_by_this_host()));
    said.extend(refused_at_start());
    let sources = [
        include_str!("../access.rs").split("/// The rules in the order").next().unwrap(),
        include_str!("../host.rs"),
        include_str!("../password.rs"),
        include_str!("../read.rs"),
        include_str!("../rules.rs"),
        include_str!("../section.rs"),
        include_str!("../source.rs").split("#[cfg(test)]").next().unwrap(),
        include_str!("../status.rs"),
        include_str!("../syntax.rs"),
        include_str!("../value.rs"),
        include_str!("../../tiers/address.rs"),
    ];
    let literals = sources.iter().flat_map(|source| literals(source));
    let parts: HashSet<String> =
        literals.flat_map(|(_, text)| fixed_parts(&text)).map(|part| clean(&part)).collect();
    let is_reason = |part: &&String| part.split_whitespace().count() > 1;
    let is_said = |part: &&String| {
        said.iter().any(|error| error.contains(part.as_str()))
            || WITHOUT_INPUT.iter().any(|without| part.contains(without))
    };
    let untried: Vec<_> = parts.iter().filter(is_reason).filter(|part| !is_said(part)).collect();
    assert!(untried.is_empty(), "without an input: {untried:#?}");
    assert!(parts.iter().filter(is_reason).count() > 80, "{parts:?}");
}

/// Without what stands beside a placeholder.
fn clean(part: &str) -> String {
    part.trim_matches([' ', ':', ';', ',', '"', '(', ')', '.']).to_owned()
}
