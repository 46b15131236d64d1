//! The daemon.

fn main() -> std::process::ExitCode {
    l1d::cli::run()
}
