//! A worker's wait until its next task is due, which its parent can end.

use super::clock::monotonic_ns;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::io::Stdin;
use std::os::fd::AsFd;
use std::time::Duration;

/// Waits until `at_ns` on CLOCK_MONOTONIC. Returns `false` if the parent closed the worker's stdin
/// or has ended.
pub fn until(at_ns: u64, stdin: &Stdin) -> bool {
    loop {
        let left = Duration::from_nanos(at_ns.saturating_sub(monotonic_ns()));
        let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut polled, Some(TimeSpec::from_duration(left)), None) {
            Ok(0) => return true,
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => return false,
        }
    }
}
