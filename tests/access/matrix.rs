//! The hazard: a door, an operation or a client that was connected before is forgotten, and does
//! what the rules do not grant; or a rule takes away what it should not.

use super::users::{User, Who, may_become_others, open_to_all};
use super::{PROGRAM, SMALL, figure, l1ctl};
use l1d_client::{
    Client, CounterOptions, Error, KeyOrder, Lifetime, LoadError, OperationOptions, SetOptions,
};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use test_support::daemon::{Daemon, connect};
use test_support::servers::{Server, until};

const READER: Who = Who { uid: 61_001, gid: 61_001, group: 61_001 };
const WRITER: Who = Who { uid: 61_002, gid: 61_002, group: 61_002 };
/// Known by a supplementary group.
const ADMIN: Who = Who { uid: 61_003, gid: 61_003, group: 61_100 };
const BANNED: Who = Who { uid: 61_004, gid: 61_004, group: 61_004 };
const STRANGER: Who = Who { uid: 61_005, gid: 61_005, group: 61_005 };

/// Prefixes of a right; the empty one is that of all keys.
type Keys = &'static [&'static str];
const ALL: Keys = &[""];
const NONE: Keys = &[];

/// What a user may do.
#[derive(Clone, Copy)]
struct Grants {
    fetch: Keys,
    write: Keys,
    delete: Keys,
    flush: Keys,
    observe: bool,
    admin: bool,
}

#[derive(Clone, Copy)]
enum Needs {
    Fetch,
    Write,
    Delete,
    WriteAndFetch,
}

impl Grants {
    fn allow(&self, needs: Needs, key: &str) -> bool {
        let holds = |keys: Keys| keys.iter().any(|prefix| key.starts_with(prefix));
        match needs {
            Needs::Fetch => holds(self.fetch),
            Needs::Write => holds(self.write),
            Needs::Delete => holds(self.delete),
            Needs::WriteAndFetch => holds(self.write) && holds(self.fetch),
        }
    }
}

type Operation = (&'static str, Needs, fn(&Client, &str) -> Result<(), Error>);

/// Each kind of request for a key that nobody has, or that root has set to "1".
const OPERATIONS: [Operation; 19] = [
    ("get", Needs::Fetch, |client, key| client.get(key).map(drop)),
    ("lookup", Needs::Fetch, |client, key| client.lookup(key).map(drop)),
    ("fetch", Needs::Fetch, |client, key| client.fetch(key).map(drop)),
    ("get_many", Needs::Fetch, |client, key| client.get_many(&[key]).map(drop)),
    ("lookup_many", Needs::Fetch, |client, key| {
        client.lookup_many(&[key]).pop().unwrap().map(drop)
    }),
    ("set", Needs::Write, |client, key| client.set(key, "v").map(drop)),
    ("set of no life", Needs::Delete, |client, key| {
        let options = SetOptions { lifetime: Lifetime::DoNotKeep, ..SetOptions::default() };
        client.set_with(key, "v", &options).map(drop)
    }),
    ("set_many", Needs::Write, |client, key| {
        client.set_many(&[(key, "v")])?.pop().unwrap().map(drop)
    }),
    ("delete", Needs::Delete, |client, key| client.delete(key).map(drop)),
    ("add", Needs::Write, |client, key| {
        client.add(key, "v", &OperationOptions::default()).map(drop)
    }),
    ("replace", Needs::Write, |client, key| {
        client.replace(key, "v", &OperationOptions::default()).map(drop)
    }),
    ("compare_and_set", Needs::Write, |client, key| {
        let token = client.peek("token").unwrap().meta().token().unwrap();
        client.compare_and_set(key, token, "v", &OperationOptions::default()).map(drop)
    }),
    ("delete_if", Needs::Delete, |client, key| {
        let token = client.peek("token").unwrap().meta().token().unwrap();
        client.delete_if(key, token).map(drop)
    }),
    ("append", Needs::Write, |client, key| client.append(key, "v").map(drop)),
    ("prepend", Needs::Write, |client, key| client.prepend(key, "v").map(drop)),
    ("increment", Needs::WriteAndFetch, |client, key| {
        let options = CounterOptions { initial: Some(1), ..CounterOptions::default() };
        client.increment(key, 1, &options).map(drop)
    }),
    ("touch", Needs::Write, |client, key| {
        client.touch(key, Lifetime::For(Duration::from_secs(9))).map(drop)
    }),
    ("get_and_touch", Needs::WriteAndFetch, |client, key| {
        client.get_and_touch(key, Lifetime::For(Duration::from_secs(9))).map(drop)
    }),
    ("get_or_load", Needs::WriteAndFetch, |client, key| {
        let loaded = client.get_or_load(key, || Ok::<_, String>("v"));
        match loaded {
            Ok(_) => Ok(()),
            Err(LoadError::Cache(error)) => Err(error),
            Err(other) => panic!("{other:?}"),
        }
    }),
];

const PREFIXES: [&str; 5] = ["open:", "w:", "d:", "f:", "other:"];

fn is_denied<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Denied { .. }))
}

