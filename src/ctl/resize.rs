//! `resize`: waits for the move, and shows its progress on a terminal.

use super::{Failure, admin};
use l1d_client::Client;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Time between two requests for the progress.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(
    client: &Client,
    (table_bytes, entry_bytes): (Option<u64>, Option<u32>),
    json: bool,
) -> Result<ExitCode, Failure> {
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| client.admin().resize(table_bytes, entry_bytes));
        if std::io::stderr().is_terminal() {
            let mut is_shown = false;
            while !asked.is_finished() {
                thread::sleep(LOOK);
                is_shown |= show_progress(client);
            }
            if is_shown {
                show("");
            }
        }
        asked.join()
    });
    let answer = answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    admin::show(&answer, json)
}

/// Returns whether there was progress to show.
fn show_progress(client: &Client) -> bool {
    let stats = client.admin().stats_json().ok();
    let stats = stats.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let Some(under_way) = stats.as_ref().and_then(|stats| stats.pointer("/moves/under_way")) else {
        return false;
    };
    let figure = |name: &str| under_way.get(name).and_then(Value::as_u64);
    let (Some(copied), Some(buckets)) = (figure("buckets_copied"), figure("buckets")) else {
        return false;
    };
    let what = match copied {
        0 => "allocating memory for the new table".to_owned(),
        _ => format!("{} % of the entries copied", copied * 100 / buckets.max(1)),
    };
    show(&what);
    true
}

/// Replaces the line on the terminal. Errors are ignored: the move goes on without its display.
fn show(text: &str) {
    let _ = std::io::stderr().write_all(format!("\r\x1b[K{text}").as_bytes());
}
