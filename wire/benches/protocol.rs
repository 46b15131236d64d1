//! Requests and replies to bytes and back. `./dev bench`.

use criterion::{Criterion, criterion_group, criterion_main};
use l1d_wire::protocol::{Request, Response, Set, frame};
use std::hint::black_box;
use std::time::Duration;

fn payload(bytes: &[u8]) -> Vec<u8> {
    let range = frame::split(bytes, usize::MAX).ok().flatten().expect("a whole frame");
    bytes[range].to_vec()
}

fn encode(criterion: &mut Criterion) {
    let set = Request::Set(Set {
        key: b"market:overview:00000001",
        value: &[7; 64],
        ttl: None,
        flags: 0,
        write: None,
        reply: true,
    });
    let found =
        Response::Found { value: &[7; 64], flags: 0, version: 1, ttl: Duration::from_secs(1) };
    let mut bytes = Vec::with_capacity(1024);
    criterion.bench_function("encode a set of 64 bytes", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            black_box(&set).encode(&mut bytes)
        });
    });
    // Encoded anew, as a filter may have left that benchmark out.
    bytes.clear();
    set.encode(&mut bytes).expect("a small request");
    let request = payload(&bytes);
    criterion.bench_function("decode it", |bencher| {
        bencher.iter(|| Request::decode(black_box(&request)).is_ok());
    });
    criterion.bench_function("encode a value of 64 bytes", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            black_box(&found).encode(&mut bytes)
        });
    });
    bytes.clear();
    found.encode(&mut bytes).expect("a small response");
    let response = payload(&bytes);
    criterion.bench_function("decode that", |bencher| {
        bencher.iter(|| Response::decode(black_box(&response)).is_ok());
    });
}

criterion_group! {
    name = protocol;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = encode
}
criterion_main!(protocol);
