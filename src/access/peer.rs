//! The identity of the process at the other end of a connection, as the kernel knows it.

use l1d_wire::protocol::Identity;
use nix::libc;
use std::os::fd::{AsFd, AsRawFd};

/// Groups that a first question has room for; a process rarely has more.
const GROUPS: usize = 64;

/// The user and the groups that the peer of `stream` had when it connected. `credentials` are its
/// user and effective group, by SO_PEERCRED. The supplementary groups are looked up only if they
/// are asked for; a kernel that does not tell them (before Linux 4.13) leaves none.
pub fn identity_of(stream: impl AsFd, (uid, gid): (u32, u32), with_groups: bool) -> Identity {
    let groups = if with_groups { groups_of(&stream) } else { Vec::new() };
    Identity { uid, gid, groups }
}

fn groups_of(stream: &impl AsFd) -> Vec<u32> {
    let mut groups = vec![0_u32; GROUPS];
    // Twice at most: the kernel tells how many there are, and they do not change.
    for _ in 0..2 {
        let Ok(mut bytes) = libc::socklen_t::try_from(size_of_val(groups.as_slice())) else {
            break;
        };
        let socket = stream.as_fd().as_raw_fd();
        // SAFETY: the descriptor is open for as long as `stream` is borrowed. `groups` has `bytes`
        // bytes of numbers of the kernel's type (`gid_t` is `u32`), which the kernel fills up to
        // that length; it stores in `bytes` how many there are.
        let asked = unsafe {
            libc::getsockopt(
                socket,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = usize::try_from(bytes).unwrap_or(0) / size_of::<libc::gid_t>();
        if asked == 0 {
            groups.truncate(count);
            return groups;
        }
        if std::io::Error::last_os_error().raw_os_error() != Some(libc::ERANGE) {
            break;
        }
        groups.resize(count, 0);
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_groups_of_a_peer_are_those_that_it_has() {
        let (here, _there) = UnixStream::pair().unwrap();
        let own: BTreeSet<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        let told: BTreeSet<u32> = identity_of(&here, (1, 2), true).groups.into_iter().collect();
        assert_eq!(told, own);
        assert!(identity_of(&here, (1, 2), false).groups.is_empty());
    }
}
