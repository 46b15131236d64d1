//! Target: texts from people and scrapers: queries and headers of the status server, keys and lives
//! on the command line of `l1ctl`.

use crate::ctl::fuzzing as ctl;
use crate::status::fuzzing as status;

/// Reads the text as each of them.
pub fn texts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(key) = status::key(&text) {
        // Whatever key a query names can be named by a query.
        let named: String = key.iter().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(status::key(&format!("key={named}")), Some(key));
    }
    status::host(&text);
    status::accept(&text);
    if let Some(key) = ctl::hex_key(&text) {
        let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(ctl::hex_key(&digits), Some(key));
    }
    ctl::lifetime(&text);
}

/// Texts as they are written.
#[cfg(test)]
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "key=market%3ABTC",
        "x=1&key=a+b%00%ff",
        "key=bWFya2V0OkJUQw==&encoding=base64",
        "key=_-8=&encoding=base64&encoding=",
        "key=%",
        "localhost:9401",
        "[::1]:9401",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2,*/*;q=0.1",
        "00ffAb",
        "0g",
        "1h 30m",
        "forever",
        "18446744073709551615",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}
