//! A table in shared memory that clients attach to, without a daemon: a thread hands it out as a
//! daemon does, with a mailbox that nothing reads.

use crate::steps::Steps;
use anyhow::{Context, Result};
use l1d::table::Table;
use l1d_client::Client;
use l1d_wire::mapping::{Access, Mapping};
use l1d_wire::policy::PolicySet;
use l1d_wire::protocol::{Attached, Layouts, PROTOCOL_VERSION, Response};
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::time::{ClockId, clock_gettime};
use shm_layout::mailbox::SHAPE;
use shm_layout::{Geometry, Mapped, MappedMut, Plan, Reader, Writer};
use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use tempfile::TempDir;

/// The table, and the socket at which clients attach.
pub struct Served {
    /// The owner's side. Declared before the memory that it writes to, so that it is dropped first.
    pub table: Table<MappedMut>,
    geometry: Geometry,
    file: OwnedFd,
    directory: TempDir,
    memory: MmapRaw,
}

impl Served {
    /// Makes an empty table, and hands it out to any number of clients until the process ends.
    ///
    /// # Errors
    /// The plan is impossible, or there is no memory.
    pub fn new(plan: &Plan) -> Result<Served> {
        let geometry = Geometry::plan(plan)?;
        let file = memfd_create(c"l1d-table", MFdFlags::MFD_CLOEXEC).context("memfd_create")?;
        let file = File::from(file);
        file.set_len(plan.table_bytes).context("no memory for the table")?;
        // A client trusts only a file that nobody but its owner can write.
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        file.set_permissions(permissions).context("fchmod")?;
        let memory = MmapOptions::new().map_raw(&file).context("cannot map the table")?;
        // SAFETY: page-aligned, of the geometry's size and all zero; mapped as long as the table is
        // used, because that is declared first.
        let writer = unsafe { Writer::create(MappedMut::new(memory.as_mut_ptr()), geometry) };
        writer.open_for_readers();
        let directory = tempfile::tempdir().context("cannot make a directory for the socket")?;
        let listener = UnixListener::bind(directory.path().join("socket")).context("bind")?;
        let file = OwnedFd::from(file);
        let (read_only, identity) = (reopen(&file)?, *geometry.identity());
        std::thread::Builder::new()
            .spawn(move || {
                let mut attached = Vec::new();
                for stream in listener.incoming().flatten() {
                    // A client that does not get the table reports the error itself.
                    if let Ok(kept) =
                        hand_out(stream, &read_only, identity.table_id, identity.table_bytes)
                    {
                        attached.push(kept);
                    }
                }
            })
            .context("cannot start a thread")?;
        Ok(Served { table: Table::new(writer), geometry, file, directory, memory })
    }

    /// A client of the table.
    ///
    /// # Errors
    /// The same as for [`Client::connect`].
    pub fn client(&self) -> Result<Client> {
        Ok(Client::connect(self.directory.path().join("socket"))?)
    }

    /// A reader of the table, over a mapping that lasts as long as `self`.
    ///
    /// # Errors
    /// There is no valid table.
    pub fn reader(&self) -> Result<Reader<Mapped>> {
        // SAFETY: page-aligned, and mapped as long as `self` lives.
        let memory = unsafe { Mapped::new(self.memory.as_mut_ptr()) };
        // SAFETY: the mapping has the bytes of this geometry.
        Ok(unsafe { Reader::attach(memory, self.geometry.identity().table_bytes) }?)
    }

    /// A step-by-step reader of the table, over a mapping like a client's.
    ///
    /// # Errors
    /// No memory.
    pub fn steps(&self) -> Result<(Steps, Mapping)> {
        let bytes = self.geometry.identity().table_bytes;
        let mapping = Mapping::of_file(&self.file, bytes, Access::Read).context("cannot map")?;
        // SAFETY: mapped with this geometry as long as the mapping that is returned with it.
        Ok((unsafe { Steps::of(Mapped::new(mapping.base()), self.geometry) }, mapping))
    }

    /// A path at which another process can open the memory.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

/// The same file, opened read-only.
fn reopen(file: &OwnedFd) -> Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).context("cannot open the table again")
}

/// Answers the request to attach, which is the only request it gets. The client considers its
/// daemon alive as long as the returned stream is open.
fn hand_out(mut stream: UnixStream, table: &File, id: u64, bytes: u64) -> Result<UnixStream> {
    let mailbox =
        memfd_create(c"l1d-mailbox", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mailbox = File::from(mailbox);
    mailbox.set_len(SHAPE.bytes() as u64)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(&mailbox, FcntlArg::F_ADD_SEALS(seals))?;
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let mut frame = Vec::new();
    let answer = Response::Attached(Attached {
        protocol: PROTOCOL_VERSION,
        table_id: id,
        table_bytes: bytes,
        instance: 1,
        clock_ns: u64::try_from(time.tv_sec() * 1_000_000_000 + time.tv_nsec())?,
        mailbox_bytes: SHAPE.bytes() as u64,
        policy: &PolicySet::default().encode(),
        layouts: Some(Layouts::OWN),
        policy_epoch: None,
    });
    answer.encode(&mut frame).context("the answer to an attach")?;
    let mut request = [0; 64];
    let _ = stream.read(&mut request)?;
    let descriptors = [table.as_raw_fd(), mailbox.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    let pieces = [IoSlice::new(&frame)];
    sendmsg::<()>(stream.as_raw_fd(), &pieces, &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(stream)
}
