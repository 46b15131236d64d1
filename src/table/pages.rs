//! Large pages under the table.
//!
//! A read of a large table waits for address translation as much as for data; pages of 2 MiB take
//! most of that away, and a short-lived process faults once for 512 small pages. No mount option is
//! needed: the kernel collapses the pages of any tmpfs file on request, and whoever maps the file at
//! a multiple of 2 MiB has the use of them.

use l1d_client::mapping::{HUGE_PAGE_BYTES, Mapping};
use std::fs;

/// Asks the kernel to put the whole of a mapping into large pages.
///
/// Whether it did is not known from the call, which fails on some kernels that have done it: see
/// [`large_bytes`].
pub(super) fn collapse(mapping: &Mapping) {
    let bytes = mapping.bytes() / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    // SAFETY: a range of this process's mapping; the advice moves pages and changes no content.
    unsafe { nix::libc::madvise(mapping.base().cast(), bytes, nix::libc::MADV_COLLAPSE) };
}

/// Bytes of a mapping that large pages serve, by `/proc/self/smaps`; 0 where that cannot be read.
pub(super) fn large_bytes(mapping: &Mapping) -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    large_bytes_in(&smaps, mapping.base().addr())
}

fn large_bytes_in(smaps: &str, address: usize) -> u64 {
    let mut is_ours = false;
    let mut bytes = 0;
    for line in smaps.lines() {
        if let Some(range) = line.split(' ').next().and_then(|word| word.split_once('-')) {
            let [begin, end] = [range.0, range.1].map(|hex| usize::from_str_radix(hex, 16));
            if let (Ok(begin), Ok(end)) = (begin, end) {
                is_ours = (begin..end).contains(&address);
            }
        } else if is_ours
            && let Some(rest) =
                line.strip_prefix("ShmemPmdMapped:").or_else(|| line.strip_prefix("FilePmdMapped:"))
        {
            let kib = rest.trim().trim_end_matches(" kB").parse::<u64>();
            bytes += kib.unwrap_or(0) * 1024;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use l1d_client::mapping::Access;

    #[test]
    fn only_the_mapping_that_holds_the_address_counts() {
        let smaps = "7f0000000000-7f0000400000 rw-s 00000000 00:17 5 /dev/shm/other\n\
                     Size:               4096 kB\nShmemPmdMapped:     2048 kB\n\
                     7f0000600000-7f0000a00000 rw-s 00000000 00:17 6 /dev/shm/table\n\
                     Size:               4096 kB\nShmemPmdMapped:     4096 kB\nFilePmdMapped:         0 kB\n";
        assert_eq!(large_bytes_in(smaps, 0x7f00_0060_0000), 4 << 20);
        assert_eq!(large_bytes_in(smaps, 0x7f00_0000_0000), 2 << 20);
        assert_eq!(large_bytes_in(smaps, 0x1000), 0);
        assert_eq!(large_bytes_in("", 0x1000), 0);
    }

    #[test]
    fn a_collapsed_file_reads_as_before() {
        let place = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let file = tempfile::tempfile_in(place).unwrap();
        let bytes = (4 << 20) + 4096;
        nix::fcntl::posix_fallocate(&file, 0, bytes).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"content", 3 << 20).unwrap();
        let bytes = u64::try_from(bytes).unwrap();
        let mapping = Mapping::of_file(&file, bytes, Access::Write).unwrap();
        collapse(&mapping);
        // A kernel may refuse; what it says then is 0, and never more than there is.
        let large = large_bytes(&mapping);
        println!("{large} bytes in large pages");
        assert!(large <= 4 << 20);
        let mut found = [0; 7];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, 3 << 20).unwrap();
        assert_eq!(&found, b"content");
    }
}
