//! The hazards of a start: two daemons of which one takes the other's socket away, clients that
//! connect before the socket's mode is right or that are told "no daemon" while one is starting,
//! and an ordinary user's daemon that its clients do not find.

use l1d_client::Client;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_support::daemon::Daemon;
use test_support::servers::{PATIENCE, Server, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const L1CTL: &str = env!("CARGO_BIN_EXE_l1ctl");
const SMALL: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n";

/// A process; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_served(socket: &Path) -> bool {
    Client::builder().socket(socket).deadline(PATIENCE).connect().is_ok()
}

/// `l1d serve` with a table of this size in `tables`, at `socket`.
fn serve(size: &str, tables: &Path, socket: &Path) -> Command {
    let config = socket.with_extension("toml");
    std::fs::write(&config, SMALL).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("serve").arg("--config").arg(config);
    command.args(["--table-size", size, "--table-directory"]).arg(tables);
    command.arg("--socket").arg(socket).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

#[test]
fn a_daemon_that_is_turned_away_leaves_the_socket_of_the_other() {
    let mut first = Daemon::start(PROGRAM, SMALL, "16MiB");
    let inode = first.socket().metadata().unwrap().ino();
    // The same table: it does not come to the socket.
    let output = first.command().output().unwrap();
    assert!(said(&output).contains("another l1d owns the table"), "{}", said(&output));
    // Another table at the same socket, also while nobody accepts connections there.
    let tables = tempfile::tempdir().unwrap();
    let other = || serve("16MiB", &tables.path().join("tables"), &first.socket()).output().unwrap();
    for is_stopped in [false, true] {
        if is_stopped {
            first.stop();
        }
        let output = other();
        assert!(said(&output).contains("another process serves it"), "{}", said(&output));
        assert_eq!(output.status.code(), Some(4));
    }
    first.resume();
    assert_eq!(first.socket().metadata().unwrap().ino(), inode);
    assert!(is_served(&first.socket()));

    // After a kill, the socket file is stale.
    first.kill();
    first.restart();
    assert!(is_served(&first.socket()));
}

/// Each lock is taken before the socket is touched.
#[test]
fn a_daemon_without_a_lock_touches_no_socket() {
    let daemon = Daemon::start(PROGRAM, SMALL, "16MiB");
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("l1d.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let inode = || socket.metadata().unwrap().ino();
    let before = inode();
    // The lock of the table.
    let output = serve("16MiB", daemon.table().parent().unwrap(), &socket).output().unwrap();
    assert!(said(&output).contains("another l1d owns the table"), "{}", said(&output));
    assert_eq!(inode(), before);
    // The lock of the socket.
    let lock = std::fs::File::create(directory.path().join("l1d.sock.lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    let mut command = serve("16MiB", &directory.path().join("tables"), &socket);
    let mut running = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let status = until("it to end", || running.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(4));
    assert_eq!(inode(), before);
    drop(lock);
}

/// Started together, many times: one serves, the others leave it alone.
#[test]
fn of_daemons_that_start_together_one_serves() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("l1d.sock");
    for round in 0..4 {
        // Left by a daemon that was killed.
        let _ = std::fs::remove_file(&socket);
        drop(UnixListener::bind(&socket).unwrap());
        let mut running: Vec<Running> = (0..4)
            .map(|n| {
                let mut command =
                    serve("16MiB", &directory.path().join(format!("tables-{n}")), &socket);
                Running(command.stderr(Stdio::null()).spawn().unwrap())
            })
            .collect();
        until("one to be left", || {
            running.retain_mut(|process| process.0.try_wait().unwrap().is_none());
            (running.len() == 1).then_some(())
        });
        // The others may have given up before it listens.
        until(&format!("round {round}: the one left to serve"), || {
            is_served(&socket).then_some(())
        });
    }
}

#[test]
fn a_daemon_removes_its_own_socket_and_no_other() {
    let mut daemon = Daemon::start(PROGRAM, SMALL, "16MiB");
    std::fs::remove_file(daemon.socket()).unwrap();
    let other = UnixListener::bind(daemon.socket()).unwrap();
    assert!(daemon.terminate().success());
    UnixStream::connect(daemon.socket()).expect("the other's socket is there");
    drop(other);
    daemon.resize("1KiB");
    let output = daemon.command().output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(!daemon.socket().exists(), "a daemon that fails leaves no socket");
}

/// Watched from the first moment: whoever can connect must find the final mode.
#[test]
fn nobody_connects_before_the_mode_is_right() {
    let config = format!("[daemon]\nsocket_mode = \"0600\"\n{SMALL}");
    let mut daemon = Daemon::start(PROGRAM, &config, "16MiB");
    daemon.terminate();
    for _ in 0..20 {
        let _running = Running(daemon.command().stderr(Stdio::null()).spawn().unwrap());
        let begun = Instant::now();
        while UnixStream::connect(daemon.socket()).is_err() {
            assert!(begun.elapsed() < PATIENCE);
        }
        let mode = daemon.socket().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

/// A daemon that is stopped after it listens and before it has made its table, for longer than a
/// `peek` would wait.
#[test]
fn a_client_waits_for_a_daemon_that_is_starting() {
    let directory = tempfile::tempdir().unwrap();
    let memory = tempfile::Builder::new().prefix("l1d-test-").tempdir_in("/dev/shm").unwrap();
    let socket = directory.path().join("l1d.sock");
    let tables = memory.path().join("tables");
    // The largest table that is allocated before it is served; still, a daemon may be too fast.
    let starts = || {
        let _ = std::fs::remove_dir_all(&tables);
        let _ = std::fs::remove_file(&socket);
        let mut command = serve("256MiB", &tables, &socket);
        let running = Running(command.stderr(Stdio::null()).spawn().unwrap());
        let pid = Pid::from_raw(i32::try_from(running.0.id()).unwrap());
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < PATIENCE);
        }
        kill(pid, Signal::SIGSTOP).unwrap();
        (!tables.join("table").exists()).then_some((running, pid))
    };
    let (_running, pid) = (0..20).find_map(|_| starts()).expect("it listens before it has a table");
    let builder = Client::builder().socket(&socket).deadline(PATIENCE);
    let waiting = std::thread::spawn(move || builder.connect());
    std::thread::sleep(Duration::from_millis(600));
    assert!(!waiting.is_finished(), "{:?}", waiting.join().unwrap().err());
    kill(pid, Signal::SIGCONT).unwrap();
    waiting.join().unwrap().unwrap().set(b"key", b"value").unwrap();
}

/// Whether other users can be impersonated, and there is no system's daemon.
fn can_be_other_users() -> bool {
    // The programs may be where only this user can read them.
    let starts = || Command::new(PROGRAM).arg("--version").uid(some_uid()).output();
    let can = geteuid().is_root()
        && !Path::new("/run/l1d").exists()
        && starts().is_ok_and(|output| output.status.success());
    if !can {
        // Past the test harness's capture.
        let reason = "needs root, to be other users, and a host without a system's daemon";
        let _ = writeln!(std::io::stderr(), "NOT TESTED: {reason}");
    }
    can
}

/// A user that nobody else uses.
fn some_uid() -> u32 {
    2_000_000_000 + 2 * std::process::id()
}

/// A new directory of this user.
fn directory_of(uid: u32, place: &str, mode: u32) -> TempDir {
    let directory = tempfile::Builder::new().prefix("l1d-test-").tempdir_in(place).unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(mode)).unwrap();
    chown(directory.path(), Some(uid), Some(uid)).unwrap();
    directory
}

/// Whoever can put a socket there must not be able to feed another user's processes.
#[test]
fn another_users_daemon_at_a_users_own_place_is_not_trusted() {
    if !can_be_other_users() {
        return;
    }
    let (uid, stranger) = (some_uid(), some_uid() + 1);
    let (runtime, foreign) =
        (directory_of(uid, "/tmp", 0o700), directory_of(stranger, "/tmp", 0o755));
    let memory = directory_of(stranger, "/dev/shm", 0o755);
    let socket = foreign.path().join("l1d.sock");
    let mut command = serve("16MiB", &memory.path().join("tables"), &socket);
    // The group lets the user connect.
    let _running = Running(command.uid(stranger).gid(uid).stderr(Stdio::null()).spawn().unwrap());
    until("the daemon to listen", || UnixStream::connect(&socket).ok());
    let own = runtime.path().join("l1d");
    std::fs::create_dir(&own).unwrap();
    chown(&own, Some(uid), Some(uid)).unwrap();
    std::os::unix::fs::symlink(&socket, own.join("l1d.sock")).unwrap();
    let mut command = Command::new(L1CTL);
    command.args(["get", "key"]).uid(uid).gid(uid).env_remove("L1D_SOCKET");
    let output = command.env("XDG_RUNTIME_DIR", runtime.path()).output().unwrap();
    assert!(said(&output).contains("cannot be trusted"), "{}", said(&output));
    // Who names the socket trusts it.
    let output = command.env("L1D_SOCKET", &socket).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

/// An ordinary user's daemon without any option, and its clients without any.
#[test]
fn a_users_own_daemon_is_found_by_that_users_clients() {
    if !can_be_other_users() {
        return;
    }
    let uid = some_uid();
    let runtime = directory_of(uid, "/tmp", 0o700);
    let fallback = format!("/tmp/l1d-{uid}");
    let tables = format!("/dev/shm/l1d-{uid}");
    let places = [(Some(runtime.path()), runtime.path().join("l1d")), (None, fallback.into())];
    for (variable, directory) in places {
        let command = |program: &str| {
            let mut command = Command::new(program);
            command.env_remove("XDG_RUNTIME_DIR").env_remove("L1D_SOCKET").current_dir("/");
            command.envs(variable.map(|path| (OsStr::new("XDG_RUNTIME_DIR"), path)));
            command.uid(uid).gid(uid).stdin(Stdio::null());
            command
        };
        let missing = command(L1CTL).arg("stats").output().unwrap();
        assert!(said(&missing).contains("start it"), "{}", said(&missing));
        let mut serve = command(PROGRAM);
        let mut running = Running(serve.arg("serve").stderr(Stdio::null()).spawn().unwrap());
        until("the daemon to listen", || UnixStream::connect(directory.join("l1d.sock")).ok());
        let found = directory.metadata().unwrap();
        assert_eq!((found.uid(), found.mode() & 0o777), (uid, 0o700));
        assert_eq!(Path::new(&tables).metadata().unwrap().uid(), uid);
        let set = command(L1CTL).args(["set", "key", "value"]).output().unwrap();
        assert!(set.status.success(), "{}", said(&set));
        let get = command(L1CTL).args(["get", "key"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&get.stdout).trim_end(), "value");
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        // A directory that others can write is nobody's own.
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).unwrap();
        let output = command(PROGRAM).arg("serve").output().unwrap();
        assert!(said(&output).contains("only this user can write"), "{}", said(&output));
        std::fs::remove_dir_all(&directory).unwrap();
        std::fs::remove_dir_all(&tables).unwrap();
    }
}

#[test]
fn the_environment_names_the_socket_for_clients_without_an_option() {
    let daemon = Daemon::start(PROGRAM, SMALL, "16MiB");
    let mut command = Command::new(L1CTL);
    let output = command.arg("stats").env("L1D_SOCKET", daemon.socket()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let output = command.env("L1D_SOCKET", "/nowhere").output().unwrap();
    assert!(said(&output).contains("/nowhere"), "{}", said(&output));
}

/// The log of a daemon with these tiers, once it has told of each.
fn log_of(tiers: &str) -> String {
    let daemon = Daemon::start(PROGRAM, &format!("{SMALL}{tiers}"), "16MiB");
    // It serves all the same.
    assert!(is_served(&daemon.socket()));
    daemon.log()
}

#[track_caller]
fn assert_logged(log: &str, words: &[&str]) {
    assert!(
        log.lines().any(|line| words.iter().all(|word| line.contains(word))),
        "{words:?}: {log}"
    );
}

/// The address of a server that answers each command with this.
fn answering(answer: &'static [u8]) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..count]);
            for _ in text.lines().filter(|line| line.starts_with('*') || *line == "mn") {
                stream.write_all(answer).unwrap();
            }
        }
    });
    address
}

