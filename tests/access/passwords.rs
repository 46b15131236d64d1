//! The hazard: a password that others can read, in the configuration, in a file, or in what the
//! daemon shows; or one that is kept safely and does not reach the server.

use super::{PROGRAM, SMALL, l1ctl};
use l1d_client::Client;
use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use test_support::daemon::Daemon;
use test_support::servers::{PATIENCE, Server, until};

const PASSWORD: &str = "geheim-5f3a";

fn redis() -> Server {
    let redis = Server::redis();
    redis.client().resp(&[b"CONFIG", b"SET", b"requirepass", PASSWORD.as_bytes()]);
    redis
}

fn check_config(path: &Path) -> Output {
    Command::new(PROGRAM).arg("check-config").arg(path).output().unwrap()
}

/// A file with this text and mode.
fn file(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = directory.join(name);
    write(&path, text).unwrap();
    set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

fn config(redis: &Server, user: &str, more: &str) -> String {
    format!(
        "{SMALL}[daemon]\nlog = \"trace\"\n[l3]\nurl = \"redis://{user}{}/0\"\n{more}\n",
        redis.address()
    )
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether the daemon at `socket` stores values in Redis.
fn reaches(socket: &Path, redis: &Server) {
    let client =
        until("the daemon", || Client::builder().socket(socket).deadline(PATIENCE).connect().ok());
    until("the tier", || client.set("key", "value").ok());
    let mut direct = redis.client();
    direct.resp(&[b"AUTH", PASSWORD.as_bytes()]);
    assert_eq!(direct.resp(&[b"GET", b"key"]), b"value");
}

#[test]
fn a_password_comes_from_a_file_a_credential_or_the_environment_and_is_shown_nowhere() {
    let redis = redis();
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "redis-password", &format!("{PASSWORD}\n"), 0o600);
    let from_file = config(&redis, "", &format!("password_file = \"{}\"", path.display()));
    let daemon = Daemon::start(PROGRAM, &from_file, "16MiB");
    reaches(&daemon.socket(), &redis);
    let in_url = config(&redis, &format!(":{PASSWORD}@"), "");
    daemon.configure(&in_url);
    let mut shown = vec![l1ctl(&daemon, &["policy", "reload"])];
    for arguments in [&["--json", "tiers"][..], &["explain", "key"], &["--json", "stats"]] {
        shown.push(l1ctl(&daemon, arguments));
    }
    shown.push(check_config(&daemon.socket().with_file_name("l1d.toml")));
    for output in shown {
        assert!(output.status.success(), "{output:?}");
        let text = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&text).contains(PASSWORD));
    }
    assert!(daemon.log().contains("needs a restart"), "{}", daemon.log());
    assert!(!daemon.log().contains(PASSWORD), "{}", daemon.log());

    for (setting, variable, value) in [
        (
            "password_credential = \"redis-password\"",
            "CREDENTIALS_DIRECTORY",
            directory.path().to_str().unwrap(),
        ),
        ("password_env = \"L1D_TEST_PASSWORD\"", "L1D_TEST_PASSWORD", PASSWORD),
    ] {
        let mut daemon = Daemon::start(PROGRAM, SMALL, "16MiB");
        daemon.kill();
        daemon.configure(&config(&redis, "", setting));
        let mut without = daemon.command();
        let output = without.env_remove(variable).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("l1d.toml:7:") && said.contains(variable), "{said}");
        let child = daemon.command().env(variable, value).stderr(Stdio::null()).spawn().unwrap();
        let _running = Running(child);
        reaches(&daemon.socket(), &redis);
    }
}

#[test]
fn a_password_that_others_can_read_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let open = file(directory.path(), "open", PASSWORD, 0o644);
    let empty = file(directory.path(), "empty", "\n", 0o600);
    let l3 = |more: &str| format!("{SMALL}[l3]\nurl = \"redis://h:1\"\n{more}\n");
    let by_file = |path: &Path| l3(&format!("password_file = \"{}\"", path.display()));
    let in_url = format!("{SMALL}[l3]\nurl = \"redis://:{PASSWORD}@h:1\"\n");
    let in_query = format!("{SMALL}[l3]\nurl = \"redis+unix:///run/r.sock?pass={PASSWORD}\"\n");
    for (text, mode, words) in [
        (&in_url, 0o644, ["l1d.toml:4:7", "chmod 0640", "password_file"]),
        (&in_url, 0o642, ["every user", "mode 0642", "[l3]"]),
        (&in_query, 0o604, ["l1d.toml:4:7", "chmod 0640", "every user"]),
        (&by_file(&open), 0o644, ["l1d.toml:5:17", "open: every user", "chmod 0640"]),
        (&by_file(&empty), 0o644, ["l1d.toml:5:17", "empty: is empty", "[l3]"]),
        (&by_file(Path::new("/nonexistent")), 0o644, ["cannot be read", "password_file", ":5:17"]),
        (&by_file(directory.path()), 0o644, ["no regular file", "password_file", ":5:17"]),
        (
            &l3(&format!("password = \"{PASSWORD}\"")),
            0o644,
            ["unknown key", "password_file", ":5:"],
        ),
        (
            &l3(&format!("password_file = \"{PASSWORD}\"")),
            0o644,
            ["not an absolute path", "password_file", ":5:17"],
        ),
        (
            &format!("{in_url}password_env = \"X\"\n"),
            0o600,
            ["more than one password", "password_env", "l1d.toml:5:16"],
        ),
    ] {
        let path = file(directory.path(), "l1d.toml", text, mode);
        let serve = Command::new(PROGRAM).args(["serve", "--config"]).arg(&path).output().unwrap();
        for output in [check_config(&path), serve] {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{said}");
            for word in words {
                assert!(said.contains(word), "{word:?} is missing: {said}");
            }
            assert!(!said.contains(PASSWORD), "{said}");
        }
    }
    for mode in [0o600, 0o640] {
        let path = file(directory.path(), "l1d.toml", &in_url, mode);
        let output = check_config(&path);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
