//! The tool that asks a running daemon.

fn main() -> std::process::ExitCode {
    l1d::ctl::run()
}
