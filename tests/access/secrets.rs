//! The hazard: a value in the log, in a figure, on the status page or in the text of an error. A
//! workload with every kind of request and failure, at the most talkative level, with values that
//! are easy to find.

use super::{PROGRAM, SMALL, l1ctl, stats};
use l1d_client::{
    CounterOptions, KeyOrder, Lifetime, LoadOptions, OperationOptions, Reservation, SetOptions,
};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use test_support::daemon::{Daemon, connect};
use test_support::servers::{Server, until};

const CANARY: &str = "canary-7c1e94";

/// The same in another notation that a message might use.
fn forms() -> Vec<String> {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let bytes = CANARY.bytes().take(6).map(|byte| byte.to_string()).collect::<Vec<_>>();
    vec![CANARY.to_owned(), hex, bytes.join(", ")]
}

fn assert_unseen(what: &str, text: &str) {
    for form in forms() {
        if let Some(at) = text.find(&form) {
            let from = (0..=at.saturating_sub(300)).rev().find(|at| text.is_char_boundary(*at));
            panic!("a value is in {what}: {}", &text[from.unwrap_or(0)..at + form.len()]);
        }
    }
}

#[test]
fn no_value_is_in_the_log_in_figures_or_in_errors() {
    let (redis, memcached) = (Server::redis(), Server::memcached());
    let config = format!(
        "[daemon]\nlog = \"trace\"\n{SMALL}[l2]\naddress = \"{}\"\n\
         [l3]\nurl = \"redis://{}/0\"\n\
         [[policy]]\nprefix = \"small:\"\nvalue_bytes_max = 8\n\
         [[policy]]\nprefix = \"local:\"\nwrite = \"l1-only\"\n\
         [[policy]]\nprefix = \"full:\"\nwrite = \"l1-only\"\nevict = \"never\"\nshare_max = \"1%\"\n\
         [[policy]]\nprefix = \"process:\"\nscope = \"process\"\n",
        memcached.address(),
        redis.address()
    );
    let mut daemon = Daemon::start(PROGRAM, &config, "16MiB");
    let mut direct = redis.client();
    direct.resp(&[b"RPUSH", b"list", CANARY.as_bytes()]);
    direct.resp(&[b"SET", b"below", CANARY.as_bytes()]);
    let client = connect(&daemon);
    let large = CANARY.repeat(8000);
    let mut said = String::new();
    let options = OperationOptions::default();
    for prefix in ["", "small:", "local:", "full:", "process:"] {
        let key = |name: &str| format!("{prefix}{name}");
        for value in [CANARY, &large, &CANARY.repeat(2000)] {
            said += &format!("{:?}\n", client.set(key("k"), value));
            said += &format!("{:?}\n", client.add(key("k"), value, &options));
            said += &format!("{:?}\n", client.replace(key("k"), value, &options));
            said += &format!("{:?}\n", client.append(key("k"), value));
            said += &format!("{:?}\n", client.prepend(key("k"), value));
            let count = client.increment(key("k"), 1, &CounterOptions::default());
            said += &format!("{count:?}\n");
            let many: Vec<(String, &str)> =
                (0..40).map(|n| (key(&format!("m{n}")), value)).collect();
            said += &format!("{:?}\n", client.set_many(&many));
            let no_wait = SetOptions { no_wait: true, flags: 7, ..SetOptions::default() };
            said += &format!("{:?}\n", client.set_with(key("n"), value, &no_wait));
            let flags = SetOptions { flags: 7, ..SetOptions::default() };
            said += &format!("{:?}\n", client.set_with(key("f"), value, &flags));
            if let Ok(Some(found)) = client.get(key("k")) {
                let token = found.meta().token();
                let swapped =
                    token.map(|token| client.compare_and_set(key("k"), token, value, &options));
                said += &format!("{swapped:?}\n");
                let again =
                    token.map(|token| client.compare_and_set(key("k"), token, value, &options));
                said += &format!("{again:?}\n");
                said += &format!("{:?}\n", token.map(|token| client.delete_if(key("k"), token)));
            }
            let reserved = client.reserve(key("load"), &LoadOptions::default());
            if let Ok(Reservation::Reserved(token)) = reserved {
                said += &format!("{:?}\n", client.fill(token, value, &SetOptions::default()));
            }
            said += &format!("{:?}\n", client.touch(key("k"), Lifetime::Forever));
            said += &format!("{:?}\n", client.delete(key("load")));
        }
    }
    // A key of another type, and values that only the tiers have.
    for key in ["list", "below", "small:below"] {
        said += &format!("{:?}\n", client.get(key).err());
        said += &format!("{:?}\n", client.append(key, CANARY).err());
        said += &format!("{:?}\n", client.increment(key, 1, &CounterOptions::default()).err());
        said += &format!("{:?}\n", client.get_many(&[key]).err());
        for arguments in
            [&["explain", key][..], &["--json", "explain", key], &["policy", "show", key]]
        {
            let output = l1ctl(&daemon, arguments);
            said += &String::from_utf8_lossy(&[output.stdout, output.stderr].concat());
        }
    }
    for arguments in [
        &["--json", "stats"][..],
        &["stats"],
        &["clients"],
        &["--json", "keys", "--by", "size"],
        &["keys"],
        &["tiers"],
        &["policies"],
        &["check"],
        &["advise"],
        &["access"],
    ] {
        let output = l1ctl(&daemon, arguments);
        said += &String::from_utf8_lossy(&[output.stdout, output.stderr].concat());
    }
    said += &client.admin().keys_json("", 100, KeyOrder::Size).unwrap();
    let paths = [
        "/",
        "/metrics",
        "/api/snapshot",
        "/api/history",
        "/api/clients",
        "/api/explain?key=below",
    ];
    for path in paths {
        let socket = daemon.socket().with_file_name("l1d-status.sock");
        let mut stream = UnixStream::connect(socket).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        said += &String::from_utf8_lossy(&answer);
    }
    // A kill with values on their way, a tier that goes, a restart that takes the table over.
    drop(redis);
    said += &format!("{:?}\n", client.set("k", CANARY));
    said += &format!("{:?}\n", client.get("missing"));
    let mut log = daemon.log();
    daemon.kill();
    said += &format!("{:?}\n", client.set("k", CANARY));
    daemon.restart();
    until("the next daemon", || client.set("local:k", CANARY).ok());
    assert!(stats(&client)["table"]["entries"].as_u64().unwrap() > 0);
    daemon.terminate();
    log += &daemon.log();
    assert!(log.lines().count() > 10 && said.len() > 10_000, "there is something to look at");
    assert_unseen("errors and figures", &said);
    assert_unseen("the log", &log);
}
