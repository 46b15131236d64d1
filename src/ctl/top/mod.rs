//! `top`: a live view by policy, client and key.
//!
//! | part | file |
//! |---|---|
//! | the terminal, the keyboard, signals | `mod` |
//! | asking the daemon, in a thread, because it may not answer | `source` |
//! | what is shown, and in which order | `view` |
//! | the rows of each list | `rows` |
//! | the screen | `draw` |

mod draw;
mod rows;
mod source;
mod view;

use super::Failure;
use crate::signals::{ProcessSignals, Signals};
use l1d_client::Client;
use l1d_wire::words;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use source::Source;
use std::io::{self, IsTerminal, stdin, stdout};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use view::{List, View};

/// How often the keyboard and signals are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Shows the live view until somebody quits it.
pub(super) fn run(client: &Client, every: Duration, json: bool) -> Result<ExitCode, Failure> {
    if json {
        let message =
            "top has no JSON: use `l1ctl --json stats`, with `--watch` for a stream of it";
        return Err(Failure::Usage(message.to_owned()));
    }
    if !stdout().is_terminal() || !stdin().is_terminal() {
        let message = "top needs a terminal, and standard input or output is none: use \
                       `l1ctl stats --watch`";
        return Err(Failure::Usage(message.to_owned()));
    }
    live(client, every).map_err(|error| {
        let why = words::of(&error);
        Failure::Usage(format!("cannot show the live view: {why}; use `l1ctl stats --watch`"))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn live(client: &Client, every: Duration) -> io::Result<()> {
    // Before the thread is started, which inherits that.
    let signals = ProcessSignals::block()?;
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    let mut view = View::new(!no_color, every);
    let source = Source::start(client.clone(), every)?;
    // Restores the terminal if this thread panics.
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, &mut view, &source, &signals);
    let restored = ratatui::try_restore();
    shown.and(restored)
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    view: &mut View,
    source: &Source,
    signals: &ProcessSignals,
) -> io::Result<()> {
    loop {
        while let Some(answer) = source.take() {
            view.take(answer, Instant::now());
        }
        terminal.draw(|frame| draw::draw(frame, view))?;
        // Any of these signals means that nobody looks any more.
        if signals.next().is_some() {
            return Ok(());
        }
        if is_gone() {
            return Ok(());
        }
        if !event::poll(LOOK)? {
            continue;
        }
        // Another size is an event, too, and is drawn by the next turn.
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            if quits(key) {
                return Ok(());
            }
            act(key.code, view);
            source.ask_for(view.list());
        }
    }
}

/// Whether the terminal is gone, which need not come with a signal.
fn is_gone() -> bool {
    let stdin = stdin();
    let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn quits(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') => control,
        KeyCode::Char('q') | KeyCode::Esc => true,
        _ => false,
    }
}

fn act(key: KeyCode, view: &mut View) {
    match key {
        KeyCode::Char('p') => view.show(List::Policies),
        KeyCode::Char('c') => view.show(List::Clients),
        KeyCode::Char('k') => view.show(List::Keys),
        KeyCode::Tab => view.show(view.list().next()),
        KeyCode::Char('s') | KeyCode::Right => view.sort_by_next(),
        KeyCode::Left => view.sort_by_previous(),
        KeyCode::Char('r') => view.reverse(),
        KeyCode::Char(' ') => view.pause(),
        KeyCode::Down => view.scroll(1),
        KeyCode::Up => view.scroll(-1),
        KeyCode::PageDown => view.scroll(10),
        KeyCode::PageUp => view.scroll(-10),
        KeyCode::Home => view.scroll(isize::MIN),
        _ => {}
    }
}
