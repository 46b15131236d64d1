//! Writes metrics in either text format.

use super::format::Format;
use serde_json::Number;
use std::fmt::Write as _;

/// Longest value of a label, in characters.
pub(super) const LABEL_CHARS_MAX: usize = 128;

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only rises, except when the daemon starts again.
    Counter,
    /// It may be anything.
    Gauge,
}

/// A text that grows by families of samples.
pub(super) struct Text {
    text: String,
    format: Format,
}

/// A family of samples, to which samples are added.
pub(super) struct Family<'a> {
    text: &'a mut String,
    /// The name of its samples.
    name: String,
}

impl Text {
    pub(super) fn new(format: Format) -> Text {
        Text { text: String::new(), format }
    }

    /// Begins a family. `name` is without the `_total` of a counter.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        let sample = match kind {
            Kind::Counter => format!("{name}_total"),
            Kind::Gauge => name.to_owned(),
        };
        // OpenMetrics names the family, Prometheus's format the samples.
        let family = match self.format {
            Format::Prometheus => &sample,
            Format::OpenMetrics => name,
        };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let help = match self.format {
            Format::Prometheus => help,
            Format::OpenMetrics => help.replace('"', "\\\""),
        };
        // Writing to a String cannot fail.
        let _ = write!(self.text, "# HELP {family} {help}\n# TYPE {family} {kind}\n");
        Family { text: &mut self.text, name: sample }
    }

    /// The whole text.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl Family<'_> {
    /// Adds a sample.
    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: &Number) {
        self.text.push_str(&self.name);
        for (at, (name, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{name}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// A label's value, shortened and escaped. Others choose it, so control characters are replaced.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for (at, char) in value.chars().enumerate() {
        match char {
            _ if at == LABEL_CHARS_MAX => {
                text.push_str("...");
                break;
            }
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            char if char.is_control() => text.push('?'),
            char => text.push(char),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_name_counters_as_they_want() {
        let text = |format| {
            let mut text = Text::new(format);
            let mut family = text.family("l1d_x", Kind::Counter, "A \"b\" \\ c.");
            family.add(&[("policy", "a\"\\\n:"), ("tier", "l2")], &7.into());
            text.family("l1d_y_bytes", Kind::Gauge, "Y.").add(&[], &8.into());
            text.finish()
        };
        assert_eq!(
            text(Format::Prometheus),
            "# HELP l1d_x_total A \"b\" \\\\ c.\n# TYPE l1d_x_total counter\n\
             l1d_x_total{policy=\"a\\\"\\\\?:\",tier=\"l2\"} 7\n\
             # HELP l1d_y_bytes Y.\n# TYPE l1d_y_bytes gauge\nl1d_y_bytes 8\n"
        );
        assert_eq!(
            text(Format::OpenMetrics),
            "# HELP l1d_x A \\\"b\\\" \\\\ c.\n# TYPE l1d_x counter\n\
             l1d_x_total{policy=\"a\\\"\\\\?:\",tier=\"l2\"} 7\n\
             # HELP l1d_y_bytes Y.\n# TYPE l1d_y_bytes gauge\nl1d_y_bytes 8\n# EOF\n"
        );
    }
}