/// Tries everything as `user`, and compares it with what the rules grant.
fn check(user: &User, grants: Grants, round: &str) {
    let uid = user.who.uid;
    for (name, needs, operation) in OPERATIONS {
        for prefix in PREFIXES {
            let key = format!("{prefix}{round}:{uid}:{name}");
            let asked = key.clone();
            let result = user.ask(move |client| operation(client, &asked));
            let allowed = grants.allow(needs, &key);
            assert_eq!(
                is_denied(&result),
                !allowed,
                "{round}: user {uid}, {name} {key}: {result:?}"
            );
            if let Err(error @ Error::Denied { .. }) = result {
                let text = error.to_string();
                for word in [&uid.to_string(), "[[access]] in line", prefix, "l1ctl policy reload"]
                {
                    assert!(text.contains(word), "{word:?} is missing: {text}");
                }
            } else {
                assert!(result.is_ok(), "{name} {key}: {result:?}");
            }
        }
    }
    for prefix in PREFIXES.into_iter().chain([""]) {
        let flushed = user.ask(move |client| client.admin().flush(prefix));
        let allowed = grants.flush.iter().any(|granted| prefix.starts_with(granted));
        assert_eq!(is_denied(&flushed), !allowed, "{round}: user {uid}, flush {prefix:?}");
    }
    type Request = (&'static str, fn(&Client) -> Result<String, Error>);
    let observations: [Request; 5] = [
        ("clients", |client| client.admin().clients_json()),
        ("keys", |client| client.admin().keys_json("", 3, KeyOrder::Hits)),
        ("check", |client| client.admin().check_json()),
        ("explain", |client| client.admin().explain_json("open:k")),
        ("access of root", |client| client.admin().access_json(Some(Default::default()))),
    ];
    for (name, request) in observations {
        let observed = user.ask(request);
        assert_eq!(is_denied(&observed), !grants.observe, "{round}: user {uid}, {name}");
    }
    let reloaded = user.ask(|client| client.admin().reload_policy());
    assert_eq!(is_denied(&reloaded), !grants.admin, "{round}: user {uid}: {reloaded:?}");
    let moved = user.ask(|client| client.admin().resize(Some(0), None));
    assert_eq!(is_denied(&moved), !grants.admin, "{round}: user {uid}: {moved:?}");
    for allowed in [
        user.ask(|client| client.admin().stats_json()),
        user.ask(|client| client.admin().policy_json()),
        user.ask(|client| client.admin().advise_json()),
        user.ask(|client| client.admin().access_json(None)),
    ] {
        allowed.unwrap();
    }
}

fn config(redis: &Server, rules: &str) -> String {
    // A busy machine must not look like a tier that fails.
    format!("{SMALL}[l3]\nurl = \"redis://{}/0\"\ndeadline = \"20s\"\n{rules}", redis.address())
}

fn reload(daemon: &Daemon, config: &str) {
    daemon.configure(config);
    let output = l1ctl(daemon, &["policy", "reload"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const BEFORE: &str = "\
    [[access]]\nuser = 61001\nfetch = [\"open:\"]\n\
    [[access]]\nuser = [61002]\nwrite = [\"w:\"]\ndelete = [\"d:\"]\nflush = [\"f:\"]\n\
    observe = false\n\
    [[access]]\ngroup = 61100\nwrite = true\nflush = true\nadmin = true\n\
    [[access]]\nuser = 61004\nattach = false\n";

/// Reader and writer have changed places, the banned one may come, the administrator must go.
const AFTER: &str = "\
    [[access]]\nuser = 61002\nfetch = [\"open:\"]\n\
    [[access]]\nuser = 61001\nwrite = [\"w:\"]\ndelete = [\"d:\"]\nflush = [\"f:\"]\n\
    observe = false\n\
    [[access]]\nuser = 61004\n";

const READS: Grants = Grants {
    fetch: &["open:"],
    write: NONE,
    delete: NONE,
    flush: NONE,
    observe: true,
    admin: false,
};
const WRITES: Grants = Grants {
    fetch: ALL,
    write: &["w:"],
    delete: &["d:"],
    flush: &["f:"],
    observe: false,
    admin: false,
};
const DOES_ALL: Grants =
    Grants { fetch: ALL, write: ALL, delete: ALL, flush: ALL, observe: true, admin: true };

#[test]
fn each_right_holds_at_each_door_before_and_after_a_reload() {
    if !may_become_others() {
        return;
    }
    let redis = Server::redis();
    let daemon = Daemon::start(PROGRAM, &config(&redis, BEFORE), "16MiB");
    open_to_all(&daemon);
    let root = connect(&daemon);
    root.set("token", "t").unwrap();
    root.set("seen", "by all who attach").unwrap();
    for mailbox in [true, false] {
        let door = if mailbox { "mailbox" } else { "socket" };
        reload(&daemon, &config(&redis, BEFORE));
        let [reader, writer, admin] =
            [READER, WRITER, ADMIN].map(|who| User::connect(&daemon, who, mailbox));
        for stranger in [BANNED, STRANGER] {
            let refusal = User::connect(&daemon, stranger, mailbox).refusal();
            assert!(matches!(refusal, Some(Error::Denied { .. })), "{refusal:?}");
        }
        // What is in the table is for everyone who may attach.
        for user in [&reader, &writer, &admin] {
            let seen = user.ask(|client| client.get("seen").unwrap().unwrap().into_vec());
            assert_eq!(seen, b"by all who attach");
        }
        check(&reader, READS, &format!("{door} before"));
        check(&writer, WRITES, &format!("{door} before"));
        check(&admin, DOES_ALL, &format!("{door} before"));
        root.set("token", "t").unwrap();
        root.set("seen", "by all who attach").unwrap();

        reload(&daemon, &config(&redis, AFTER));
        check(&reader, WRITES, &format!("{door} after"));
        check(&writer, READS, &format!("{door} after"));
        assert!(User::connect(&daemon, BANNED, mailbox).refusal().is_none());
        // A client that may not attach any more loses its connection and leaves the table.
        until("the former administrator to be told", || {
            admin.ask(|client| {
                let _ = client.peek("seen");
                is_denied(&client.get("token")).then_some(())
            })
        });
        assert!(admin.ask(|client| client.peek("seen")).is_none());
        assert!(is_denied(&admin.ask(|client| client.set("w:k", "v"))));
        reload(&daemon, &config(&redis, BEFORE));
        let again = until("the administrator to be let in again", || {
            admin.ask(|client| client.get("seen").ok().flatten().map(|seen| seen.into_vec()))
        });
        assert_eq!(again, b"by all who attach");
        assert!(admin.ask(|client| client.peek("seen")).is_some(), "it has the table again");
    }
    let log = daemon.log();
    for (uid, right) in [(61_001, "write"), (61_002, "admin"), (61_004, "attach")] {
        let is_it = |line: &&str| {
            line.contains("a request is denied")
                && line.contains(&format!("uid={uid}"))
                && line.contains(&format!("right=\"{right}\""))
        };
        let line = log.lines().find(is_it).unwrap_or_else(|| panic!("{uid} {right}: {log}"));
        assert!(line.contains(&format!("gid={uid}")) && line.contains("program="), "{line}");
        assert!(line.contains(&format!("pid={}", std::process::id())), "{line}");
    }
    let denials = log.lines().filter(|line| line.contains("a request is denied")).count();
    let denied = figure(&root, "/requests/denied");
    assert!(denied > 500 && denials < 200, "{denied} denied, {denials} lines");
}

#[test]
fn a_set_that_nobody_waits_for_is_denied_without_an_answer_and_counted() {
    if !may_become_others() {
        return;
    }
    let rules = "[[access]]\nuser = 61001\nwrite = [\"w:\"]\n";
    let daemon = Daemon::start(PROGRAM, &format!("{SMALL}{rules}"), "16MiB");
    open_to_all(&daemon);
    let root = connect(&daemon);
    let user = User::connect(&daemon, READER, true);
    user.ask(|client| {
        let options = SetOptions { no_wait: true, ..SetOptions::default() };
        client.set_with("other:k", "v", &options).unwrap();
        client.set_with("w:k", "v", &options).unwrap();
    });
    until("the set that is allowed", || root.peek("w:k"));
    assert!(root.peek("other:k").is_none());
    assert_eq!(figure(&root, "/requests/denied"), 1);
}

#[test]
fn without_rules_whoever_may_connect_may_do_all_but_administrate() {
    if !may_become_others() {
        return;
    }
    let redis = Server::redis();
    let daemon = Daemon::start(PROGRAM, &config(&redis, ""), "16MiB");
    open_to_all(&daemon);
    connect(&daemon).set("token", "t").unwrap();
    let user = User::connect(&daemon, STRANGER, true);
    for (name, _, operation) in OPERATIONS {
        let result = user.ask(move |client| operation(client, &format!("k:{name}")));
        assert!(result.is_ok(), "{name}: {result:?}");
    }
    assert!(user.ask(|client| client.admin().clients_json()).is_ok());
    assert!(user.ask(|client| client.admin().flush("")).is_ok());
    for refused in [
        user.ask(|client| client.admin().reload_policy()),
        user.ask(|client| client.admin().resize(Some(32 << 20), None)),
    ] {
        assert!(is_denied(&refused), "{refused:?}");
        assert!(refused.unwrap_err().to_string().contains("only root and user"));
    }
}

#[test]
fn the_status_socket_shows_keys_and_clients_to_those_who_may_observe() {
    if !may_become_others() {
        return;
    }
    let redis = Server::redis();
    let daemon = Daemon::start(PROGRAM, &config(&redis, BEFORE), "16MiB");
    open_to_all(&daemon);
    let ask = |who: Who, path: &str| {
        let socket = daemon.socket().with_file_name("l1d-status.sock");
        who.run(|| {
            let mut stream = UnixStream::connect(socket).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
    };
    let status = |who, path| ask(who, path).split(' ').nth(1).unwrap().parse::<u16>().unwrap();
    for path in ["/api/clients", "/api/advise", "/api/explain?key=open:k"] {
        assert_eq!(status(READER, path), 200, "{path}");
        for who in [WRITER, BANNED, STRANGER] {
            let answer = ask(who, path);
            assert!(answer.contains(" 403 ") && answer.contains("observe"), "{who:?}: {answer}");
        }
    }
    assert_eq!(status(READER, "/api/explain?key=w:k"), 403, "its prefix is not to be fetched");
    assert_eq!(status(ADMIN, "/api/explain?key=w:k"), 200);
    for path in ["/metrics", "/healthz", "/api/snapshot"] {
        assert_eq!(status(STRANGER, path), 200, "{path}");
    }
}

#[test]
fn the_tool_tells_what_a_user_may_do_and_exits_with_a_code_of_its_own() {
    if !may_become_others() {
        return;
    }
    let daemon = Daemon::start(PROGRAM, &format!("{SMALL}{BEFORE}"), "16MiB");
    open_to_all(&daemon);
    let text = |output: &[u8]| String::from_utf8_lossy(output).into_owned();
    let told = l1ctl(&daemon, &["access", "61002"]);
    let told = text(&told.stdout);
    assert!(told.contains("[[access]] in line 6, user 61002"), "{told}");
    assert!(told.contains("write    keys with \"w:\"") && told.contains("admin    no"), "{told}");
    let told = l1ctl(&daemon, &["--json", "access", "61005"]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["attach"], &told["line"]), (&false.into(), &serde_json::Value::Null));
    assert!(text(&l1ctl(&daemon, &["access"]).stdout).contains("root may do everything"));
    // The tool itself may be where another user cannot reach it, so the exit code is seen as root.
    daemon.configure("[[access]]\nuser = 7\n");
    let file = daemon.socket().with_file_name("l1d.toml");
    let mut check = std::process::Command::new(PROGRAM);
    let checked = text(&check.arg("check-config").arg(file).output().unwrap().stdout);
    assert!(checked.contains("user 7") && checked.contains("all others may not"), "{checked}");
}
