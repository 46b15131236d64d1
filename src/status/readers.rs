//! Answers for readers: the owner's, with what `l1ctl` adds to them for people.

use crate::ctl;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// The clients, with the names of their users and, where this process may see them, programs.
pub(super) fn clients(answer: &str) -> String {
    amended(answer, |answer| {
        for client in answer["clients"].as_array_mut().into_iter().flatten() {
            let pid = client["pid"].as_i64().unwrap_or(0);
            let uid = client["uid"].as_u64().and_then(|uid| u32::try_from(uid).ok());
            client["program"] = ctl::program(pid).into();
            client["user"] = uid.map(ctl::user).into();
        }
    })
}

/// Where a key stands, with who changed it last, and with a sentence. `clients` is the owner's
/// answer about its clients.
pub(super) fn explanation(answer: &str, clients: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    amended(answer, |answer| {
        let Ok(explanation) = serde_json::from_value(answer.clone()) else { return };
        answer["sentence"] = ctl::explanation_sentence(answer, &explanation, now).into();
        if let Some(change) = &explanation.last_change {
            answer["last_change"]["by"] = ctl::author(change, clients).into();
        }
    })
}

/// The estimates for other sizes, with a sentence.
pub(super) fn advice(answer: &str) -> String {
    amended(answer, |answer| answer["sentence"] = ctl::advice_sentence(answer).into())
}

/// What cannot be read is passed on.
fn amended(answer: &str, amend: impl FnOnce(&mut Value)) -> String {
    match serde_json::from_str::<Value>(answer) {
        Ok(mut value) if value.is_object() => {
            amend(&mut value);
            value.to_string()
        }
        _ => answer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sentences_are_added_and_all_else_stays() {
        let pid = std::process::id();
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let all = format!("{{\"clients\": [{{\"pid\": {pid}, \"uid\": 0, \"reads\": 7}}, {{}}]}}");
        let named = parsed(&clients(&all));
        assert_eq!(named["clients"][0]["user"], "root");
        assert!(named["clients"][0]["program"].is_string(), "{named}");
        assert_eq!(named["clients"][0]["reads"], 7);
        assert!(named["clients"][1]["user"].is_null());

        let version = u64::MAX - 1;
        let held = format!(
            "{{\"in_table\": {{\"version\": {version}}}, \
             \"last_change\": {{\"cause\": \"set\", \"pid\": 1, \"uid\": 0}}}}"
        );
        let told = parsed(&explanation(&held, "{}"));
        assert_eq!(told["in_table"]["version"].as_u64(), Some(version));
        assert_eq!(told["last_change"]["by"], " by process 1 (not connected any more) of root");
        let sentence = told["sentence"].as_str().unwrap();
        assert!(sentence.starts_with("Every process of this host reads"), "{sentence}");

        let advised = parsed(&advice(
            "{\"times\": [0.5, 1.0, 2.0, 4.0], \"hit_percent\": [60.0, 70.0, 80.0, 90.0]}",
        ));
        let sentence = advised["sentence"].as_str().unwrap();
        assert!(sentence.starts_with("Twice the memory would lift"), "{sentence}");
        assert!(parsed(&advice("{\"hit_percent\": null}"))["sentence"].is_null());
        assert_eq!([clients("no"), advice("[1]")], ["no", "[1]"]);
    }
}
