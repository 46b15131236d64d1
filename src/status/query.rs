//! The query of a request: names and values, percent-encoded.

/// Why a query cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    #[error("the query has no {0}; ask for example /api/explain?key=market%3ABTC")]
    Missing(&'static str),
    #[error("a % is not followed by two hex digits; write %25 for the character itself")]
    Percent,
    #[error("the key is not base64; leave encoding out for a percent-encoded one")]
    Base64,
    #[error("encoding is neither \"base64\" nor left out")]
    Encoding,
}

/// The key that a query names.
pub(super) fn key(query: &str) -> Result<Vec<u8>, QueryError> {
    let key = value(query, "key")?.ok_or(QueryError::Missing("key"))?;
    match value(query, "encoding")?.as_deref() {
        None | Some(b"") => Ok(key),
        Some(b"base64") => base64(&key).ok_or(QueryError::Base64),
        Some(_) => Err(QueryError::Encoding),
    }
}

fn value(query: &str, name: &str) -> Result<Option<Vec<u8>>, QueryError> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| decoded(value)).transpose()
}

fn decoded(text: &str) -> Result<Vec<u8>, QueryError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => return Ok(bytes),
            [b'%', high, low, after @ ..] => {
                let digit = |digit: u8| char::from(digit).to_digit(16);
                let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                    return Err(QueryError::Percent);
                };
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = after;
            }
            [b'%', ..] => return Err(QueryError::Percent),
            // As forms write it.
            [b'+', after @ ..] => {
                bytes.push(b' ');
                rest = after;
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
}

/// Decodes base64 of either alphabet, with or without padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    if text.len() - end > 2 || end % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(end / 4 * 3 + 2);
    let (mut word, mut bits) = (0_u32, 0);
    for byte in &text[..end] {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            // A plus may have become a space.
            b'+' | b'-' | b' ' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        word = word << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits).to_le_bytes()[0]);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_bytes_can_be_named() {
        assert_eq!(key("key=market%3ABTC").unwrap(), b"market:BTC");
        assert_eq!(key("x=1&key=a+b%00%ff").unwrap(), b"a b\0\xff");
        for (text, bytes) in [
            ("", &b""[..]),
            ("AA==", b"\0"),
            ("AA", b"\0"),
            ("_-8=", b"\xff\xef"),
            ("%2F%2B8", b"\xff\xef"),
            ("bWFya2V0OkJUQw==", b"market:BTC"),
        ] {
            assert_eq!(key(&format!("key={text}&encoding=base64")).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (query, error) in [
            ("", QueryError::Missing("key")),
            ("keys=1", QueryError::Missing("key")),
            ("key=%", QueryError::Percent),
            ("key=%2", QueryError::Percent),
            ("key=%zz", QueryError::Percent),
            ("key=A&encoding=base64", QueryError::Base64),
            ("key=A===&encoding=base64", QueryError::Base64),
            ("key=%00%00&encoding=base64", QueryError::Base64),
            ("key=a&encoding=rot13", QueryError::Encoding),
        ] {
            assert_eq!(key(query), Err(error), "{query}");
        }
    }
}
