//! LMDB: a B-tree in shared memory, read by transactions whose only lock is a reader slot.

use super::super::contest::Read;
use super::super::workload::{Op, VALUE_BYTES, key, value};
use super::copy;
use crate::scratch;
use anyhow::{Context, Result};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Keys and values as plain bytes.
pub type Tree = Database<'static, Bytes, Bytes>;

/// An environment in memory, set up as a cache would do it: nothing is ever synced.
pub struct Lmdb {
    environment: Env,
    database: Tree,
    /// Declared last, so that it is dropped after the environment in it.
    directory: TempDir,
}

/// Opens the environment in a directory, with its only database.
///
/// # Errors
/// LMDB's own.
pub fn open(directory: &Path, map_bytes: usize) -> Result<(Env, Tree)> {
    let mut options = EnvOpenOptions::new();
    options.map_size(map_bytes.next_multiple_of(1 << 20));
    let flags = EnvFlags::NO_SYNC
        | EnvFlags::NO_META_SYNC
        | EnvFlags::WRITE_MAP
        | EnvFlags::MAP_ASYNC
        | EnvFlags::NO_READ_AHEAD
        | EnvFlags::NO_MEM_INIT;
    // SAFETY: the flags give up only durability across a crash of the machine, which loses the
    // tmpfs anyway; only LMDB writes to the files, which are in a directory private to this run.
    let environment = unsafe { options.flags(flags).open(directory) }
        .with_context(|| format!("cannot open LMDB in {}", directory.display()))?;
    let write = environment.write_txn()?;
    let opened = environment.create_databases_and_commit(write, |opener, write| {
        opener.create_database(write, None).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    let database = opened.unwrap_commit();
    Ok((environment, database))
}

/// [`open`] for this number of keys.
///
/// # Errors
/// The same as for [`open`].
pub fn open_loaded(directory: &Path, count: u32) -> Result<(Env, Tree)> {
    open(directory, count as usize * 512 + (64 << 20))
}

impl Lmdb {
    /// A database with these keys, inserted in order: the best case for its tree.
    ///
    /// # Errors
    /// No memory, or LMDB's own.
    pub fn load(count: u32) -> Result<Lmdb> {
        let directory = scratch::directory()?;
        let (environment, database) = open_loaded(directory.path(), count)?;
        let mut write = environment.write_txn()?;
        for number in 0..count {
            database.put(&mut write, &key(number), &value(number))?;
        }
        write.commit()?;
        Ok(Lmdb { environment, database, directory })
    }

    /// The path of its directory.
    pub fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
}

impl Read for Lmdb {
    const NAME: &'static str = "lmdb";
    const HANDS_OUT: &'static str = "a slice under a transaction of its own";
    type Buffer = [u8; VALUE_BYTES];

    fn buffer(&self) -> [u8; VALUE_BYTES] {
        [0; VALUE_BYTES]
    }

    #[inline(always)]
    fn read(&mut self, op: &Op, value: &mut [u8; VALUE_BYTES]) -> bool {
        let Ok(read) = self.environment.read_txn() else { return false };
        let Ok(Some(from)) = self.database.get(&read, &op.key) else { return false };
        copy(from, value)
    }
}
