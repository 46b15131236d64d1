//! Completions for shells, which both command lines print of themselves.

use super::print;
use clap::{Args, Command};
use clap_complete::{Shell, generate};

/// Print the completions of a command line.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    /// Prints the script that makes the shell complete `command`, the program `name`.
    pub(crate) fn print(&self, name: &'static str, command: &Command) -> std::io::Result<()> {
        let mut command = shown(name, command);
        // In memory first: `generate` panics if its destination fails, as a closed pipe does.
        let mut script = Vec::new();
        generate(self.shell, &mut command, name, &mut script);
        print(script)
    }
}

/// The command without the subcommands that its help hides: the scripts would offer them.
fn shown(name: &'static str, command: &Command) -> Command {
    let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments())
        .subcommands(subcommands)
}
