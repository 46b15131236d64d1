//! The hazard: one user takes every connection, mailbox, fetch or place for a write, and the others
//! get none; or a limit loses what was accepted.

use super::users::{User, Who, may_become_others, open_to_all};
use super::{PROGRAM, SMALL, figure};
use l1d_client::{Client, Error, SetOptions};
use serde_json::Value;
use test_support::daemon::{Daemon, connect};
use test_support::proxy::Proxy;
use test_support::servers::{Server, until};

const GREEDY: Who = Who { uid: 61_011, gid: 61_011, group: 61_011 };
const OTHER: Who = Who { uid: 61_012, gid: 61_012, group: 61_012 };

fn mailboxes_of(client: &Client, uid: u32) -> Vec<bool> {
    let clients: Value = serde_json::from_str(&client.admin().clients_json().unwrap()).unwrap();
    let clients = clients["clients"].as_array().unwrap().iter();
    let its = clients.filter(|client| client["uid"] == uid);
    its.map(|client| client["has_mailbox"].as_bool().unwrap()).collect()
}

#[test]
fn a_user_gets_as_many_connections_and_mailboxes_as_it_may() {
    if !may_become_others() {
        return;
    }
    let limits = "[limits]\nconnections_max = 3\nmailboxes_max = 2\n\
                  [[access]]\nuser = 61012\nwrite = true\nmailboxes_max = 1\n\
                  [[access]]\nwrite = true\n";
    let daemon = Daemon::start(PROGRAM, &format!("{SMALL}{limits}"), "16MiB");
    open_to_all(&daemon);
    let users: Vec<User> = (0..3).map(|_| User::connect(&daemon, GREEDY, true)).collect();
    for user in &users {
        user.ask(|client| client.set("k", "v")).unwrap();
    }
    let root = connect(&daemon);
    let mut has = mailboxes_of(&root, GREEDY.uid);
    has.sort_unstable();
    assert_eq!(has, [false, true, true], "the third one uses the socket");
    let refusal = User::connect(&daemon, GREEDY, true).refusal();
    let is_named = |reason: &str| reason.contains("connections_max") && reason.contains("61011");
    assert!(matches!(&refusal, Some(Error::Busy { reason }) if is_named(reason)), "{refusal:?}");
    // A rule's own limit, and nobody is in another's way.
    let others: Vec<User> = (0..2).map(|_| User::connect(&daemon, OTHER, true)).collect();
    others[1].ask(|client| client.set("k", "v")).unwrap();
    let mut has = mailboxes_of(&root, OTHER.uid);
    has.sort_unstable();
    assert_eq!(has, [false, true]);
    assert_eq!(figure(&root, "/requests/over_quota"), 3);
    let log = daemon.log();
    for limit in ["connections_max", "mailboxes_max"] {
        let is_told = log.lines().any(|line| {
            line.contains("as much under way as it may")
                && line.contains(limit)
                && line.contains("uid=61011")
        });
        assert!(is_told, "{limit}: {log}");
    }
    drop(users);
    until("a place", || User::connect(&daemon, GREEDY, true).refusal().is_none().then_some(()));
}

#[test]
fn a_user_has_as_many_fetches_and_writes_under_way_as_it_may_and_loses_none() {
    const SETS: usize = 200;
    if !may_become_others() {
        return;
    }
    let redis = Server::redis();
    let proxy = Proxy::before(&redis);
    let limits = "deadline = \"60s\"\n[limits]\nfetches_max = 4\nwrites_max = 8\n";
    let config = format!("{SMALL}[l3]\nurl = \"redis://{}/0\"\n{limits}", proxy.address());
    let daemon = Daemon::start(PROGRAM, &config, "16MiB");
    open_to_all(&daemon);
    let root = connect(&daemon);
    root.set("warm", "up").unwrap();
    let [greedy, other] = [GREEDY, OTHER].map(|who| User::connect(&daemon, who, true));
    for user in [&greedy, &other] {
        user.ask(|client| client.set("warm", "up")).unwrap();
    }
    proxy.hold();
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| {
            greedy.ask(|client| {
                let keys: Vec<String> = (0..10).map(|n| format!("missing:{n}")).collect();
                client.lookup_many(&keys)
            })
        });
        until("the fetches", || (figure(&root, "/flights/under_way") == 4).then_some(()));
        let of_other = scope.spawn(|| other.ask(|client| client.lookup_many(&["another"])));
        until("another user's", || (figure(&root, "/flights/under_way") == 5).then_some(()));
        proxy.release();
        let refused = fetching.join().unwrap().into_iter().filter_map(Result::err);
        let refused: Vec<String> = refused.map(|error| error.to_string()).collect();
        assert_eq!(refused.len(), 6, "{refused:?}");
        assert!(refused.iter().all(|text| text.contains("fetches_max")), "{refused:?}");
        assert!(of_other.join().unwrap()[0].is_ok());
    });

    proxy.hold();
    greedy.ask(|client| {
        let options = SetOptions { no_wait: true, ..SetOptions::default() };
        for n in 0..SETS {
            client.set_with(format!("set:{n}"), "v", &options).unwrap();
        }
    });
    until("the writes", || (figure(&root, "/writes_under_way") >= 8).then_some(()));
    // Its other requests wait in its ring, and those of another user do not.
    let waiting = figure(&root, "/writes_under_way");
    assert!(waiting < 32, "{waiting} writes of a user that may have 8");
    std::thread::scope(|scope| {
        let setting = scope.spawn(|| other.ask(|client| client.set("other:k", "v")));
        until("another user's write", || {
            (figure(&root, "/writes_under_way") == waiting + 1).then_some(())
        });
        proxy.release();
        setting.join().unwrap().unwrap();
    });
    until("all that were accepted", || {
        (0..SETS).all(|n| root.peek(format!("set:{n}")).is_some()).then_some(())
    });
    assert!(figure(&root, "/requests/over_quota") > 6);
}