#[test]
fn the_log_says_at_start_what_is_wrong_with_a_tier() {
    let (memcached, redis) = (Server::memcached(), Server::redis());
    let l2 = |address: &str| format!("[l2]\naddress = \"{address}\"\ndeadline = \"500ms\"\n");
    let l3 = |url: &str| format!("[l3]\nurl = \"{url}\"\ndeadline = \"500ms\"\n");
    let (cache, store) = (memcached.address(), redis.address());

    let log = log_of(&format!("{}{}", l2(&cache), l3(&format!("redis://{store}"))));
    assert_logged(&log, &["INFO", "the tier answers", "L2", &cache]);
    assert_logged(&log, &["INFO", "the tier answers", "L3", &store, "version=\""]);

    // Ports where nothing listens, and where something else does.
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let log = log_of(&format!("{}{}", l2(&closed), l3(&format!("redis://{closed}"))));
    assert_logged(&log, &["WARN", "the tier cannot be used", "L2", "refused"]);
    assert_logged(&log, &["WARN", "the tier cannot be used", "L3", "refused"]);
    let log = log_of(&format!("{}{}", l2(&store), l3(&format!("redis://{cache}"))));
    assert_logged(&log, &["WARN", "the tier cannot be used", "L2", "protocol"]);
    assert_logged(&log, &["WARN", "the tier cannot be used", "L3"]);

    // memcached 1.5 knows no meta commands.
    let log = log_of(&l2(&answering(b"ERROR\r\n")));
    assert_logged(&log, &["WARN", "the tier cannot be used", "L2", "memcached 1.6"]);
    let old = answering(b"$37\r\nredis_version:5.0.14\r\nrole:master\r\n\r\n\r\n");
    let log = log_of(&l3(&format!("redis://{old}")));
    assert_logged(&log, &["WARN", "not usable", "5.0.14", "Redis 6 or later"]);

    let log = log_of(&l3(&format!("redis://{store}/99")));
    assert_logged(&log, &["WARN", "the tier cannot be used", "DB index"]);
    let log = log_of(&l3(&format!("redis://:wrong@{store}")));
    assert_logged(&log, &["WARN", "the tier cannot be used", "password"]);
    assert!(!log.contains("wrong@"), "{log}");

    let mut admin = redis.client();
    admin.resp(&[b"REPLICAOF", b"127.0.0.1", b"1"]);
    let log = log_of(&l3(&format!("redis://{store}")));
    assert_logged(&log, &["WARN", "not usable", "replica"]);
    admin.resp(&[b"REPLICAOF", b"NO", b"ONE"]);
    admin.resp(&[b"CONFIG", b"SET", b"requirepass", b"secret"]);
    let log = log_of(&l3(&format!("redis://{store}")));
    assert_logged(&log, &["WARN", "the tier cannot be used", "NOAUTH"]);
    // Whoever may not ask for the version may still read and write.
    admin.resp(&[b"AUTH", b"secret"]);
    admin.resp(&[b"ACL", b"SETUSER", b"app", b"on", b">pw", b"~*", b"+@all", b"-info"]);
    let log = log_of(&l3(&format!("redis://app:pw@{store}")));
    assert_logged(&log, &["INFO", "the tier answers", "L3"]);
}

#[test]
fn memcached_is_reached_over_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("memcached.sock");
    let mut command = Command::new("memcached");
    command.arg("-s").arg(&socket).args(["-a", "0700", "-u", "root"]);
    let _memcached = Running(command.stderr(Stdio::null()).spawn().unwrap());
    let mut direct = until("memcached", || UnixStream::connect(&socket).ok());
    let config = format!("{SMALL}[l2]\naddress = \"unix:{}\"\n", socket.display());
    let daemon = Daemon::start(PROGRAM, &config, "16MiB");
    assert_logged(&daemon.log(), &["the tier answers", "memcached.sock"]);
    let client = Client::connect(daemon.socket()).unwrap();
    client.set(b"key", b"value").unwrap();
    direct.write_all(b"get key\r\n").unwrap();
    let mut answer = [0; 27];
    direct.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"VALUE key 0 5\r\nvalue\r\nEND\r\n");
    direct.write_all(b"set other 0 0 5\r\nbelow\r\n").unwrap();
    assert_eq!(&*until("the value", || client.get(b"other").unwrap()), b"below");
}
