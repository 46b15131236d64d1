//! One process of the demo: `l1d demo-worker`. It reports when it is ready, starts on its parent's
//! command, and ends when its parent closes its stdin or dies.

use super::clock::monotonic_ns;
use super::page::Pages;
use super::report::Message;
use super::scenario::{Key, SIGNALS, Schedule};
use super::screen::Screens;
use super::stamped::{self, Stamp};
use super::store::Store;
use super::tally::{Tally, send};
use super::{Role, WorkerOptions, wait};
use anyhow::{Context, Result, bail};
use l1d_wire::words;
use std::io::{BufRead, Stdin, Stdout, stdin, stdout};
use std::process::ExitCode;

/// Plays one process of the demo.
///
/// # Errors
/// The failure cannot be sent to the parent. Any other failure is sent as [`Message::Failed`], and
/// the exit code is a failure.
pub fn run(options: &WorkerOptions) -> Result<ExitCode> {
    let mut out = stdout();
    match play(options, &mut out) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            let tier = error.chain().any(|cause| {
                let of_client = cause.downcast_ref::<l1d_client::Error>();
                matches!(of_client, Some(l1d_client::Error::TierFailed { .. }))
                    || cause.is::<super::TierFailed>()
            });
            send(&Message::Failed { reason: words::chain(error.as_ref()), tier }, &mut out)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn play(options: &WorkerOptions, out: &mut Stdout) -> Result<()> {
    let mut store = Store::open(options.way, &options.socket)?;
    let stdin = stdin();
    match options.role {
        Role::Monitor => monitor(&mut store, options, &stdin, out),
        Role::Web => web(&mut store, options, &stdin, out),
    }
}

fn monitor(
    store: &mut Store,
    options: &WorkerOptions,
    stdin: &Stdin,
    out: &mut Stdout,
) -> Result<()> {
    let mut publisher = Publisher { versions: vec![0; store.keys().len()], value: Vec::new() };
    let mut first = Tally::new(store.keys().len());
    for position in 0..store.keys().len() {
        publisher
            .publish(store, &mut first, position)
            .context("publishing the first values failed")?;
    }
    if !ready(stdin, out)? {
        return Ok(());
    }
    let mut tally = Tally::new(store.keys().len());
    let mut screens = Screens::new(store, options.screen);
    let begun_ns = monotonic_ns();
    for (due, position) in Schedule::new(1.0) {
        let due_ns = begun_ns.saturating_add(u64::try_from(due.as_nanos()).unwrap_or(u64::MAX));
        if !wait::until(due_ns, stdin) {
            break;
        }
        let is_signal = store.keys().get(position).is_some_and(|key| key.feed == SIGNALS);
        if is_signal {
            // A signal is computed from the quote of its symbol.
            if let Some(quote) = quote_of(store.keys(), position) {
                tally.read(store, quote);
            }
        }
        if publisher.publish(store, &mut tally, position).is_ok() && is_signal {
            tally.signal_published();
        }
        tally.report(store, out)?;
        screens.show(store, out)?;
    }
    tally.report_now(store, out)
}

fn web(store: &mut Store, options: &WorkerOptions, stdin: &Stdin, out: &mut Stdout) -> Result<()> {
    if !ready(stdin, out)? {
        return Ok(());
    }
    let mut tally = Tally::new(store.keys().len());
    let mut pages = Pages::new(store, options.slot, options.slots);
    let mut screens = Screens::new(store, options.screen);
    while wait::until(pages.next_ns(), stdin) {
        pages.serve(store, &mut tally);
        tally.report(store, out)?;
        screens.show(store, out)?;
    }
    tally.report_now(store, out)
}

/// Reports to the parent and waits for its command to begin. Returns `false` if the parent closed
/// stdin instead.
fn ready(stdin: &Stdin, out: &mut Stdout) -> Result<bool> {
    send(&Message::Ready, out)?;
    Ok(stdin.lock().read_line(&mut String::new())? > 0)
}

/// The quote of the symbol that a signal is about.
fn quote_of(keys: &[Key], signal: usize) -> Option<usize> {
    let first = keys.iter().position(|key| key.feed == SIGNALS)?;
    let quote = signal.checked_sub(first)?;
    keys.get(quote).is_some_and(|key| key.feed == 0).then_some(quote)
}

/// Keeps the version of each key.
struct Publisher {
    versions: Vec<u64>,
    value: Vec<u8>,
}

impl Publisher {
    /// Publishes the next value of a key.
    ///
    /// # Errors
    /// The value was not stored.
    fn publish(&mut self, store: &mut Store, tally: &mut Tally, position: usize) -> Result<()> {
        let Some((version, key)) = self.versions.get_mut(position).zip(store.keys().get(position))
        else {
            bail!("there is no key {position}");
        };
        *version += 1;
        let stamp = Stamp { version: *version, published_ns: monotonic_ns() };
        stamped::encode(store.name(position), stamp, key.feed().value_bytes, &mut self.value);
        tally.write(store, position, &self.value)
    }
}
