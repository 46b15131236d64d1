//! The hazard: a table in small pages although large ones are available, or no table at all on a
//! file system with huge pages; a daemon or a tool that contradicts the kernel.
//!
//! Tests that mount do so in a mount namespace of their own thread, which its child processes
//! inherit. Where that is not permitted, they print a notice and pass.

use l1d_client::{Client, Pages, Populate};
use l1d_wire::mapping::{Access, Mapping};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use test_support::daemon::Daemon;

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const CONFIG: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n";
const PATIENCE: Duration = Duration::from_secs(20);
const HUGE_PAGE: u64 = 2 << 20;
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

fn connect(daemon: &Daemon, populate: Populate) -> Client {
    let builder = Client::builder().socket(daemon.socket()).populate(populate);
    builder.deadline(PATIENCE).attach_deadline(PATIENCE).connect().unwrap()
}

fn explain(daemon: &Daemon) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l1ctl"));
    command.args(["--json", "--socket"]).arg(daemon.socket()).args(["explain", "--table"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The figures in kB of all mappings of `path` in a process.
fn in_smaps(process: &str, path: &Path, names: &[&str]) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{process}/smaps")).unwrap();
    let path = path.to_str().unwrap();
    let (mut is_ours, mut kib) = (false, 0);
    for line in smaps.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [range, _, _, _, _, ref rest @ ..] if range.contains('-') => {
                is_ours = rest.first().is_some_and(|found| found.starts_with(path));
            }
            [name, figure, "kB"] if is_ours && names.contains(&name.trim_end_matches(':')) => {
                kib += figure.parse::<u64>().unwrap();
            }
            _ => {}
        }
    }
    kib * 1024
}

const LARGE: [&str; 4] = ["ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb"];

/// Every process has the whole table in large pages according to the kernel, and reports that.
fn is_all_large(daemon: &Daemon, bytes: u64) -> bool {
    let whole = bytes / HUGE_PAGE * HUGE_PAGE;
    let told = explain(daemon);
    println!("{told:#}");
    assert_eq!(told["bytes"], bytes);
    // The table was created under another name.
    let path = daemon.table();
    let pid = Client::connect(daemon.socket()).unwrap().admin().stats_json().unwrap();
    let pid = serde_json::from_str::<Value>(&pid).unwrap()["daemon"]["pid"].to_string();
    let of_daemon = in_smaps(&pid, &path, &LARGE);
    assert_eq!(told["daemon"]["large_bytes"], of_daemon, "what the daemon says, and the kernel");
    let before = in_smaps("self", &path, &LARGE);
    let client = connect(daemon, Populate::Auto);
    let pages: Pages = client.pages().unwrap();
    assert_eq!(pages.large_bytes, in_smaps("self", &path, &LARGE) - before);
    // A separate process, like this one: it attaches and touches nothing.
    assert_eq!(told["this_process"]["large_bytes"], pages.large_bytes);
    assert_eq!(told["this_process"]["is_populated"], pages.resident_bytes == bytes);
    let says = |who: &str| told[who]["effect"].as_str().unwrap().contains("all in 2 MiB pages");
    assert_eq!(says("daemon"), of_daemon == whole);
    assert_eq!(daemon.log().contains("all in 2 MiB pages"), of_daemon == whole);
    client.set(b"key", b"value").unwrap();
    assert_eq!(client.peek(b"key").as_deref(), Some(&b"value"[..]));
    of_daemon == whole && pages.large_bytes == whole && says("this_process")
}

/// The kernel collapses a file into large pages on request.
fn kernel_collapses() -> bool {
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    nix::fcntl::posix_fallocate(&file, 0, 2 << 20).unwrap();
    let mapping = Mapping::of_file(&file, HUGE_PAGE, Access::Write).unwrap();
    // SAFETY: a range of this mapping; its content does not change.
    unsafe { nix::libc::madvise(mapping.base().cast(), 2 << 20, nix::libc::MADV_COLLAPSE) };
    let collapses = Pages::of(&mapping).unwrap().are_large();
    if !collapses {
        println!("this kernel makes no large pages on request");
    }
    collapses
}

#[test]
fn the_tool_reports_the_pages_that_the_kernel_reports() {
    let bytes = 33 << 20;
    let mut daemon = Daemon::start(PROGRAM, CONFIG, "33MiB");
    let expected = kernel_collapses();
    assert_eq!(is_all_large(&daemon, bytes), expected);
    daemon.kill();
    daemon.restart();
    assert_eq!(is_all_large(&daemon, bytes), expected);
}

/// A directory visible to this thread alone, on a file system of this type; `None` if that is not
/// possible.
fn mounted(kind: &str, options: &str) -> Option<tempfile::TempDir> {
    let place = tempfile::tempdir().unwrap();
    let own = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| {
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
    });
    let done = own.and_then(|()| {
        mount(Some("l1d-test"), place.path(), Some(kind), MsFlags::empty(), Some(options))
    });
    match done {
        Ok(()) => Some(place),
        Err(error) => {
            println!("skipped: cannot mount a {kind} with {options}: {error}");
            None
        }
    }
}

