//! A worker's wait for the next thing to do, which its parent can end.

use crate::clock::monotonic_ns;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::io::Stdin;
use std::os::fd::AsFd;
use std::time::Duration;

/// Waits until `at_ns` on CLOCK_MONOTONIC. `false`: the parent closed the worker's stdin, or is gone.
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
