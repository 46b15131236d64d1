//! Errors of the system in words for people, without what means nothing to them.

use nix::errno::Errno;
use std::error::Error;
use std::io;

/// What the system says, without the number that Rust's texts end with: "Permission denied".
#[must_use]
pub fn of(error: &io::Error) -> String {
    without_number(error.to_string())
}

/// An error, and what it was caused by where it does not say so itself.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        next = error.source();
        let words = match error.downcast_ref::<Errno>() {
            Some(errno) => errno.desc().to_owned(),
            None => without_number(error.to_string()),
        };
        if !text.contains(&words) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&words);
        }
    }
    text
}

fn without_number(mut text: String) -> String {
    let number = text.strip_suffix(')').and_then(|text| text.rsplit_once(" (os error "));
    if let Some((words, number)) = number
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        text.truncate(words.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write {0}")]
    struct CannotWrite<E: Error + 'static>(&'static str, #[source] E);

    #[test]
    fn the_system_is_quoted_without_numbers() {
        assert_eq!(of(&Errno::EACCES.into()), "Permission denied");
        assert_eq!(of(&io::Error::other("no address (of 2)")), "no address (of 2)");
    }

    #[test]
    fn a_cause_is_told_once() {
        let denied = || io::Error::from(Errno::EACCES);
        let said = "cannot write /file: Permission denied";
        assert_eq!(chain(&CannotWrite("/file", denied())), said);
        assert_eq!(chain(&CannotWrite("/file", Errno::EACCES)), said);
        assert_eq!(chain(&CannotWrite("/file: Permission denied", denied())), said);
    }
}
