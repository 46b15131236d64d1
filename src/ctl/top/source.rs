//! Figures from the daemon, fetched by a thread: the keyboard is answered while the daemon is not
//! there, or busy.

use super::view::List;
use crate::ctl::{keys, stats};
use l1d_client::Client;
use l1d_wire::snapshot::{Clients, KeyOrder, Keys, Snapshot};
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Keys that are asked for: more than a screen shows.
const KEYS: u16 = 200;

/// One look at the daemon.
#[derive(Debug)]
pub(super) struct Figures {
    /// When it was taken.
    pub(super) at: Instant,
    pub(super) snapshot: Snapshot,
    pub(super) clients: Option<Clients>,
    pub(super) keys: Option<Keys>,
}

/// A look, or why there is none.
pub(super) type Answer = Result<Box<Figures>, String>;

/// The thread that asks.
#[derive(Debug)]
pub(super) struct Source {
    answers: Receiver<Answer>,
    list: Arc<Wanted>,
}

/// The list that is shown, for which more is asked than for the others.
#[derive(Debug, Default)]
struct Wanted {
    list: AtomicU8,
    /// It has changed: ask at once.
    has_changed: Mutex<bool>,
    changed: Condvar,
}

impl Source {
    /// Asks now, and then in these intervals, for as long as the process lives.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(client: Client, every: Duration) -> io::Result<Source> {
        let list = Arc::new(Wanted::default());
        let wanted = Arc::clone(&list);
        // One look that nobody has taken yet is enough.
        let (sender, answers) = sync_channel(1);
        thread::Builder::new().spawn(move || ask(&client, every, &wanted, &sender))?;
        Ok(Source { answers, list })
    }

    /// The next look, if there is one.
    pub(super) fn take(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// Another list may be shown from now on.
    pub(super) fn ask_for(&self, list: List) {
        if self.list.list.swap(list as u8, Ordering::Relaxed) != list as u8 {
            let mut has_changed =
                self.list.has_changed.lock().unwrap_or_else(PoisonError::into_inner);
            *has_changed = true;
            self.list.changed.notify_one();
        }
    }
}

fn ask(client: &Client, every: Duration, wanted: &Wanted, sender: &SyncSender<Answer>) {
    loop {
        let list = wanted.list.load(Ordering::Relaxed);
        let answer = look(client, list).map(Box::new);
        if let Err(TrySendError::Disconnected(_)) = sender.try_send(answer) {
            return;
        }
        let has_changed = wanted.has_changed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = wanted.changed.wait_timeout_while(has_changed, every, |changed| !*changed);
        let (mut has_changed, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *has_changed = false;
    }
}

fn look(client: &Client, list: u8) -> Result<Figures, String> {
    let text = client.admin().stats_json().map_err(|error| error.to_string())?;
    let at = Instant::now();
    let snapshot = stats::parse(&text).map_err(|failure| failure.to_string())?;
    let mut figures = Figures { at, snapshot, clients: None, keys: None };
    if list == List::Clients as u8 {
        let text = client.admin().clients_json().map_err(|error| error.to_string())?;
        figures.clients = serde_json::from_str(&text).ok();
    }
    if list == List::Keys as u8 {
        let keys = client.admin().keys_json("", KEYS, KeyOrder::Hits);
        let text = keys.map_err(|error| error.to_string())?;
        figures.keys = Some(keys::parse(&text).map_err(|failure| failure.to_string())?);
    }
    Ok(figures)
}
