//! The page sizes that a process has the table mapped with, as the kernel reports them.

use crate::mapping::{HUGE_PAGE_BYTES, Mapping};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// The pages that a process has a table mapped with: as `/proc/self/smaps` reports them, not as
/// they were requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pages {
    /// Bytes of the table.
    pub table_bytes: u64,
    /// Bytes of it that are in this process's page table; the first touch of any other costs a
    /// fault.
    pub resident_bytes: u64,
    /// Resident bytes that are in large pages.
    pub large_bytes: u64,
    /// Bytes of a large page.
    pub large_page_bytes: u64,
    /// Bytes of a small page.
    pub small_page_bytes: u64,
}

impl Pages {
    /// Reads the state of this mapping from `/proc/self/smaps`; `None` where that cannot be read.
    /// Takes about 3 ms per GiB mapped in large pages, 20 ms per GiB in small ones, and the same
    /// for everything that the process has mapped at lower addresses.
    #[must_use]
    pub fn of(mapping: &Mapping) -> Option<Pages> {
        let smaps = BufReader::new(File::open("/proc/self/smaps").ok()?);
        read(smaps, mapping.base().addr(), mapping.bytes() as u64)
    }

    /// Whether all resident bytes are in large pages, except for a tail smaller than one page.
    #[must_use]
    pub fn are_large(&self) -> bool {
        self.large_bytes > 0 && self.resident_bytes - self.large_bytes < self.large_page_bytes
    }
}

/// Describes the effect in one sentence.
impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pages { table_bytes, resident_bytes, large_bytes, .. } = *self;
        let (large, small) = (Size(self.large_page_bytes), Size(self.small_page_bytes));
        write!(f, "a table of {}, ", Size(table_bytes))?;
        let rest = table_bytes - resident_bytes;
        match rest {
            0 => {}
            rest if rest == table_bytes => return f.write_str("none of it touched yet"),
            _ => write!(f, "of which {} are mapped so far, ", Size(resident_bytes))?,
        }
        if self.are_large() {
            return write!(f, "all in {large} pages: a first touch costs next to nothing");
        }
        if large_bytes == 0 {
            write!(f, "in {small} pages")?;
        } else {
            write!(f, "{} in {large} pages, the rest in {small} pages", Size(large_bytes))?;
        }
        f.write_str(
            ": each process pays some microseconds where it first touches a small page, and reads \
             wait longer for address translation",
        )
    }
}

/// Formats a number of bytes with its unit.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let (unit, name) =
            units.into_iter().find(|(unit, _)| self.0 >= *unit).unwrap_or((1, "bytes"));
        let (whole, tenths) = (self.0 / unit, self.0 % unit * 10 / unit);
        match tenths {
            0 => write!(f, "{whole} {name}"),
            _ => write!(f, "{whole}.{tenths} {name}"),
        }
    }
}

/// Finds the mapping that holds `address`, and stops reading after it.
fn read(smaps: impl BufRead, address: usize, table_bytes: u64) -> Option<Pages> {
    let mut is_ours = false;
    let mut pages = Pages {
        table_bytes,
        resident_bytes: 0,
        large_bytes: 0,
        large_page_bytes: HUGE_PAGE_BYTES as u64,
        small_page_bytes: 4096,
    };
    let mut hugetlb_bytes = 0;
    for line in smaps.lines() {
        let line = line.ok()?;
        if let Some(range) = line.split(' ').next().and_then(|word| word.split_once('-')) {
            if is_ours {
                break;
            }
            let [begin, end] = [range.0, range.1].map(|hex| usize::from_str_radix(hex, 16));
            if let (Ok(begin), Ok(end)) = (begin, end) {
                is_ours = (begin..end).contains(&address);
            }
        } else if is_ours && let Some((name, kib)) = line.split_once(':') {
            let kib = kib.trim().trim_end_matches(" kB").parse::<u64>();
            let bytes = kib.unwrap_or(0).saturating_mul(1024);
            match name {
                "KernelPageSize" => pages.small_page_bytes = bytes,
                "Rss" => pages.resident_bytes = bytes,
                "ShmemPmdMapped" | "FilePmdMapped" => pages.large_bytes += bytes,
                "Shared_Hugetlb" | "Private_Hugetlb" => hugetlb_bytes += bytes,
                _ => {}
            }
        }
    }
    // On hugetlbfs every page is large, and none is counted in Rss.
    if pages.small_page_bytes > 64 << 10 {
        pages.large_page_bytes = pages.small_page_bytes;
        pages.large_bytes = hugetlb_bytes;
        pages.resident_bytes = hugetlb_bytes;
    }
    pages.resident_bytes = pages.resident_bytes.min(table_bytes);
    pages.large_bytes = pages.large_bytes.min(pages.resident_bytes);
    is_ours.then_some(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
        7f0000000000-7f0000400000 rw-s 00000000 00:17 5 /dev/shm/other\n\
        Size:               4096 kB\nKernelPageSize:        4 kB\nRss:     4096 \
        kB\nShmemPmdMapped:     2048 kB\n\
        7f0000600000-7f0000a01000 rw-s 00000000 00:17 6 /dev/shm/table\n\
        Size:               4100 kB\nKernelPageSize:        4 kB\nRss:     4100 kB\n\
        ShmemPmdMapped:     4096 kB\nFilePmdMapped:         0 kB\n\
        7f0001000000-7f0001400000 r--s 00000000 00:18 7 /mnt/huge/table\n\
        KernelPageSize:     2048 kB\nRss:  0 kB\nShared_Hugetlb:     2048 kB\nPrivate_Hugetlb:   \
          2048 kB\n";

    fn pages(address: usize, bytes: u64) -> Option<Pages> {
        read(SMAPS.as_bytes(), address, bytes)
    }

    #[test]
    fn only_the_mapping_that_holds_the_address_counts() {
        let table = pages(0x7f00_0060_0000, (4 << 20) + 4096).unwrap();
        assert_eq!((table.resident_bytes, table.large_bytes), ((4 << 20) + 4096, 4 << 20));
        assert!(table.are_large());
        let other = pages(0x7f00_0000_0000, 4 << 20).unwrap();
        assert_eq!((other.large_bytes, other.are_large()), (2 << 20, false));
        let huge = pages(0x7f00_0100_0000, 4 << 20).unwrap();
        assert_eq!((huge.large_bytes, huge.resident_bytes), (4 << 20, 4 << 20));
        assert!(huge.are_large());
        assert_eq!(pages(0x1000, 4096), None);
    }

    #[test]
    fn the_effect_is_a_sentence() {
        let table = Pages {
            table_bytes: 1 << 30,
            resident_bytes: 1 << 30,
            large_bytes: 1 << 30,
            large_page_bytes: 2 << 20,
            small_page_bytes: 4096,
        };
        let says = |pages: Pages, words: &str| {
            assert!(pages.to_string().starts_with(words), "{pages}");
        };
        says(table, "a table of 1 GiB, all in 2 MiB pages");
        says(Pages { large_bytes: 0, ..table }, "a table of 1 GiB, in 4 KiB pages: each process");
        says(
            Pages { large_bytes: 256 << 20, ..table },
            "a table of 1 GiB, 256 MiB in 2 MiB pages, the rest in 4 KiB pages: each process",
        );
        says(
            Pages { resident_bytes: 3 << 19, large_bytes: 0, ..table },
            "a table of 1 GiB, of which 1.5 MiB are mapped so far, in 4 KiB pages",
        );
        says(Pages { resident_bytes: 0, large_bytes: 0, ..table }, "a table of 1 GiB, none of it");
    }
}
