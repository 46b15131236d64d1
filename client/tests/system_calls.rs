//! The hazard: a read of the table that enters the kernel, because of a lock, a clock outside the
//! vDSO or a check that crept in.

mod fake;

use fake::{Act, FakeDaemon, FakeTable};
use l1d_client::Client;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use shm_layout::Entry;

/// Runs `work` in a child that the kernel kills at its first system call; `true` if it survived.
fn runs_without_system_calls(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child only runs `work`, which neither allocates nor locks, and ends itself.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, 0) => true,
            WaitStatus::Exited(_, 9) => panic!("this kernel has no seccomp: nothing was tested"),
            WaitStatus::Exited(..) => panic!("the reads went wrong"),
            _ => false,
        },
        ForkResult::Child => {
            // SAFETY: restricts only this process, to read, write, exit and sigreturn.
            let code = match unsafe { libc::prctl(libc::PR_SET_SECCOMP, 1) } {
                0 => i64::from(!work()),
                _ => 9,
            };
            // SAFETY: ends the only thread of this process; `_exit` would be another system call.
            unsafe { libc::syscall(libc::SYS_exit, code) };
            unreachable!()
        }
    }
}

#[test]
fn reads_of_the_table_make_no_system_call() {
    let directory = tempfile::tempdir().unwrap();
    let table = FakeTable::new(directory.path(), 1);
    table.put(b"key", b"value");
    table.publish(&Entry {
        key: b"expires",
        value: b"value",
        version: 1,
        expiry: u32::MAX - 1,
        ..Entry::default()
    });
    let socket = directory.path().join("socket");
    let _daemon = FakeDaemon::start(&socket, &table, |_, _| Act::Close);
    let cache = Client::connect(&socket).unwrap();
    let mut value = Vec::with_capacity(100);
    // Maps the table's pages: a fault is no system call, but the first use of a clock may make one.
    assert!(cache.peek_into(b"expires", &mut value).is_some());

    assert!(runs_without_system_calls(|| {
        (0..1000).all(|_| {
            cache.peek_into(b"key", &mut value).is_some()
                && cache.peek_into(b"expires", &mut value).is_some()
                && cache.peek_into(b"other", &mut value).is_none()
                && cache.get_into(b"key", &mut value).is_ok_and(|hit| hit.is_some())
        })
    }));
    // Checks the method itself: a miss that has to ask the daemon makes system calls.
    assert!(!runs_without_system_calls(|| cache.get(b"other").is_err()));
}
