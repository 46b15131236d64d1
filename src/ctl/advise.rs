//! `advise`: the hit ratio with more or less memory, as a sentence and a plot.

use super::screen::Style;
use super::{Failure, admin};
use crate::cli::print;
use crate::config::show_size;
use l1d_client::Client;
use l1d_wire::snapshot::Advice;
use serde_json::Value;
use std::process::ExitCode;

/// Width of a full bar, in columns.
const WIDTH: usize = 50;

pub(super) fn run(client: &Client, json: bool) -> Result<ExitCode, Failure> {
    let text = client.admin().advise_json()?;
    if json {
        return admin::show(&text, true);
    }
    print(page(&admin::parse(&text)?, is_utf8(), Style::of_output()))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns whether the locale allows bars of non-ASCII characters.
fn is_utf8() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| std::env::var(name).ok());
    set.is_some_and(|set| set.to_ascii_lowercase().replace('-', "").contains("utf8"))
}

fn page(advice: &Value, is_utf8: bool, style: Style) -> String {
    let reads = advice["sampled_reads"].as_u64().unwrap_or(0);
    let change = changes(advice, style);
    let Some(percents) = figures(&advice["hit_percent"]) else {
        return format!(
            "{change}Too little was read to say: {reads} reads of sampled keys so far. Ask again \
             later.\n"
        );
    };
    let times = figures(&advice["times"]).unwrap_or_default();
    let bytes = figures(&advice["bytes"]).unwrap_or_default();
    let mut text = change + &sentence(&times, &percents) + "\n\n";
    for ((times, bytes), percent) in times.iter().zip(&bytes).zip(&percents) {
        text += &bar(&size(*times, *bytes), *percent, is_utf8);
    }
    for policy in advice["policies"].as_array().into_iter().flatten() {
        let prefix = policy["prefix"].as_str().unwrap_or("");
        let name =
            if prefix.is_empty() { "keys without a rule".into() } else { format!("{prefix:?}") };
        let part = policy["reads_percent"].as_f64().unwrap_or(0.0);
        text += &match figures(&policy["hit_percent"]) {
            None => format!("\n{name}, {part:.1} % of reads: too few to say\n"),
            Some(percents) => {
                let list: Vec<String> = percents.iter().map(|hit| format!("{hit:.1}")).collect();
                format!("\n{name}, {part:.1} % of reads: {} %\n", list.join(", "))
            }
        };
    }
    let one_in = advice["sampled_one_key_in"].as_u64().unwrap_or(1);
    text + &format!("\nFrom {reads} reads of one key in {one_in}.\n")
}

/// What to change, an item for each.
fn changes(advice: &Value, style: Style) -> String {
    let changes: Vec<Advice> = serde_json::from_value(advice["advice"].clone()).unwrap_or_default();
    let mut page = String::new();
    for change in &changes {
        style.row(&mut page, "To change", &change.sentence);
    }
    if page.is_empty() { page } else { page + "\n" }
}

fn figures(value: &Value) -> Option<Vec<f64>> {
    value.as_array()?.iter().map(Value::as_f64).collect()
}

fn size(times: f64, bytes: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
    let bytes = show_size(bytes as u64);
    format!("{times:>4} x  {bytes:>10}")
}

/// What the estimates come to; `None` if too little was read.
pub(crate) fn sentence_of(advice: &Value) -> Option<String> {
    let percents = figures(&advice["hit_percent"])?;
    Some(sentence(&figures(&advice["times"]).unwrap_or_default(), &percents))
}

/// Summarises the figures.
fn sentence(times: &[f64], percents: &[f64]) -> String {
    let at = |wanted: f64| {
        let place = times.iter().position(|times| times.to_bits() == wanted.to_bits());
        place.and_then(|place| percents.get(place)).copied().unwrap_or(0.0)
    };
    let (half, own, twice, four) = (at(0.5), at(1.0), at(2.0), at(4.0));
    let more = if four - own < 0.5 {
        format!("More memory would bring next to nothing: the hit ratio is {own:.1} %.")
    } else {
        format!(
            "Twice the memory would lift the hit ratio from {own:.1} % to {twice:.1} %, \
             four times to {four:.1} %."
        )
    };
    let less = if own - half < 0.5 {
        "Half of it would do as well.".to_owned()
    } else {
        format!("With half of it, it would be {half:.1} %.")
    };
    format!("{more} {less}")
}

fn bar(name: &str, percent: f64, is_utf8: bool) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 50")]
    #[expect(clippy::cast_precision_loss, reason = "50")]
    let length = (percent.clamp(0.0, 100.0) * WIDTH as f64 / 100.0).round() as usize;
    let (full, rest) = if is_utf8 { ("\u{2588}", "\u{2591}") } else { ("#", ".") };
    format!("{name}  {}{}  {percent:5.1} %\n", full.repeat(length), rest.repeat(WIDTH - length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_says_what_the_figures_come_to() {
        let advice = json!({
            "table_bytes": 1 << 30, "sampled_one_key_in": 64, "sampled_reads": 12_345,
            "times": [0.5, 1.0, 2.0, 4.0],
            "bytes": [1_u64 << 29, 1_u64 << 30, 1_u64 << 31, 1_u64 << 32],
            "hit_percent": [60.0, 71.25, 83.0, 90.0],
            "policies": [
                {"id": 0, "prefix": "", "reads_percent": 99.0,
                 "hit_percent": [60.0, 71.0, 83.0, 90.0]},
                {"id": 1, "prefix": "rare:", "reads_percent": 1.0, "hit_percent": null},
            ],
        });
        let mut advised = advice.clone();
        let sentence =
            "Twice the memory would bring 83.0 % hits instead of 71.2 %: l1ctl resize 2GiB";
        advised["advice"] = json!([{ "kind": "more-memory", "sentence": sentence, "figures": {} }]);
        let text = page(&advised, false, Style::plain());
        assert!(text.starts_with("To change    Twice the memory would bring 83.0 %"), "{text}");
        assert!(text.lines().take(2).all(|line| line.len() <= 80), "{text}");
        let text = page(&advice, false, Style::plain());
        assert!(
            text.starts_with(
                "Twice the memory would lift the hit ratio from 71.2 % to 83.0 %, four times to \
             90.0 %. With half of it, it would be 60.0 %.\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("   2 x        2GiB") || text.contains("   2 x      2 GiB"),
            "{text}"
        );
        assert!(text.contains("##########") && text.is_ascii(), "{text}");
        assert!(text.contains("\"rare:\", 1.0 % of reads: too few to say"), "{text}");
        assert!(page(&advice, true, Style::plain()).contains('\u{2588}'));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let nothing = json!({ "sampled_reads": 3, "hit_percent": null });
        assert!(page(&nothing, false, Style::plain()).starts_with("Too little was read to say"));
        let flat = sentence(&[0.5, 1.0, 2.0, 4.0], &[99.9, 100.0, 100.0, 100.0]);
        assert_eq!(
            flat,
            "More memory would bring next to nothing: the hit ratio is 100.0 %. \
             Half of it would do as well."
        );
    }
}
