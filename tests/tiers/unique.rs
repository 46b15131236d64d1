//! Hazard: memcached tells an old value with the number of the one that counting has made of it, and
//! a change on condition of that number goes through although the value has changed. A real server
//! does so only now and then; this one does it once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use l1d::tiers::{Job, Operate, Operated, Operation, Written};

use crate::bench::{Bench, LONG};
use test_support::servers::PATIENCE;

/// The value and its number, for each get.
const GETS: [(&str, u64); 3] = [("489", 2), ("490", 2), ("490", 2)];

/// Answers the gets in turn, and passes each store's line on.
fn serve(stream: &TcpStream, stores: &Sender<String>) -> std::io::Result<()> {
    let mut gets = GETS.iter();
    let mut lines = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let opaque = line.split_whitespace().find(|word| word.starts_with('O')).unwrap_or_default();
        let answer = match line.split_whitespace().next() {
            None => return Ok(()),
            Some("mn") => "MN\r\n".to_owned(),
            Some("mg") => {
                let (value, unique) = gets.next().expect("no further get");
                format!("VA {} t-1 f0 c{unique} {opaque}\r\n{value}\r\n", value.len())
            }
            Some(_) => {
                let bytes: usize = line.split_whitespace().nth(2).unwrap().parse().unwrap();
                lines.read_exact(&mut vec![0; bytes + 2])?;
                stores.send(line.trim_end().to_owned()).unwrap();
                format!("HD {opaque}\r\n")
            }
        };
        (&*stream).write_all(answer.as_bytes())?;
    }
}

#[test]
fn a_value_older_than_its_number_is_not_built_upon() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, stores) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let _ = serve(&stream, &sender);
        }
    });
    let bench = Bench::new(Some((address, LONG)), None);
    let operation = Operation::Append { bytes: b"x"[..].into() };
    let operate =
        Arc::new(Operate { operation, ttl: None, value_bytes_max: 100, is_framed: false });
    let job = Job::Operate { id: 1, key: b"key"[..].into(), operate, in_l2: true };
    bench.tiers.submit(job).unwrap();
    match bench.written() {
        Written::Operated { operated: Operated::Done { value: Some(value), .. }, .. } => {
            assert_eq!(&*value, b"490x");
        }
        other => panic!("{other:?}"),
    }
    let store = stores.recv_timeout(PATIENCE).unwrap();
    assert!(store.starts_with("ms key 1 MA C2 "), "{store}");
}
