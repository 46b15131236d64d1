//! What `docs/src/containers.md` says of mount, PID, IPC, network, UTS and user namespaces.

use super::peer::Peer;
use super::{L1CTL, can_run, daemon};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use test_support::daemon::Daemon;

/// All namespaces of a container but the user's.
const CONTAINER: [&str; 8] =
    ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--net", "--uts"];

/// A daemon whose socket is in a directory that can be mounted elsewhere.
fn started() -> Daemon {
    let mut daemon = daemon();
    daemon.restart();
    daemon
}

/// A shell that runs `script` and then becomes its arguments; `$0` is `place`.
fn after<'a>(under: &[&'a str], script: &'a str, place: &'a str) -> Vec<&'a str> {
    [under, &["sh", "-c", script, place]].concat()
}

fn directory(daemon: &Daemon) -> String {
    daemon.socket().parent().unwrap().to_str().unwrap().to_owned()
}

/// The hazard: a container needs the host's /dev/shm, its PID or its IPC namespace.
#[test]
fn a_container_needs_the_sockets_directory_and_nothing_else() {
    if !can_run("containers of clients", &[&CONTAINER[..], &["true"]].concat()) {
        return;
    }
    let daemon = started();
    let directory = directory(&daemon);
    // Mounted read-only, at another place, over a /dev/shm that has room for no table.
    let script = "mount -t tmpfs -o size=1m tmpfs /dev/shm && mount -t proc proc /proc \
        && mount --bind -o ro \"$0\" /mnt && mount -o remount,bind,ro /mnt && exec \"$@\"";
    let under = after(&CONTAINER, script, &directory);
    let inside = Path::new("/mnt/l1d.sock");
    let mut host = Peer::start(&[], &daemon.socket());
    let mut guest = Peer::start(&under, inside);
    assert_eq!(guest.ask("set key value 3600000"), "stored");
    assert_eq!(host.ask("peek key"), "value");
    assert_eq!(host.ask("set other value 3600000"), "stored");
    assert_eq!(guest.ask("peek other"), "value");
    // A second container, whose processes have the same numbers.
    let mut sibling = Peer::start(&under, inside);
    assert_eq!(sibling.ask("peek key"), "value");
    assert_eq!(guest.ask("children fork"), "all right");
}

/// The hazard: a daemon that starts again is not found by containers that run already.
#[test]
fn a_mounted_directory_shows_the_next_daemons_socket() {
    if !can_run("containers of clients", &[&CONTAINER[..], &["true"]].concat()) {
        return;
    }
    let mut daemon = started();
    let directory = directory(&daemon);
    let under = after(&CONTAINER, "mount --bind \"$0\" /mnt && exec \"$@\"", &directory);
    let mut guest = Peer::start(&under, Path::new("/mnt/l1d.sock"));
    assert_eq!(guest.ask("set key value 3600000"), "stored");
    daemon.kill();
    assert_eq!(guest.ask("peek key"), "value", "while there is no daemon");
    daemon.restart();
    assert_eq!(guest.ask("get missing"), "nothing", "{}", daemon.log());
    assert_eq!(guest.ask("get key"), "value");
}

/// The hazard: in a user namespace a client is somebody else than the daemon's files say, and learns
/// nothing of why it may not connect.
#[test]
fn in_a_user_namespace_a_client_is_who_it_is_outside() {
    let user = ["unshare", "--user", "--map-root-user"];
    if !can_run("user namespaces", &[&user[..], &["true"]].concat()) {
        return;
    }
    let daemon = started();
    let mut host = Peer::start(&[], &daemon.socket());
    // This user, who may connect, is root there; the daemon sees this user.
    let mut guest = Peer::start(&user, &daemon.socket());
    assert_eq!(guest.ask("set key value 3600000"), "stored");
    assert_eq!(host.ask("peek key"), "value");
    // Who is mapped to nobody is one of the others to the kernel as well.
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(daemon.socket().parent().unwrap(), 0o755);
    // Who must be able to run this program, and to reach the socket's directory.
    let (socket, this) = (daemon.socket(), std::env::current_exe().unwrap());
    let [socket, this] = [&socket, &this].map(|path| path.to_str().unwrap());
    let reach = ["sh", "-c", "test -e \"$0\" && exec \"$1\" --list", socket, this];
    if !can_run("another user", &[&nobody[..], &reach].concat()) {
        return;
    }
    let in_namespace = [&nobody[..], &["unshare", "--user", "--map-root-user"]].concat();
    let mut stranger = Peer::begin(&in_namespace, &daemon.socket());
    let refusal = stranger.hear();
    assert!(refusal.contains("this user may not connect"), "{refusal}");
    // With its group as a supplementary one it is let in.
    set_mode(&daemon.socket(), 0o660);
    let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(daemon.socket()).unwrap());
    let group = format!("--groups={group}");
    let member = ["setpriv", "--reuid=65534", "--regid=65534", &group];
    let mut member = Peer::start(&member, &daemon.socket());
    assert_eq!(member.ask("peek key"), "value");
}

/// The hazard: a daemon in a container, which sees no process outside, serves those wrongly or shows
/// them as others.
#[test]
fn a_daemon_in_a_container_serves_clients_that_it_cannot_see() {
    if !can_run("a daemon in a container", &[&CONTAINER[..], &["true"]].concat()) {
        return;
    }
    let mut daemon = daemon();
    // Not the network: the daemon has none here anyway. It is the first process of its namespace.
    let script = "mount -t proc proc /proc && exec \"$@\"";
    daemon.run_under(&after(&CONTAINER, script, "daemon"));
    daemon.restart();
    let mut host = Peer::start(&[], &daemon.socket());
    let mut sibling = Peer::start(&CONTAINER, &daemon.socket());
    assert_eq!(host.ask("set key value 3600000"), "stored");
    assert_eq!(sibling.ask("peek key"), "value");
    let output = l1ctl(&daemon, &["--json", "clients"]);
    let clients: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for client in clients["clients"].as_array().unwrap() {
        assert_eq!((&client["pid"], &client["program"]), (&0.into(), &serde_json::Value::Null));
    }
    let output = l1ctl(&daemon, &["clients"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut of_clients = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert!(
        of_clients.any(|words| words.first() == Some(&"0") && words.get(2) == Some(&"-")),
        "{shown}"
    );
}

/// The hazard: a daemon in a container with the usual 64 MiB of /dev/shm dies of a bus error, or
/// says nothing of what to do.
#[test]
fn a_table_that_does_not_fit_the_containers_memory_is_refused_with_advice() {
    if !can_run("a container's /dev/shm", &["unshare", "--mount", "true"]) {
        return;
    }
    let script = "mount -t tmpfs -o size=64m tmpfs /dev/shm && exec \"$@\"";
    let under = after(&["unshare", "--mount"], script, "daemon");
    let serve = |size| {
        let mut command = Command::new(under[0]);
        command.args(&under[1..]).args([super::PROGRAM, "serve", "--socket"]);
        command.arg(std::env::temp_dir().join(format!("l1d-{}.sock", std::process::id())));
        command.args(["--table-directory", "/dev/shm/l1d", "--table-size", size]);
        command.env_remove("NOTIFY_SOCKET").output().unwrap()
    };
    let refused = serve("256MiB");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{text}");
    assert!(text.contains("does not fit") && text.contains("a smaller table size"), "{text}");
}

fn l1ctl(daemon: &Daemon, arguments: &[&str]) -> Output {
    Command::new(L1CTL).arg("--socket").arg(daemon.socket()).args(arguments).output().unwrap()
}
