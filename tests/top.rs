//! `l1ctl top` in a real terminal, by tmux: it fits from 80x24 on, follows the keyboard, the
//! terminal's size and the daemon, and leaves the terminal as it was. Without tmux these tests say
//! so and end.

use l1d_client::Client;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};
use test_support::servers::{PATIENCE, until};

const CONFIG: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"1h\"\n\
    [[policy]]\nprefix = \"market:\"\n[[policy]]\nprefix = \"analysis:\"\n";

fn has_tmux() -> bool {
    let has = Command::new("tmux").arg("-V").output().is_ok();
    if !has {
        println!("left out: there is no tmux");
    }
    has
}

/// A terminal, in a tmux server of its own.
struct Terminal {
    directory: tempfile::TempDir,
}

impl Terminal {
    /// A shell in a terminal of this size.
    fn open(width: u16, height: u16) -> Terminal {
        let terminal = Terminal { directory: tempfile::tempdir().unwrap() };
        let (width, height) = (width.to_string(), height.to_string());
        let size = ["-x", width.as_str(), "-y", height.as_str()];
        // Without a terminal of its own, tmux would make the window as large as it likes.
        let shell = ["sh"];
        let output =
            terminal.tmux(&[&["-f", "/dev/null", "new-session", "-d"], &size[..], &shell].concat());
        assert!(output.status.success(), "{output:?}");
        terminal.enter("PS1='shell> '; echo ready-$((40 + 2))");
        terminal.wait("ready-42");
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.directory.path().join("tmux")).args(arguments);
        command.env_remove("TMUX").env_remove("NO_COLOR").stdin(Stdio::null()).output().unwrap()
    }

    /// Types a line.
    fn enter(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.tmux(&["send-keys", "Enter"]);
    }

    /// Presses a key.
    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn lines(&self) -> Vec<String> {
        let output = self.tmux(&["capture-pane", "-p"]);
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// With the sequences for colours.
    fn painted(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p", "-e"]).stdout).into_owned()
    }

    #[track_caller]
    fn wait(&self, text: &str) -> Vec<String> {
        self.wait_until(text, |lines| lines.iter().any(|line| line.contains(text)))
    }

    #[track_caller]
    fn wait_until(&self, what: &str, is_so: impl Fn(&[String]) -> bool) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let lines = self.lines();
            if is_so(&lines) {
                return lines;
            }
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what:?}: {lines:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn top(&self, daemon: &Daemon, before: &str) {
        let program = env!("CARGO_BIN_EXE_l1ctl");
        self.enter("clear; echo above");
        self.wait("above");
        self.enter(&format!(
            "{before} {program} --socket {} top --every 0.2",
            daemon.socket().display()
        ));
        self.wait("q quit");
    }

    /// The shell's screen is back, and the shell is asked for its next line.
    #[track_caller]
    fn assert_intact(&self) {
        let lines = self.wait_until("the shell's screen", |lines| {
            // After other sizes, tmux may put an empty line before it.
            lines.iter().find(|line| !line.is_empty()).is_some_and(|line| line == "above")
                && lines
                    .iter()
                    .rev()
                    .find(|line| !line.is_empty())
                    .is_some_and(|l| l.ends_with("shell>"))
        });
        assert!(!lines.iter().any(|line| line.contains("q quit")), "{lines:#?}");
        // In raw mode this would not be echoed, and the line not be ended.
        self.enter("echo still-$((40 + 2)); stty -a | tr ' ;' '\\n\\n' | grep -x -e '-*icanon' -e '-*echo'");
        self.wait_until("echo and lines", |lines| {
            let has = |text: &str| lines.iter().any(|line| line == text);
            has("still-42") && has("icanon") && has("echo")
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

fn host() -> (Daemon, Client) {
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), CONFIG, "16MiB");
    let client = connect(&daemon);
    for n in 0..50 {
        client.set(format!("market:{n}"), vec![7; 10 + 10 * n]).unwrap();
        client.set(format!("analysis:{n}"), "signals").unwrap();
    }
    for n in 0..200 {
        assert!(client.peek(format!("market:{}", n % 7)).is_some());
    }
    (daemon, client)
}

#[track_caller]
fn assert_fits(lines: &[String], width: usize, height: usize) {
    assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:#?}");
    assert_eq!(lines.len(), height, "{lines:#?}");
    assert!(lines[0].starts_with("l1d "), "{lines:#?}");
    assert!(lines[height - 1].contains("p policies") && lines[height - 1].ends_with("q quit"));
}

#[test]
fn each_list_fits_into_each_size_and_the_shell_comes_back() {
    if !has_tmux() {
        return;
    }
    let (daemon, _client) = host();
    for (width, height) in [(80, 24), (120, 40), (200, 60)] {
        let terminal = Terminal::open(width, height);
        terminal.top(&daemon, "");
        for (key, heading, row) in
            [("p", "prefix  ", "market:  "), ("c", "pid  ", "top"), ("k", "key  ", "market:3  ")]
        {
            terminal.press(key);
            terminal.wait(heading);
            let lines = terminal.wait(row);
            assert_fits(&lines, width.into(), height.into());
            assert!(lines.iter().any(|line| line.starts_with("Hit ratio ")), "{lines:#?}");
        }
        terminal.press("q");
        terminal.assert_intact();
    }
}

#[test]
fn keys_sort_pause_and_quit_and_another_size_is_followed() {
    if !has_tmux() {
        return;
    }
    let (daemon, client) = host();
    let terminal = Terminal::open(80, 24);
    terminal.top(&daemon, "");
    terminal.wait("hitsv");
    terminal.press("Left");
    terminal.wait("prefixv");
    let order = |lines: &[String]| {
        let at = |prefix: &str| lines.iter().position(|line| line.starts_with(prefix));
        at("market:").zip(at("analysis:"))
    };
    terminal.wait_until("the order of names", |lines| order(lines).is_some_and(|(m, a)| a < m));
    terminal.press("r");
    terminal.wait("prefix^");
    terminal.wait_until("the other order", |lines| order(lines).is_some_and(|(m, a)| m < a));
    terminal.press("Tab");
    terminal.wait("program");
    terminal.press("Space");
    terminal.wait("PAUSED");
    let clients = |lines: &[String]| lines.iter().filter(|line| line.contains("top")).count();
    let before = clients(&terminal.lines());
    let other = connect(&daemon);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(clients(&terminal.lines()), before);
    terminal.press("Space");
    terminal.wait_until("another client", |lines| clients(lines) > before);
    drop(other);
    for (width, height) in [(120, 40), (60, 12), (200, 60), (80, 24)] {
        let (x, y) = (width.to_string(), height.to_string());
        terminal.tmux(&["resize-window", "-x", &x, "-y", &y]);
        terminal.wait_until("the new size", |lines| {
            lines.len() == height
                && lines[0].starts_with("l1d ")
                && lines.last().is_some_and(|line| line.contains("p policies"))
        });
    }
    assert_fits(&terminal.lines(), 80, 24);
    client.set("market:0", "another").unwrap();
    terminal.press("C-c");
    terminal.assert_intact();
}

#[test]
fn it_goes_on_while_the_daemon_dies_and_comes_back() {
    if !has_tmux() {
        return;
    }
    let (mut daemon, _client) = host();
    let terminal = Terminal::open(80, 24);
    terminal.top(&daemon, "");
    let lines = terminal.wait("market:");
    let process = lines[0].clone();
    daemon.kill();
    let lines = terminal.wait("NO ANSWER for");
    assert_fits(&lines, 80, 24);
    assert!(lines.iter().any(|line| line.starts_with("market:")), "the last figures stay");
    terminal.press("k");
    terminal.wait("life left");
    daemon.restart();
    let lines = terminal.wait_until("the next daemon", |lines| {
        lines[0].starts_with("l1d ") && lines[0].split(',').nth(1) != process.split(',').nth(1)
    });
    assert!(!lines.iter().any(|line| line.contains("NO ANSWER")), "{lines:#?}");
    terminal.press("Escape");
    terminal.assert_intact();
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    if !has_tmux() {
        return;
    }
    let (daemon, _client) = host();
    for signal in ["TERM", "INT", "HUP"] {
        let terminal = Terminal::open(80, 24);
        terminal.top(&daemon, "");
        terminal.wait("market:");
        let pane = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = String::from_utf8_lossy(&pane.stdout).trim().to_owned();
        let status = Command::new("pkill").args([&format!("-{signal}"), "-P", &shell]).status();
        assert!(status.unwrap().success());
        terminal.assert_intact();
    }
}

/// The hazard: without a terminal, its end is read again and again, at the cost of a core.
#[test]
fn it_ends_with_its_terminal() {
    if !has_tmux() {
        return;
    }
    let (daemon, _client) = host();
    for _ in 0..3 {
        let terminal = Terminal::open(80, 24);
        terminal.top(&daemon, "exec");
        let pane = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let process = format!("/proc/{}/status", String::from_utf8_lossy(&pane.stdout).trim());
        assert!(std::fs::read_to_string(&process).unwrap().contains("l1ctl"));
        drop(terminal);
        until("its end", || {
            let status = std::fs::read_to_string(&process).unwrap_or_default();
            (!status.contains("l1ctl") || status.contains("zombie")).then_some(())
        });
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    if !has_tmux() {
        return;
    }
    let (mut daemon, _client) = host();
    for (before, is_coloured) in [("", true), ("NO_COLOR=1", false)] {
        let terminal = Terminal::open(80, 24);
        terminal.top(&daemon, before);
        terminal.wait("market:");
        daemon.kill();
        terminal.wait("NO ANSWER");
        let painted = terminal.painted();
        let red = ["\x1b[31m", "\x1b[38;5;1m"].iter().any(|red| painted.contains(red));
        assert_eq!(red, is_coloured, "{painted:?}");
        daemon.restart();
        terminal.press("q");
        terminal.assert_intact();
    }
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let (daemon, _client) = host();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_l1ctl"));
        let command = command.arg("--socket").arg(daemon.socket()).args(arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&["top"]).contains("use `l1ctl stats --watch`"));
    assert!(run(&["--json", "top"]).contains("l1ctl --json stats"));
}
