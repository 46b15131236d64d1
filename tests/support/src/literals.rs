//! The texts in a source file, for tests that compare documents or inputs with what programs say.

/// The string literals of a source file, with their lines, as they are when the program runs, but
/// with their placeholders. Comments have none.
#[must_use]
pub fn literals(source: &str) -> Vec<(usize, String)> {
    let (mut found, mut rest, mut line) = (Vec::new(), source, 1);
    while let Some(first) = rest.chars().next() {
        let (length, literal) = match first {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), None),
            '\'' => (character(rest), None),
            '"' => text(rest),
            'r' if rest.starts_with("r#\"") => raw(rest),
            _ => (first.len_utf8(), None),
        };
        found.extend(literal.map(|literal| (line, literal)));
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// Bytes of a character literal, or of the mark of a lifetime.
fn character(rest: &str) -> usize {
    let end = match rest[1..].chars().next() {
        Some('\\') => rest[3..].find('\'').map(|at| at + 4),
        Some(one) => rest[1 + one.len_utf8()..].starts_with('\'').then(|| 2 + one.len_utf8()),
        None => None,
    };
    end.unwrap_or(1)
}

fn text(rest: &str) -> (usize, Option<String>) {
    let (mut value, mut characters) = (String::new(), rest.char_indices().skip(1));
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (at + 1, Some(value)),
            '\\' => match characters.next() {
                Some((at, '\n')) => {
                    let blank = rest[at..].len() - rest[at..].trim_start().len();
                    for _ in 1..blank {
                        characters.next();
                    }
                }
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, other)) => value.push(other),
                None => {}
            },
            other => value.push(other),
        }
    }
    (rest.len(), None)
}

fn raw(rest: &str) -> (usize, Option<String>) {
    let inside = &rest[3..];
    let end = inside.find("\"#").unwrap_or(inside.len());
    ((end + 5).min(rest.len()), Some(inside[..end].to_owned()))
}

/// The fixed parts of a format string, between its placeholders.
#[must_use]
pub fn fixed_parts(format: &str) -> Vec<String> {
    let format = format.replace("{{", "\0").replace("}}", "\u{1}");
    let mut parts = Vec::new();
    for part in format.split('{') {
        let part =
            if parts.is_empty() { part } else { part.split_once('}').map_or("", |(_, p)| p) };
        parts.push(part.replace('\0', "{").replace('\u{1}', "}"));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_found_as_the_program_has_them() {
        let source = r##"// "none"
let a = '"'; f::<'a>("one");
let b = "two \
     lines \"q\"";
g('\'', r#"raw "text""#, "last")"##;
        let found = literals(source);
        let expected = [(2, "one"), (3, "two lines \"q\""), (5, "raw \"text\""), (5, "last")];
        assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
        assert_eq!(fixed_parts("{a:?} is {{no}} {}"), ["", " is {no} ", ""]);
    }
}
