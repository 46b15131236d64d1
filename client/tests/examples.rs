//! The hazard: a public method of the client whose documentation shows no example. Examples are
//! compiled, and run where they need no daemon, as documentation tests.

use std::path::Path;

/// Public methods of a source file whose documentation has no example, with their lines.
fn without_example(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    // Of the item that follows: is it documented, and with an example?
    let (mut is_documented, mut has_example) = (false, false);
    // Text between the parentheses of a doc attribute, as macros write it.
    let mut is_in_attribute = false;
    for (number, line) in source.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("///") || line.starts_with("#[doc") || is_in_attribute {
            is_documented = true;
            has_example |= line.contains("```");
            let begins = line.starts_with("#[doc");
            is_in_attribute = (begins || is_in_attribute) && !line.ends_with(")]");
        } else if !line.starts_with("#[") {
            let is_method = ["pub fn ", "pub const fn ", "pub async fn ", "pub unsafe fn "]
                .iter()
                .any(|begin| line.starts_with(begin));
            if is_method && is_documented && !has_example {
                found.push(format!("line {}: {line}", number + 1));
            }
            (is_documented, has_example) = (false, false);
        }
    }
    found
}

#[test]
fn every_public_method_has_an_example() {
    let mut methods = 0;
    let mut missing = Vec::new();
    // Modules in directories are private, as are their items.
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        methods += source.matches("\n    pub fn ").count();
        let of_file = without_example(&source);
        missing.extend(of_file.into_iter().map(|method| format!("{}: {method}", path.display())));
    }
    assert!(methods > 100, "the scan found {methods} methods only");
    assert!(missing.is_empty(), "without an example:\n{}", missing.join("\n"));
}

#[test]
fn the_scan_finds_what_has_none() {
    let with = "/// It.\n///\n/// ```\n/// it();\n/// ```\n#[must_use]\npub fn it() {}\n";
    let without = "/// It.\n#[must_use]\npub fn it() {}\n";
    assert!(without_example(with).is_empty());
    assert_eq!(without_example(without), ["line 3: pub fn it() {}"]);
    assert_eq!(without_example(&format!("{with}{without}")).len(), 1);
}
