//! Threads that are other users to the kernel: it tells the daemon the credentials of the thread
//! that connects.

use l1d_client::{Client, Error};
use nix::libc;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use test_support::daemon::Daemon;
use test_support::servers::PATIENCE;

/// A user and its groups.
#[derive(Debug, Clone, Copy)]
pub struct Who {
    pub uid: u32,
    pub gid: u32,
    /// Beside `gid`.
    pub group: u32,
}

impl Who {
    /// A user in a group of its own.
    pub fn alone(uid: u32) -> Who {
        Who { uid, gid: uid, group: uid }
    }

    /// Makes this thread one of the user's. Without the C library's wrappers, the calls change this
    /// thread's ids alone.
    fn become_it(self) -> bool {
        let Who { uid, gid, group } = self;
        // SAFETY: the kernel reads one group from a live variable; the other calls have no
        // pointers.
        unsafe {
            libc::syscall(libc::SYS_setgroups, 1, &raw const group) == 0
                && libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0
                && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
        }
    }

    /// Runs `act` in a thread of the user's.
    pub fn run<T: Send>(self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let act = move || {
                assert!(self.become_it(), "no right to become another user");
                act()
            };
            scope.spawn(act).join().unwrap()
        })
    }
}

/// Whether this process may become other users. Says so if not.
pub fn may_become_others() -> bool {
    let may = std::thread::spawn(|| Who::alone(61_000).become_it()).join().unwrap();
    if !may {
        // Bypasses the test harness's capture, which swallows what a passing test prints.
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "NOT TESTED: several users, because this is not root");
    }
    may
}

/// Lets every user reach the daemon's sockets: what is tested is what the daemon allows.
pub fn open_to_all(daemon: &Daemon) {
    let socket = daemon.socket();
    let directory = socket.parent().unwrap();
    set_permissions(directory, Permissions::from_mode(0o711)).unwrap();
    for path in [socket.clone(), socket.with_file_name("l1d-status.sock")] {
        set_permissions(path, Permissions::from_mode(0o666)).unwrap();
    }
}

type Job = Box<dyn FnOnce(&Result<Client, Error>) + Send>;

/// A client of a user's, in a thread of its own. Dropping it ends both.
pub struct User {
    pub who: Who,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl User {
    /// Connects, with a mailbox or over the socket alone.
    pub fn connect(daemon: &Daemon, who: Who, mailbox: bool) -> User {
        let (jobs, todo) = channel::<Job>();
        let socket: PathBuf = daemon.socket();
        let thread = std::thread::spawn(move || {
            assert!(who.become_it());
            let builder = Client::builder().socket(socket).deadline(PATIENCE).mailbox(mailbox);
            let client = builder.attach_deadline(PATIENCE).connect();
            for job in todo {
                job(&client);
            }
        });
        User { who, jobs: Some(jobs), thread: Some(thread) }
    }

    /// Why it could not connect.
    pub fn refusal(&self) -> Option<Error> {
        self.with(|client| client.as_ref().err().cloned())
    }

    /// Has the client do something.
    pub fn ask<T: Send + 'static>(&self, act: impl FnOnce(&Client) -> T + Send + 'static) -> T {
        self.with(move |client| act(client.as_ref().unwrap()))
    }

    fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Result<Client, Error>) -> T + Send + 'static,
    ) -> T {
        let (sender, result) = channel();
        let job: Job = Box::new(move |client| {
            let _ = sender.send(act(client));
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv().expect("the user's thread goes on")
    }
}

impl Drop for User {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
