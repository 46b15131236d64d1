//! Real scrapers: Prometheus and promtool, from Debian's package.

use super::http::{get, get_with, send};
use super::start;
use serde_json::Value;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use test_support::servers::{Server, until};

/// Whether the package's programs are there.
fn has_prometheus() -> bool {
    let found = ["prometheus", "promtool"].map(|program| {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    });
    if found != [true; 2] {
        eprintln!("SKIPPED: no prometheus and promtool here: apt-get install prometheus");
    }
    found == [true; 2]
}

/// Runs promtool with this input; its words.
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("promtool");
    command
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/prometheus"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}\n{input}");
    said
}

struct Prometheus {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes the target four times a second.
    fn start(target: SocketAddr) -> Prometheus {
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let file = directory.path().join("prometheus.yml");
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/prometheus/alerts.yml");
        let config = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}}\n\
             rule_files: [{rules:?}]\n\
             scrape_configs:\n- job_name: l1d\n  static_configs:\n  - targets: [\"{target}\"]\n"
        );
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Prometheus { child, address, _directory: directory }
    }

    /// Its answer, once it serves.
    fn get(&self, path: &str) -> Option<Value> {
        let stream = TcpStream::connect(self.address).ok()?;
        // An answer in one piece.
        let answer = send(stream, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// The value of an expression, if it has one yet.
    fn query(&self, expression: &str) -> Option<f64> {
        let expression: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={expression}"))?;
        answer.pointer("/data/result/0/value/1")?.as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_reads_what_the_daemon_counts() {
    if !has_prometheus() {
        return;
    }
    let (memcached, redis) = (Server::memcached(), Server::redis());
    let (daemon, address) = start(&format!(
        "[l2]\naddress = \"{}\"\ndeadline = \"20s\"\n[l3]\nurl = \"redis://{}\"\n\
         deadline = \"20s\"\n[[policy]]\nprefix = \"a:\"\n",
        memcached.address(),
        redis.address()
    ));
    let client = test_support::daemon::connect(&daemon);
    let prometheus = Prometheus::start(address);
    for n in 0..7 {
        client.set(format!("a:{n}"), "value").unwrap();
        assert_eq!(client.get(format!("a:absent {n}")).unwrap(), None);
    }
    for (expression, value) in [
        ("up{job=\"l1d\"}", 1.0),
        ("l1d_sets_total", 7.0),
        ("l1d_misses_total", 7.0),
        ("l1d_policy_misses_total{policy=\"a:\"}", 7.0),
        ("l1d_policy_ttl_seconds{policy=\"a:\"}", 30.0),
        ("count(l1d_tier_up == 1)", 2.0),
        ("sum(l1d_program_writes_total)", 7.0),
        ("l1d_table_bytes", f64::from(16 << 20)),
    ] {
        until(expression, || prometheus.query(expression).filter(|told| *told == value));
    }
    // The shipped rules can be evaluated there, and say nothing.
    until("rules", || {
        let rules = prometheus.get("/api/v1/rules")?;
        let rules = rules.pointer("/data/groups/0/rules")?.as_array()?.clone();
        rules.iter().all(|rule| rule["health"] == "ok").then_some(())
    });
    assert_eq!(prometheus.query("count(ALERTS{alertstate=\"firing\"})"), None);
}

#[test]
fn promtool_accepts_metrics_and_rules() {
    if !has_prometheus() {
        return;
    }
    let redis = Server::redis();
    let (daemon, address) = start(&format!(
        "[l3]\nurl = \"redis://{}\"\n[[policy]]\nprefix = \"a\\\"\\\\:\"\n\
         [[policy]]\nprefix = \"b\\n:\"\n[[policy]]\nprefix_hex = \"ff\"\n[[policy]]\nprefix_hex = \"fe\"\n",
        redis.address()
    ));
    let client = test_support::daemon::connect(&daemon);
    client.set("a\"\\:", "value").unwrap();
    let metrics = get(address, "/metrics");
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    promtool(&["check", "metrics"], &metrics.body);
    promtool(&["check", "rules", "alerts.yml"], "");
    promtool(&["test", "rules", "alerts_test.yml"], "");

    let open = get_with(address, "/metrics", "Accept: application/openmetrics-text\r\n");
    assert!(open.head.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(open.body.ends_with("\n# EOF\n"), "{}", open.body);
    assert!(open.body.contains("# TYPE l1d_sets counter\nl1d_sets_total 1\n"), "{}", open.body);
    assert!(!metrics.body.contains("pid=") && !open.body.contains("pid="));
}

/// The hazard: a dashboard or an alert that shows nothing, because a metric has another name.
#[test]
fn dashboard_and_rules_only_ask_for_metrics_that_there_are() {
    let (memcached, redis) = (Server::memcached(), Server::redis());
    let (_daemon, address) = start(&format!(
        "[l2]\naddress = \"{}\"\n[l3]\nurl = \"redis://{}\"\n",
        memcached.address(),
        redis.address()
    ));
    let metrics = get(address, "/metrics").body;
    let helps = metrics.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
    let there: Vec<&str> = helps.collect();
    let dashboard = include_str!("../../ops/grafana/l1d.json");
    assert!(serde_json::from_str::<Value>(dashboard).is_ok());
    for text in [dashboard, include_str!("../../ops/prometheus/alerts.yml")] {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: Vec<&str> = words.filter(|word| word.starts_with("l1d_")).collect();
        assert!(asked.len() > 8);
        for name in asked {
            assert!(there.contains(&name), "{name} is not in {there:?}");
        }
    }
}

/// The hazard: one scraper takes figures away from another, or a reload makes counters fall.
#[test]
fn counters_only_rise_whoever_reads_them() {
    let (daemon, address) = start("[[policy]]\nprefix = \"a:\"\n");
    let client = test_support::daemon::connect(&daemon);
    let counters = || -> Vec<(String, f64)> {
        let body = get(address, "/metrics").body;
        let lines = body.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.filter_map(|line| line.rsplit_once(' '));
        let counters = samples.filter(|(name, _)| name.contains("_total"));
        counters.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
    };
    let mut last = counters();
    for round in 0..10 {
        client.set(format!("a:{round}"), "value").unwrap();
        for _ in 0..20_000 {
            client.peek("a:0").unwrap();
        }
        if round == 5 {
            let config =
                std::fs::read_to_string(daemon.socket().with_file_name("l1d.toml")).unwrap();
            daemon.configure(&format!("{config}[[policy]]\nprefix = \"b:\"\n"));
            client.admin().reload_policy().unwrap();
        }
        std::thread::sleep(Duration::from_millis(300));
        let [now, again] = std::thread::scope(|scope| {
            [(); 2].map(|()| scope.spawn(counters)).map(|scraper| scraper.join().unwrap())
        });
        for (name, value) in &last {
            for told in [&now, &again] {
                let (_, now) = told.iter().find(|(found, _)| found == name).unwrap();
                assert!(now >= value, "{name} fell from {value} to {now}");
            }
        }
        last = now;
    }
    let (_, hits) = last.iter().find(|(name, _)| name == "l1d_hits_total").unwrap();
    assert!(*hits > 100_000.0, "{hits}");
}
