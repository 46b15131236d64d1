//! Reading a command line, and telling what is wrong with it.

use super::{USAGE, print_error};
use clap::Parser;
use clap::error::{Error, ErrorKind};
use std::error::Error as _;
use std::num::{ParseFloatError, ParseIntError};

/// The process's arguments. Ends the process where there are none to go on with: with help that was
/// asked for, or with what is wrong.
#[must_use]
pub fn arguments<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| match reworded(&error) {
        Some(text) => {
            print_error(text.trim_end());
            std::process::exit(USAGE.into())
        }
        None => error.exit(),
    })
}

/// The message of `error`, if the library's own would quote Rust at people.
fn reworded(error: &Error) -> Option<String> {
    let source = error.source().filter(|_| error.kind() == ErrorKind::ValueValidation)?;
    let said = source.to_string();
    let range = said.split_once(" is not in ").and_then(|(_, range)| range.split_once("..="));
    let instead = match range {
        Some((least, most)) => format!("not from {least} to {most}"),
        None if source.is::<ParseIntError>() => "not a whole number that fits here".to_owned(),
        None if source.is::<ParseFloatError>() => "not a number".to_owned(),
        None => return None,
    };
    Some(error.to_string().replace(&said, &instead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, Command};

    /// What is said if the option of this subcommand is given nonsense.
    fn said(program: &Command, path: &[&str], arg: &Arg, value: &str) -> Option<String> {
        let mut words = vec![program.get_name().to_owned()];
        words.extend(path.iter().map(|name| (*name).to_owned()));
        match arg.get_long() {
            Some(long) => words.push(format!("--{long}={value}")),
            // Values for those before it.
            None => words.extend(vec![value.to_owned(); arg.get_index().unwrap_or(1)]),
        }
        let error = program.clone().try_get_matches_from(words).err()?;
        let is_about_it = error.kind() == ErrorKind::ValueValidation;
        is_about_it.then(|| reworded(&error).unwrap_or_else(|| error.to_string()))
    }

    fn check(program: &Command, command: &Command, path: &mut Vec<String>, checked: &mut usize) {
        for arg in command.get_arguments() {
            for value in ["?", "-1", "99999999999999999999"] {
                let names: Vec<&str> = path.iter().map(String::as_str).collect();
                let Some(said) = said(program, &names, arg, value) else { continue };
                *checked += 1;
                let line = said.lines().next().unwrap_or_default();
                assert!(line.contains("': not "), "{line}");
                for below in ["digit", "..", "at 0", "integer", "u32", "f64"] {
                    assert!(!line.contains(below), "{line}");
                }
            }
        }
        for subcommand in command.get_subcommands() {
            path.push(subcommand.get_name().to_owned());
            check(program, subcommand, path, checked);
            path.pop();
        }
    }

    #[test]
    fn a_value_that_an_option_does_not_take_is_refused_in_words() {
        let mut checked = 0;
        for mut program in [crate::cli::command(), crate::ctl::command()] {
            program.build();
            check(&program.clone(), &program, &mut Vec::new(), &mut checked);
        }
        assert!(checked > 30, "{checked} refusals");
    }
}
