//! The status page: one document, with everything in it, from the files in `page/`.

use hyper::header::HeaderValue;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// The page.
pub(super) const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>\n",
    include_str!("page/style.css"),
    "</style>\n",
    include_str!("page/body.html"),
    "<script>\n",
    include_str!("page/format.js"),
    include_str!("page/graph.js"),
    include_str!("page/view.js"),
    include_str!("page/explain.js"),
    include_str!("page/page.js"),
    "</script>\n</body>\n</html>\n",
);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What a browser may do with anything from here: run the page's own scripts, which it knows by
/// their hashes, and ask this server. Keys are chosen by others, so a script in one must not run.
pub(super) fn security_policy() -> HeaderValue {
    static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
        let hashes: Vec<String> = scripts(PAGE).map(|script| hash(script.as_bytes())).collect();
        let sources = if hashes.is_empty() { "'none'".to_owned() } else { hashes.join(" ") };
        let policy = format!(
            "default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
    });
    POLICY.clone()
}

/// The text of each script.
fn scripts(page: &str) -> impl Iterator<Item = &str> {
    page.split("<script").skip(1).filter_map(|script| {
        let (_, script) = script.split_once('>')?;
        Some(script.split_once("</script>")?.0)
    })
}

fn hash(script: &[u8]) -> String {
    format!("'sha256-{}'", base64(&Sha256::digest(script)))
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = (word >> (18 - 6 * at) & 63) as usize;
            text.push(if at <= chunk.len() { char::from(ALPHABET[digit]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_runs_the_scripts_of_the_page_and_no_others() {
        let page = "<p>x</p><script>alert(1)</script><script type=\"module\">\nlet a;\n</script>";
        assert_eq!(scripts(page).collect::<Vec<_>>(), ["alert(1)", "\nlet a;\n"]);
        // `printf 'alert(1)' | openssl sha256 -binary | base64`
        assert_eq!(hash(b"alert(1)"), "'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='");
        assert_eq!([base64(b"a"), base64(b"ab"), base64(b"abc")], ["YQ==", "YWI=", "YWJj"]);
        let policy = security_policy();
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src "), "{policy}");
        assert!(!policy.contains("script-src 'unsafe-inline'"));
    }
}
