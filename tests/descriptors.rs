//! The hazard: a process that closes all descriptors and uses their numbers again, as a library does
//! that daemonizes, finds l1d's bytes in its sockets, or its sockets closed. One test, because it
//! takes away every socket of its process.

use l1d_client::{AsyncClient, Client, SetOptions};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
use nix::sys::stat::fstat;
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};
use test_support::daemon::Daemon;
use test_support::servers::PATIENCE;

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");

/// The open sockets of this process.
fn sockets() -> BTreeSet<RawFd> {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    links
        .filter_map(|link| {
            let path = link.ok()?.path();
            let is_socket = fs::read_link(&path).ok()?.to_str()?.starts_with("socket:");
            is_socket.then(|| path.file_name()?.to_str()?.parse().ok())?
        })
        .collect()
}

/// A socket of the program's in place of each of `numbers`, and the other end.
struct Taken {
    numbers: Vec<RawFd>,
    inode: u64,
    other: OwnedFd,
}

impl Taken {
    fn take(numbers: impl IntoIterator<Item = RawFd>) -> Taken {
        let flags = SockFlag::SOCK_CLOEXEC;
        let pair = socketpair(AddressFamily::Unix, SockType::Stream, None, flags).unwrap();
        let inode = fstat(&pair.0).unwrap().st_ino;
        let numbers: Vec<RawFd> = numbers.into_iter().collect();
        for number in &numbers {
            // SAFETY: the number is an open descriptor, which this replaces: that is the hazard.
            let mut replaced = unsafe { OwnedFd::from_raw_fd(*number) };
            nix::unistd::dup2(&pair.0, &mut replaced).unwrap();
            let _ = replaced.into_raw_fd();
        }
        Taken { numbers, inode, other: pair.1 }
    }

    /// The program's sockets got no byte, and are open.
    fn assert_untouched(&self, what: &str) {
        let mut byte = [0];
        let received = recv(self.other.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT);
        assert_eq!(received, Err(nix::Error::EAGAIN), "{what}: bytes in the program's socket");
        for number in &self.numbers {
            // SAFETY: borrowed for two calls only, which fail if it is not open.
            let socket = unsafe { BorrowedFd::borrow_raw(*number) };
            assert!(fcntl(socket, FcntlArg::F_GETFD).is_ok(), "{what}: {number} was closed");
            assert_eq!(fstat(socket).unwrap().st_ino, self.inode, "{what}: {number} was replaced");
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        for number in self.numbers.drain(..) {
            // SAFETY: put there by `take`, and owned by nobody else.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

#[test]
fn sockets_whose_numbers_are_used_again_are_left_alone_and_the_client_attaches_again() {
    let config = "[table]\nvalue_bytes_max = \"64KiB\"\n";
    let daemon = Daemon::start(PROGRAM, config, "16MiB");
    let connect = |mailbox| {
        let builder = Client::builder().socket(daemon.socket()).mailbox(mailbox);
        builder.deadline(PATIENCE).attach_deadline(PATIENCE).connect().unwrap()
    };
    let other = connect(true);
    let no_wait = SetOptions { no_wait: true, ..SetOptions::default() };
    let value = |client: &Client, key: &[u8]| client.get(key).unwrap().map(|found| found.to_vec());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    type Act<'a> = (&'a str, Box<dyn Fn(&Client) + 'a>);
    let acts: Vec<Act<'_>> = vec![
        ("get", Box::new(|client| assert_eq!(client.get(b"missing").unwrap(), None))),
        ("set", Box::new(|client| client.set(b"set", b"1").map(drop).unwrap())),
        ("delete", Box::new(|client| client.delete(b"nothing").map(drop).unwrap())),
        (
            "set without an answer",
            Box::new(|client| {
                // One that the daemon did not read may be lost, as when a daemon ends.
                let begun = Instant::now();
                while value(&other, b"posted").is_none() {
                    let _ = client.set_with(b"posted", b"1", &no_wait);
                    assert!(begun.elapsed() < PATIENCE);
                    std::thread::sleep(Duration::from_millis(1));
                }
                other.delete(b"posted").unwrap();
            }),
        ),
        (
            "a large set",
            Box::new(|client| {
                client.set(b"large", vec![1; 60 << 10]).map(drop).unwrap();
            }),
        ),
        ("stats", Box::new(|client| client.admin().stats_json().map(drop).unwrap())),
        (
            "async get",
            Box::new(|client| {
                let client = AsyncClient::from(client.clone());
                assert_eq!(runtime.block_on(client.get(b"missing")).unwrap(), None);
            }),
        ),
        (
            "hits",
            Box::new(|client| {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(1200) {
                    assert!(client.peek(b"hit").is_some());
                    std::thread::sleep(Duration::from_millis(1));
                }
            }),
        ),
        ("nothing", Box::new(|_| ())),
    ];
    other.set(b"hit", b"value").unwrap();
    for mailbox in [true, false] {
        for (name, act) in &acts {
            let what = format!("{name}, with a mailbox: {mailbox}");
            let before = sockets();
            let client = connect(mailbox);
            // Both kinds of connections are in use.
            client.admin().stats_json().unwrap();
            let taken = Taken::take(sockets().difference(&before).copied());
            assert!(!taken.numbers.is_empty());
            act(&client);
            taken.assert_untouched(&what);
            act(&client);
            drop(client);
            taken.assert_untouched(&what);
        }
    }
}
