//! The processes of a round, which the program starts from itself: they take their user on when
//! they run, because the program's file may lie where that user cannot reach it.

use crate::attack::{Found, Target};
use crate::{list, users};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What [`fill`] writes, for each processor.
const FILLED_BYTES: usize = 8 << 20;
/// A process that does not end this long after it was told to is ended.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// What a process of a round is to do.
#[derive(Debug, Clone, Args)]
pub struct Orders {
    #[arg(long, default_value = "")]
    pub name: String,
    #[arg(long)]
    pub uid: u32,
    #[arg(long)]
    pub gid: u32,
    #[arg(long)]
    pub socket: PathBuf,
    #[arg(long)]
    pub tables: PathBuf,
    #[arg(long)]
    pub pid: i32,
    #[arg(long, default_value_t = 0)]
    pub ms: u64,
}

/// A process that has begun.
pub struct Role {
    child: Child,
    /// Its end tells the process to end.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Role {
    /// Starts this program once more, in the role `name`, and returns when it says that it has begun.
    pub fn start(name: &str, orders: &Orders) -> Result<Role> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(name).args(["--name", &orders.name]);
        for (option, number) in [
            ("--uid", u64::from(orders.uid)),
            ("--gid", u64::from(orders.gid)),
            ("--pid", u64::from(orders.pid.unsigned_abs())),
            ("--ms", orders.ms),
        ] {
            command.arg(option).arg(number.to_string());
        }
        command.arg("--socket").arg(&orders.socket).arg("--tables").arg(&orders.tables);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut role = Role { child, stdin, stdout };
        let mut line = String::new();
        role.stdout.read_line(&mut line)?;
        if line.trim() != "begun" {
            bail!("the {name} {} did not begin: {line}", orders.name);
        }
        Ok(role)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to end, and returns its last line.
    pub fn end<T: DeserializeOwned>(mut self) -> Result<T> {
        drop(self.stdin.take());
        let mut text = String::new();
        // It has said all when it closes its output.
        self.stdout.read_to_string(&mut text)?;
        self.child.wait()?;
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("it said {text:?}"))
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that this process has begun.
pub fn begun() -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "begun")?;
    Ok(stdout.flush()?)
}

/// Is set when standard input ends.
pub fn end_of_input() -> Arc<AtomicBool> {
    let is_over = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_over);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        flag.store(true, Ordering::Relaxed);
        std::thread::sleep(ENDS_WITHIN);
        eprintln!("it does not end");
        std::process::exit(1);
    });
    is_over
}

/// Runs one attack.
pub fn attack(orders: &Orders) -> Result<()> {
    users::become_user(orders.uid, orders.gid)?;
    let attack = list::named(&orders.name)?;
    let target = Target {
        socket: orders.socket.clone(),
        status: orders.socket.with_file_name("l1d-status.sock"),
        tables: orders.tables.clone(),
        pid: orders.pid,
        is_over: end_of_input(),
    };
    begun()?;
    let mut found = Found::default();
    (attack.run)(&target, &mut found);
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}

/// Does nothing.
pub fn wait(orders: &Orders) -> Result<()> {
    users::become_user(orders.uid, orders.gid)?;
    let is_over = end_of_input();
    begun()?;
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{}", serde_json::to_string(&Found::default())?);
    Ok(())
}

/// Does something on all processors all the time, as any user can without a cache.
pub fn on_all_processors(orders: &Orders, work: fn()) -> Result<()> {
    users::become_user(orders.uid, orders.gid)?;
    let is_over = end_of_input();
    begun()?;
    let processors = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    work();
                }
            });
        }
    });
    println!("{}", serde_json::to_string(&Found::default())?);
    Ok(())
}

/// Writes more memory than the processors' caches hold of it.
pub fn fill() {
    thread_local! {
        static MEMORY: RefCell<Vec<u8>> = RefCell::new(vec![0; FILLED_BYTES]);
    }
    MEMORY.with_borrow_mut(|memory| {
        memory.fill(1);
        std::hint::black_box(memory);
    });
}
