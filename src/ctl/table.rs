//! `explain --table`: the table, and the page sizes with which the daemon and this process map it.

use super::{Failure, admin};
use l1d_client::Client;
use l1d_wire::snapshot::PagesFigures;
use serde_json::{Value, json};
use std::process::ExitCode;

pub(super) fn explain(client: &Client, json: bool) -> Result<ExitCode, Failure> {
    let stats = admin::parse(&client.admin().stats_json()?)?;
    let figure = |pointer: &str| stats.pointer(pointer).cloned().unwrap_or(Value::Null);
    let pages = client.pages();
    let answer = json!({
        "file": figure("/table_file/path"),
        "bytes": figure("/table_file/bytes"),
        "geometry": {
            "index_bytes": figure("/table/index_bytes"),
            "log_bytes": figure("/table/log_bytes"),
            "segments": figure("/table/segments"),
            "segment_bytes": figure("/table/segment_bytes"),
            "entries": figure("/table/entries"),
            "index_load_percent": figure("/table/index_load_percent"),
        },
        "daemon": figure("/table_file/pages"),
        "this_process": pages.map(|pages| {
            let mut json = json!(PagesFigures::from(&pages));
            json["is_populated"] = (pages.resident_bytes == pages.table_bytes).into();
            json
        }),
    });
    admin::show(&answer.to_string(), json)
}
