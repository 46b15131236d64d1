//! Checks whether this host has what a configuration needs.

use super::TableConfig;
use super::section::Section;
use super::units::show_size;
use nix::sys::statvfs::statvfs;
use nix::unistd::{Gid, Group};

/// Reports what this host lacks: the group, or space for the table.
pub(super) fn check(table: &TableConfig, section: &Section<'_>) {
    if let Err(message) = group_id(table) {
        section.problem(section.place(&["group"]), &format!("group {message}"));
    }
    if let Err(message) = room(table) {
        section.problem(section.place(&["size", "directory"]), &format!("size {message}"));
    }
}

/// The id of the table's group.
pub(super) fn group_id(table: &TableConfig) -> Result<Option<u32>, String> {
    let Some(group) = &table.group else { return Ok(None) };
    if let Ok(number) = group.parse::<u32>() {
        return Ok(Some(Gid::from_raw(number).as_raw()));
    }
    match Group::from_name(group) {
        Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
        Ok(None) => Err(format!(
            "{group:?} does not exist on this host; create it with `groupadd --system {group}`, \
             or omit the key"
        )),
        Err(errno) => {
            let why = errno.desc();
            Err(format!("{group:?} cannot be looked up: {why}; write the group's number instead"))
        }
    }
}

/// Compares the table with the capacity of its file system, not with the free space: that may hold
/// the previous table. If the file system cannot be queried, there is no error: creating the table
/// will show.
fn room(table: &TableConfig) -> Result<(), String> {
    // The directory may not exist yet.
    let directory = table.directory();
    let Some(figures) = directory.ancestors().find_map(|path| statvfs(path).ok()) else {
        return Ok(());
    };
    let capacity = figures.blocks().saturating_mul(figures.fragment_size());
    // Virtual file systems have no blocks.
    if capacity == 0 || table.size <= capacity {
        return Ok(());
    }
    let directory = directory.display();
    let fits = capacity / 4 * 3;
    let fits = if fits > 1 << 20 { fits >> 20 << 20 } else { fits };
    Err(format!(
        "{} is more than the file system of {directory} has ({}); write for example size = {:?}, \
         or enlarge it with `mount -o remount,size=...`",
        show_size(table.size),
        show_size(capacity),
        show_size(fits),
    ))
}
