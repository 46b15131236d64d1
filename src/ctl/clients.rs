//! `clients`: one line for each client.

use super::screen::{Style, count, percent, short, span};
use super::{Failure, admin};
use crate::cli::print;
use l1d_client::Client;
use l1d_wire::snapshot::ClientFigures;
use nix::unistd::{Uid, User};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

/// Columns of a user's name.
const USER: usize = 10;
/// Columns of a program's name, which the system cuts after as many.
const PROGRAM: usize = 15;

const LEGEND: &str = "reads, writes: keys in requests to the daemon, which gets a read only if the\nkey is \
    not in the table\n*: reported by the client, in batches: the most recent hits may be missing\n";

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
        print(page(&clients, Style::of_output()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of a process's program. The daemon cannot look it up: its unit hides other users'
/// processes from it.
pub(crate) fn program(pid: i64) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    // A process can choose its name freely, including control characters.
    Some(super::screen::shown(name.trim_end()))
}

/// The name of a user, or the number.
pub(crate) fn user(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

fn page(clients: &[Value], style: Style) -> String {
    let rows = clients.iter().map(|client| {
        let figures: ClientFigures = serde_json::from_value(client.clone()).unwrap_or_default();
        let program = client.get("program").and_then(Value::as_str).unwrap_or("-");
        vec![
            figures.pid.to_string(),
            short(&user(figures.uid), USER),
            short(program, PROGRAM),
            span(Duration::from_secs(figures.connected_seconds)),
            count(figures.figures.client_reported.hits),
            count(figures.figures.reads),
            percent(figures.hit_percent),
            count(figures.figures.writes),
        ]
    });
    let heading = ["pid", "user", "program", "for", "hits*", "reads", "ratio", "writes"];
    let mut page = String::new();
    style.table(&mut page, &heading, 3, &rows.collect::<Vec<_>>());
    format!("{page}\n{LEGEND}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn clients_fit_into_80_columns() {
        let client = json!({
            "pid": 4_194_304, "uid": u32::MAX - 1, "program": "fifteen letters",
            "connected_seconds": 3599, "hit_percent": 100.0, "reads": 999_499, "writes": 999_499,
            "client_reported": { "hits": u64::MAX },
        });
        let page = page(&[client.clone(), client], Style::plain());
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
        assert!(page.contains("fifteen letters") && page.contains("100.0 %"), "{page}");
    }
}
