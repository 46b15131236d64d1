//! Keeps lines that repeat out of the log: a peer that misbehaves a thousand times a second must not
//! hide what else happens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Lines of one place in the code in a row: a reload tells of each of 256 rules.
const LINES_MAX: u32 = 256;
/// After this time of its first line, a place may write as many again.
const WINDOW: Duration = Duration::from_secs(60);

/// How often each place has written lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Repeats(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    places: HashMap<Identifier, Place>,
    left_out: u64,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    since: Instant,
    lines: u32,
}

impl Repeats {
    /// The lines that were left out since they were last told of, once a minute, and at the end.
    pub(super) fn take_left_out(&self, now: Instant, is_end: bool) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due =
            is_end || state.told.is_none_or(|told| now.saturating_duration_since(told) >= WINDOW);
        if !is_due || state.left_out == 0 {
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }

    fn may_write(&self, meta: &Metadata<'_>, now: Instant) -> bool {
        // Whoever asks for more wants all.
        if *meta.level() > Level::INFO {
            return true;
        }
        let mut state = match self.0.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return true,
        };
        let new = || Place { since: now, lines: 0 };
        let place = state.places.entry(meta.callsite()).or_insert_with(new);
        if now.saturating_duration_since(place.since) >= WINDOW {
            *place = new();
        }
        place.lines = place.lines.saturating_add(1);
        let may_write = place.lines <= LINES_MAX;
        state.left_out += u64::from(!may_write);
        may_write
    }
}

impl<S> Filter<S> for Repeats {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.may_write(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, fmt};

    #[test]
    fn a_place_that_repeats_itself_is_silenced_and_others_are_not() {
        let repeats = Repeats::default();
        let text: Arc<Mutex<Vec<u8>>> = Arc::default();
        let writer = Arc::clone(&text);
        let writer = move || Sink(Arc::clone(&writer));
        let layer = fmt::layer().with_writer(writer).with_filter(repeats.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for n in 0..1000 {
                tracing::warn!(n, "a peer misbehaves");
                tracing::debug!(n, "asked for");
            }
            tracing::warn!("something else");
        });
        let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("misbehaves").count(), LINES_MAX as usize);
        assert_eq!(text.matches("asked for").count(), 1000);
        assert_eq!(text.matches("something else").count(), 1);
        let now = Instant::now();
        assert_eq!(repeats.take_left_out(now, false), Some(u64::from(1000 - LINES_MAX)));
        repeats.0.lock().unwrap().left_out = 1;
        assert_eq!(repeats.take_left_out(now, false), None);
        assert_eq!(repeats.take_left_out(now + WINDOW, false), Some(1));
        repeats.0.lock().unwrap().left_out = 2;
        assert_eq!(repeats.take_left_out(now + WINDOW, true), Some(2));
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
