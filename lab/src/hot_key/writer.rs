//! The writer: a thread, with a core of its own if there is one to spare.

use super::view::{Value, value};
use crate::machine::pin;
use anyhow::{Context, Result, anyhow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Pause between batches of sets if the writer shares its core.
const PAUSE: Duration = Duration::from_millis(1);

/// A store that values are set in.
pub trait Sets {
    /// Stores a value.
    ///
    /// # Errors
    /// The store failed.
    fn set(&mut self, key: u32, value: &Value) -> Result<()>;

    /// Makes the sets since the last call visible, if the store needs a step for that.
    ///
    /// # Errors
    /// The store failed.
    fn publish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Makes a store in the thread that will use it, with a value for every key.
pub type MakeSets = Box<dyn FnOnce() -> Result<Box<dyn Sets>> + Send>;

/// The writer's speed and place.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Keys, set in turn.
    pub keys: u32,
    /// Sets per second.
    pub rate: u32,
    /// The writer's core.
    pub core: usize,
    /// No reader runs on that core, so the writer spins from one set to the next.
    pub is_alone: bool,
}

/// The thread. Ends when dropped.
pub struct Writer {
    /// Dropped to end the thread.
    orders: Option<SyncSender<()>>,
    stop: Arc<AtomicBool>,
    answers: Receiver<Result<f64>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts it, and returns when every key has a value.
    ///
    /// # Errors
    /// The store could not be filled.
    pub fn start(make: MakeSets, pace: Pace) -> Result<Writer> {
        let (orders, to_do) = sync_channel::<()>(1);
        let (done, answers) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let is_told = stop.clone();
        let work = move || {
            let mut sets = match pin(pace.core).and_then(|()| make()) {
                Ok(sets) => sets,
                Err(error) => {
                    let _ = done.send(Err(error));
                    return;
                }
            };
            let _ = done.send(Ok(0.0));
            let mut number = 0;
            for () in to_do {
                let begun = || {
                    let _ = done.send(Ok(0.0));
                };
                let written = write(sets.as_mut(), pace, (&mut number, &is_told), begun);
                if done.send(written).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().spawn(work).context("no thread for the writer")?;
        let writer = Writer { orders: Some(orders), stop, answers, thread: Some(thread) };
        writer.answer()?;
        Ok(writer)
    }

    /// Begins to set. Returns after the first set.
    ///
    /// # Errors
    /// The thread has ended, or the store failed.
    pub fn begin(&self) -> Result<()> {
        self.stop.store(false, Ordering::Relaxed);
        let orders = self.orders.as_ref().context("the writer has ended")?;
        orders.send(()).map_err(|_| anyhow!("the writer has ended"))?;
        self.answer().map(drop)
    }

    /// Stops setting. Returns the sets per second that were achieved.
    ///
    /// # Errors
    /// The store failed.
    pub fn end(&self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.answer()
    }

    fn answer(&self) -> Result<f64> {
        self.answers.recv().context("the writer has ended")?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.orders = None;
        // A panic has been printed already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn write(
    sets: &mut dyn Sets,
    pace: Pace,
    (number, stop): (&mut u64, &AtomicBool),
    begun: impl FnOnce(),
) -> Result<f64> {
    let mut set = |sets: &mut dyn Sets| {
        *number += 1;
        let key = u32::try_from(*number % u64::from(pace.keys)).unwrap_or(0);
        sets.set(key, &value(*number))
    };
    let begin = Instant::now();
    set(sets)?;
    sets.publish()?;
    begun();
    let mut done = 1_u64;
    while !stop.load(Ordering::Relaxed) {
        let due = begin.elapsed().as_nanos() * u128::from(pace.rate) / 1_000_000_000;
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        // Bounded, so that a writer that cannot keep up still stops when told.
        let behind = due.saturating_sub(done).min(1024);
        for _ in 0..behind {
            set(sets)?;
            done += 1;
        }
        if behind > 0 {
            sets.publish()?;
        }
        if pace.is_alone {
            std::hint::spin_loop();
        } else {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}
