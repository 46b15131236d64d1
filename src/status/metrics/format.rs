//! The text formats in which metrics are read.

use hyper::HeaderMap;
use hyper::header::ACCEPT;

/// A text format for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::status) enum Format {
    /// Prometheus's own.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The one that a request prefers; Prometheus's own if it does not say.
    pub(in crate::status) fn wanted(headers: &HeaderMap) -> Format {
        let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let (mut open, mut text) = (0.0, 0.0);
        for range in ranges.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok());
            let best = match kind.to_ascii_lowercase().as_str() {
                "application/openmetrics-text" => &mut open,
                "text/plain" | "text/*" | "*/*" => &mut text,
                _ => continue,
            };
            *best = quality.unwrap_or(1.0).max(*best);
        }
        if open > text { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// The type of the content.
    pub(in crate::status) fn kind(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_the_format_that_it_prefers() {
        let wanted = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            Format::wanted(&headers)
        };
        assert_eq!(Format::wanted(&HeaderMap::new()), Format::Prometheus);
        for accept in [
            "*/*",
            "",
            "text/html",
            ";;,,q=",
            "text/plain;version=0.0.4,application/openmetrics-text;q=0.9",
            "application/openmetrics-text;q=0",
        ] {
            assert_eq!(wanted(accept), Format::Prometheus, "{accept}");
        }
        for accept in [
            "application/openmetrics-text; version=1.0.0",
            // Prometheus itself.
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
             version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ] {
            assert_eq!(wanted(accept), Format::OpenMetrics, "{accept}");
        }
    }
}
