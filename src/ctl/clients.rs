//! `stats --clients`: one line for each client.

use super::{Failure, admin};
use crate::cli::print;
use l1d_client::Client;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

/// The heading of each column, and the JSON pointer to its figure.
const COLUMNS: [(&str, &str); 15] = [
    ("pid", "/pid"),
    ("user", "/uid"),
    ("seconds", "/connected_seconds"),
    ("requests", "/requests"),
    ("reads", "/reads"),
    ("writes", "/writes"),
    ("hits*", "/client_reported/hits"),
    ("reports", "/hit_reports"),
    ("lost", "/hit_reports_lost"),
    ("looks", "/empty_polls"),
    ("woken", "/wakes"),
    ("rings*", "/client_reported/rings"),
    ("sleeps*", "/client_reported/sleeps"),
    ("full*", "/client_reported/ring_full"),
    ("budgets", "/budgets_used_up"),
];

const LEGEND: &str = "reads, writes: keys in requests to the daemon; looks: the daemon polled for \
    requests and found none; budgets: turns with more requests than are served for one client at \
    once\n*: reported by the client; hits arrive in batches, so the most recent may be missing";

pub(super) fn show(client: &Client, json: bool) -> Result<ExitCode, Failure> {
    let mut answer = admin::parse(&client.admin().clients_json()?)?;
    let clients = answer.get_mut("clients").and_then(Value::as_array_mut);
    let mut clients = clients.map(std::mem::take).unwrap_or_default();
    clients.sort_by_key(|client| {
        let figure = |at| client.pointer(at).and_then(Value::as_u64).unwrap_or(0);
        std::cmp::Reverse(figure("/requests").saturating_add(figure("/client_reported/hits")))
    });
    for client in &mut clients {
        let pid = client.get("pid").and_then(Value::as_i64).unwrap_or(0);
        client["program"] = program(pid).into();
    }
    if json {
        answer["clients"] = clients.into();
        print(format!("{answer}\n"))?;
    } else {
        print(format!("{}\n{LEGEND}\n", table(&clients)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of a process's program. The daemon cannot look it up: its unit hides other users'
/// processes from it.
fn program(pid: i64) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    // A process can choose its name freely, including control characters.
    Some(name.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect())
}

fn table(clients: &[Value]) -> String {
    let cell = |client: &Value, at: &str| match client.pointer(at) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(figure) => figure.to_string(),
    };
    let mut columns: Vec<Vec<String>> = Vec::new();
    for (name, at) in COLUMNS {
        let cells = clients.iter().map(|client| cell(client, at));
        columns.push([name.to_owned()].into_iter().chain(cells).collect());
    }
    let mut text = String::new();
    for line in 0..=clients.len() {
        for column in &columns {
            let width = column.iter().map(String::len).max().unwrap_or(0);
            let cell = column.get(line).map(String::as_str).unwrap_or_default();
            let _ = write!(text, "{cell:>width$}  ");
        }
        let program = match line.checked_sub(1).and_then(|line| clients.get(line)) {
            None => "program",
            Some(client) => client.get("program").and_then(Value::as_str).unwrap_or("-"),
        };
        let _ = writeln!(text, "{program}");
    }
    text
}
