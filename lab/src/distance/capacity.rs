//! Measures how much the proxy can carry: many connections that ask again as soon as they have
//! their answers.

use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Threads, so that the proxy has work while one of them waits.
const THREADS: usize = 2;
/// Connections of each thread.
const CONNECTIONS: usize = 64;
/// Length of the measurement, after one unmeasured round.
const TIME: Duration = Duration::from_millis(250);
/// memcached's shortest command and its reply.
const ASK: &[u8; 4] = b"mn\r\n";
const REPLY: &[u8; 4] = b"MN\r\n";

/// Messages per second, in both directions together, that the proxy carries to the memcached at
/// `address`.
///
/// # Errors
/// The proxy or memcached does not answer as expected.
pub fn measure(address: &str) -> Result<f64> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| load(address))).collect();
        let all = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread has panicked")))
        });
        all.sum()
    })
}

fn load(address: &str) -> Result<f64> {
    let connect = |_| -> Result<TcpStream> {
        let stream = TcpStream::connect(address).context("cannot connect to the proxy")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream)
    };
    let mut streams = (0..CONNECTIONS).map(connect).collect::<Result<Vec<_>>>()?;
    round(&mut streams)?;
    let (begun, mut rounds) = (Instant::now(), 0);
    while begun.elapsed() < TIME {
        round(&mut streams)?;
        rounds += 1;
    }
    let messages = 2 * CONNECTIONS * rounds;
    Ok(messages as f64 / begun.elapsed().as_secs_f64())
}

fn round(streams: &mut [TcpStream]) -> Result<()> {
    for stream in &mut *streams {
        stream.write_all(ASK)?;
    }
    for stream in streams {
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).context("no reply through the proxy")?;
        ensure!(&reply == REPLY, "memcached answers {reply:?}");
    }
    Ok(())
}
