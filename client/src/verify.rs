//! Checks of a received descriptor, made before a byte of it is trusted.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use std::os::fd::{AsFd, OwnedFd};

/// Write permission of group and others.
const MODE_SHARED_WRITE: u32 = 0o022;

const ROOT: u32 = 0;

/// The users that may own a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owners {
    /// User id of the process that listens at the daemon's socket.
    pub peer_uid: u32,
    /// The only user id that this client was told to trust.
    pub expected_uid: Option<u32>,
}

impl Owners {
    fn check(&self, table_uid: u32) -> Result<(), String> {
        let Owners { peer_uid, expected_uid } = *self;
        if let Some(expected) = expected_uid {
            for (whose, uid) in [("the daemon's", peer_uid), ("the table's", table_uid)] {
                if uid != expected && uid != ROOT {
                    return Err(format!("{whose} user id is {uid}, and {expected} was expected"));
                }
            }
            return Ok(());
        }
        // A socket of systemd names root as the peer, whichever daemon serves it: root chose the
        // daemon, so its table is root's choice, too.
        if table_uid == peer_uid || table_uid == ROOT || peer_uid == ROOT {
            return Ok(());
        }
        Err(format!("it belongs to user id {table_uid}, and the daemon's is {peer_uid}"))
    }
}

/// Device and inode of an open file.
pub(crate) fn file_identity(file: impl AsFd) -> Option<(u64, u64)> {
    fstat(file).ok().map(|file| (file.st_dev, file.st_ino))
}

/// Checks that only its owner could have written this file, that the owner is trusted, that it can
/// only be read through this descriptor, and that it has the size that was announced.
pub(crate) fn table_file(table: &OwnedFd, table_bytes: u64, owners: &Owners) -> Result<(), String> {
    let file = fstat(table)
        .map_err(|errno| format!("its mode and size cannot be read: {}", errno.desc()))?;
    if SFlag::from_bits_truncate(file.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err("it is not a regular file".to_owned());
    }
    owners.check(file.st_uid)?;
    if file.st_mode & MODE_SHARED_WRITE != 0 {
        let mode = file.st_mode & 0o7777;
        return Err(format!("its mode {mode:04o} lets others write it"));
    }
    let flags = fcntl(table, FcntlArg::F_GETFL)
        .map_err(|errno| format!("its access mode cannot be read: {}", errno.desc()))?;
    if OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE != OFlag::O_RDONLY {
        return Err("its descriptor can write it, and should only read it".to_owned());
    }
    let bytes = u64::try_from(file.st_size).unwrap_or(0);
    if bytes != table_bytes {
        return Err(format!("it has {bytes} bytes, and the daemon announced {table_bytes}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn owners(file: &File) -> Owners {
        Owners { peer_uid: file.metadata().unwrap().uid(), expected_uid: None }
    }

    fn table(bytes: u64) -> (tempfile::TempDir, File) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table");
        let file = File::create(&path).unwrap();
        file.set_len(bytes).unwrap();
        file.set_permissions(Permissions::from_mode(0o640)).unwrap();
        (directory, File::open(&path).unwrap())
    }

    fn refusal(file: &File, bytes: u64, owners: &Owners) -> String {
        let fd = OwnedFd::from(file.try_clone().unwrap());
        table_file(&fd, bytes, owners).expect_err("it was trusted")
    }

    #[test]
    fn a_table_as_it_should_be_is_trusted() {
        let (_directory, file) = table(8192);
        let owners = owners(&file);
        table_file(&file.into(), 8192, &owners).unwrap();
    }

    #[test]
    fn another_size_is_refused() {
        let (_directory, file) = table(8192);
        assert!(refusal(&file, 8191, &owners(&file)).contains("8192 bytes"));
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let (_directory, file) = table(8192);
        for mode in [0o620, 0o602, 0o666] {
            file.set_permissions(Permissions::from_mode(mode)).unwrap();
            let refused = refusal(&file, 8192, &owners(&file));
            assert!(refused.contains("lets others write"), "{refused}");
        }
    }

    #[test]
    fn a_descriptor_that_can_write_is_refused() {
        let (directory, file) = table(8192);
        let writable =
            OpenOptions::new().read(true).write(true).open(directory.path().join("table")).unwrap();
        assert!(refusal(&writable, 8192, &owners(&file)).contains("can write"));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let (_directory, file) = table(8192);
        let device = File::open("/dev/null").unwrap();
        let directory = File::open("/").unwrap();
        for other in [device, directory] {
            assert!(refusal(&other, 0, &owners(&file)).contains("not a regular file"));
        }
    }

    #[test]
    fn only_the_daemons_user_and_root_are_trusted() {
        let check =
            |table, peer_uid, expected_uid| Owners { peer_uid, expected_uid }.check(table).is_ok();
        assert!(check(7, 7, None));
        assert!(check(0, 7, None));
        assert!(check(7, 0, None), "a socket that systemd listens at");
        assert!(!check(8, 7, None));
        assert!(check(7, 7, Some(7)));
        assert!(check(7, 0, Some(7)));
        assert!(!check(8, 8, Some(7)), "another user's daemon");
        assert!(!check(8, 0, Some(7)), "another user's table");
    }
}
