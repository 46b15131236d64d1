//! What is no TOML, in words for whoever writes the configuration.

/// What the parser's message has, and what to do then. The first that it has counts.
const ADVICE: &[(&str, &str)] = &[
    ("duplicate", "remove one of the two"),
    ("must be quoted", "write for example ttl = \"30s\""),
    ("unclosed table", "write for example [table]"),
    ("unclosed array table", "write for example [[policy]]"),
    ("unclosed array", "end it with ], as in user = [\"www-data\"]"),
    ("no value", "write for example size = \"256MiB\""),
    ("unexpected key or value", "begin another line for it"),
    ("escaped", "write \\\\ for a backslash, or the whole text in single quotes"),
    ("string", "end the text with the quotes that it begins with, on the same line"),
    ("boolean", "write true or false"),
    ("leading zero", "write a mode in quotes, as in mode = \"0640\""),
    ("date", "write a duration in quotes, as in ttl = \"30s\""),
    ("time", "write a duration in quotes, as in ttl = \"30s\""),
];

/// For everything else.
const EXAMPLE: &str = "write for example [defaults] on one line and ttl = \"30s\" on the next";

/// The parser's message, and what to do.
pub(super) fn message(message: &str) -> String {
    let message = message.trim_end().trim_end_matches("expected nothing").trim_end();
    let message = message.trim_end_matches(',').replace('\n', ", ");
    let advice = ADVICE.iter().find(|(has, _)| message.contains(has)).map(|(_, advice)| *advice);
    format!("{message}; {}", advice.unwrap_or(EXAMPLE))
}