/// A large page of such a file system must keep its content when another process touches it.
#[test]
fn a_tmpfs_with_huge_pages_needs_nothing_else() {
    for huge in ["always", "within_size", "advise"] {
        // One thread each, so that each mount disappears with its thread.
        std::thread::spawn(move || {
            let Some(place) = mounted("tmpfs", &format!("size=100m,huge={huge}")) else { return };
            let daemon = Daemon::start_in(place.path(), PROGRAM, CONFIG, "33MiB");
            assert_eq!(is_all_large(&daemon, 33 << 20), kernel_collapses(), "huge={huge}");
        })
        .join()
        .unwrap();
    }
}

/// Huge pages reserved on this host and released at the end.
struct Reserved(u64);

impl Reserved {
    fn pages(count: u64) -> Option<Reserved> {
        let read = || std::fs::read_to_string(POOL).ok()?.trim().parse::<u64>().ok();
        let before = read()?;
        let reserved = Reserved(before);
        std::fs::write(POOL, (before + count).to_string()).ok()?;
        (read()? == before + count).then_some(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = std::fs::write(POOL, self.0.to_string());
    }
}

#[test]
fn a_hugetlbfs_has_whole_pages_or_says_how_many_are_missing() {
    // Its size is not a multiple of a huge page, so it is rounded up.
    let Some(place) = mounted("hugetlbfs", "pagesize=2M") else { return };
    let mut daemon = match Reserved::pages(17) {
        None => return println!("skipped: no 17 huge pages of 2 MiB can be reserved here"),
        Some(reserved) => {
            let daemon = Daemon::start_in(place.path(), PROGRAM, CONFIG, "33MiB");
            (daemon, reserved)
        }
    };
    let (daemon, _reserved) = (&mut daemon.0, &daemon.1);
    assert!(is_all_large(daemon, 34 << 20), "{}", explain(daemon));
    let client = connect(daemon, Populate::Auto);
    daemon.kill();
    daemon.restart();
    assert_eq!(client.peek(b"key").as_deref(), Some(&b"value"[..]));
    assert!(is_all_large(daemon, 34 << 20));
    let refused = client.admin().resize(Some(512 << 20), None).unwrap_err().to_string();
    assert!(refused.contains("256 huge pages") && refused.contains("vm.nr_hugepages"), "{refused}");
    assert_eq!(client.peek(b"key").as_deref(), Some(&b"value"[..]));
}

/// Page faults of this thread while it reads all keys.
fn faults(client: &Client, keys: u32, value: &mut Vec<u8>) -> i64 {
    let count = || getrusage(UsageWho::RUSAGE_THREAD).unwrap().minor_page_faults();
    let before = count();
    for key in 0..keys {
        assert!(client.peek_into(key.to_le_bytes(), value).is_some());
    }
    count() - before
}

#[test]
fn after_attaching_reads_fault_no_more_where_pages_are_large() {
    let daemon = Daemon::start(PROGRAM, CONFIG, "64MiB");
    let writer = connect(&daemon, Populate::Nothing);
    let keys = 2000;
    for key in 0..keys {
        writer.set(u32::to_le_bytes(key), [7; 16 << 10]).unwrap();
    }
    let mut value = Vec::with_capacity(64 << 10);
    // Everything else that reading touches is faulted in here.
    faults(&writer, keys, &mut value);
    let pages = writer.pages().unwrap();
    let lazy = faults(&connect(&daemon, Populate::Nothing), keys, &mut value);
    let index = faults(&connect(&daemon, Populate::Index), keys, &mut value);
    let all = faults(&connect(&daemon, Populate::All), keys, &mut value);
    let auto = faults(&connect(&daemon, Populate::Auto), keys, &mut value);
    println!("{pages}; faults: {lazy} without, {index}, {all}, {auto} with");
    // At least 16 large pages hold these values. Hit reports fault in the mailbox, too.
    assert!(all < 8 && lazy > all + 10);
    if pages.are_large() {
        assert!(index < 8 && auto < 8);
    }
}

/// The table is populated once a forked child makes a request; before that the child can read all
/// the same.
#[test]
fn a_forked_child_faults_anew_until_it_asks() {
    let daemon = Daemon::start(PROGRAM, CONFIG, "64MiB");
    let client = connect(&daemon, Populate::Auto);
    let keys = 2000;
    for key in 0..keys {
        client.set(u32::to_le_bytes(key), [7; 16 << 10]).unwrap();
    }
    let mut value = Vec::with_capacity(64 << 10);
    faults(&client, keys, &mut value);
    let is_large = client.pages().unwrap().are_large();
    let child = |asks: bool| {
        // SAFETY: the child uses memory that malloc keeps usable after fork, and ends by `_exit`.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => code,
                other => panic!("{other:?}"),
            },
            ForkResult::Child => {
                // Copy-on-write faults for memory that the child writes are not counted here.
                let mut value = value.clone();
                value.resize(20 << 10, 1);
                if asks {
                    client.get(b"unknown").unwrap();
                }
                let faults = faults(&client, keys, &mut value).min(100);
                // SAFETY: ends the child at once, without the parent's exit handlers.
                unsafe { nix::libc::_exit(faults.try_into().unwrap_or(101)) }
            }
        }
    };
    let (silent, asking) = (child(false), child(true));
    println!("faults: {silent} of a child that asks nothing, {asking} of one that has asked");
    assert!(silent > 16);
    if is_large {
        assert!(asking + 10 < silent);
    }
}
