use super::super::connection::testing;
use super::*;
use proptest::prelude::*;
use redis::IntoConnectionInfo;

fn protocol(url: &str) -> Redis {
    Redis::new(url.into_connection_info().unwrap(), 1 << 20)
}

fn decode(pieces: &[&[u8]]) -> Result<Vec<Value>, Failure> {
    testing::decode(&protocol("redis://localhost"), pieces)
}

fn asked(key: &[u8], ask: Ask) -> Asked {
    let request = Request { key: key.into(), ask };
    Asked::new(Some(1), request)
}

const STREAM: &[u8] = b"+OK\r\n+QUEUED\r\n*2\r\n*2\r\n$5\r\nin\r\nx\r\n$-1\r\n:-2\r\n\
    -OOM no memory\r\n$0\r\n\r\n:17\r\n";

proptest! {
    /// The hazard: a reply that arrives in pieces is read as another one.
    #[test]
    fn replies_are_the_same_however_they_are_cut(
        cuts in prop::collection::vec(0..STREAM.len(), 0..9)
    ) {
        let pieces = testing::cut(STREAM, cuts);
        let whole = decode(&[STREAM]).unwrap();
        prop_assert_eq!(whole.len(), 6);
        prop_assert_eq!(decode(&pieces).unwrap(), whole);
    }

    /// The hazard: a server that talks nonsense ends the daemon.
    #[test]
    fn nonsense_ends_in_an_error_at_worst(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&[&bytes]);
    }
}

/// The hazard: a byte that begins no reply is lost between two pieces, and what follows is taken for
/// the reply to an earlier request.
#[test]
fn a_byte_that_begins_no_reply_is_refused_wherever_a_piece_ends() {
    let pieces: [&[&[u8]]; 3] = [&[b"\n+OK\r\n"], &[b"\n", b"+OK\r\n"], &[b"*1\r\nx", b":1\r\n"]];
    for pieces in pieces {
        assert!(decode(pieces).is_err(), "{pieces:?}");
    }
}

#[test]
fn lengths_that_lie_do_not_end_the_daemon() {
    for stream in [
        &b"*9223372036854775807\r\n+OK\r\n"[..],
        b"$9223372036854775807\r\nx",
        b"%9223372036854775807\r\n+OK\r\n",
        b"~9223372036854775807\r\n+OK\r\n",
        b">9223372036854775807\r\n+OK\r\n",
        b"|9223372036854775807\r\n+OK\r\n",
        b"=-5\r\nx",
        b"%-1\r\n",
        b"*1000000000\r\n",
    ] {
        let outcome = std::panic::catch_unwind(|| decode(&[stream]).map(|_| ()));
        assert!(outcome.is_ok(), "{}", String::from_utf8_lossy(stream));
    }
}

/// The hazard: the life of another value than the one that was read (P8).
#[test]
fn a_value_is_only_taken_together_with_its_life() {
    let mut redis = protocol("redis://localhost");
    redis.found_share = 0;
    let mut reads = vec![asked(b"a", Ask::Get), asked(b"b", Ask::Get)];
    let mut out = Vec::new();
    let (covered, mut shape) = redis.encode(&reads[..1], 100, &mut out).unwrap();
    assert_eq!((covered, &out[..]), (1, &b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"[..]));
    let mut answers = Vec::new();
    let found = Value::BulkString(b"v".to_vec());
    assert!(redis.answer(&reads[..1], &mut shape, found, &mut answers).unwrap());
    assert!(matches!(answers.as_slice(), [Answer::AskAgain(Again::WithLife)]));

    reads[0].again = Some(Again::WithLife);
    out.clear();
    let (covered, shape) = redis.encode(&reads, 100, &mut out).unwrap();
    assert_eq!(covered, 2);
    assert!(out.starts_with(b"*1\r\n$5\r\nMULTI\r\n"));
    assert!(matches!(shape, Shape::Transaction { replies_left: 5, .. }));
}

/// The hazard: a key of another type is remembered as absent (P9).
#[test]
fn keys_are_absent_only_if_none_of_them_exists_without_a_value() {
    let mut redis = protocol("redis://localhost");
    redis.found_share = 0;
    let reads = [b"a", b"b", b"c"].map(|key| asked(key, Ask::Get));
    let mut out = Vec::new();
    let mut answers_to = |values: Value, exist: Value| {
        out.clear();
        redis.found_share = 0;
        let (covered, mut shape) = redis.encode(&reads, 100, &mut out).unwrap();
        assert_eq!(covered, 3);
        let mut answers = Vec::new();
        assert!(!redis.answer(&reads, &mut shape, values, &mut answers).unwrap());
        let is_last = redis.answer(&reads, &mut shape, exist, &mut answers)?;
        assert!(is_last && answers.len() == 3);
        Ok::<_, Failure>(answers)
    };
    let some = || Value::Array(vec![Value::Nil, Value::BulkString(b"v".to_vec()), Value::Nil]);
    for (exist, absent) in [(1, true), (2, false), (0, false)] {
        let answers = answers_to(some(), Value::Int(exist)).unwrap();
        assert!(matches!(answers[1], Answer::AskAgain(Again::WithLife)));
        for index in [0, 2] {
            let is_right = match answers[index] {
                Answer::Miss { absent: true } => absent,
                Answer::AskAgain(Again::Alone) => !absent,
                _ => false,
            };
            assert!(is_right, "{exist} exist");
        }
    }
    // One key's trouble is not the answer for the others.
    let error = || {
        let mut parser = Parser::new();
        parser.parse_value(&b"-NOPERM no permission\r\n"[..]).unwrap()
    };
    for (values, exist) in [(error(), Value::Int(0)), (some(), error()), (error(), error())] {
        let answers = answers_to(values, exist).unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Answer::AskAgain(Again::Alone))));
    }
    assert!(answers_to(some(), Value::Okay).is_err());

    let command = String::from_utf8(out).unwrap().replace("\r\n", " ");
    assert_eq!(command, "*4 $4 MGET $1 a $1 b $1 c *4 $6 EXISTS $1 a $1 b $1 c ");
}

#[test]
fn reads_are_bare_while_hardly_any_key_is_found() {
    let mut redis = protocol("redis://localhost");
    let reads = [asked(b"a", Ask::Get)];
    let is_bare = |redis: &mut Redis| {
        matches!(redis.encode(&reads, 100, &mut Vec::new()).unwrap().1, Shape::Get)
    };
    assert!(!is_bare(&mut redis), "nothing is known yet");
    for _ in 0..100 {
        redis.note_read(&Answer::Miss { absent: true });
    }
    assert!(is_bare(&mut redis));
    redis.note_read(&Answer::AskAgain(Again::WithLife));
    assert!(!is_bare(&mut redis), "found: the next ones may be, too");
}

#[test]
fn a_session_is_opened_with_the_credentials_and_the_database_of_the_url() {
    let greeting = |url| {
        let mut out = Vec::new();
        let messages = protocol(url).greet(&mut out);
        (messages, String::from_utf8(out).unwrap().replace("\r\n", " "))
    };
    assert_eq!(
        greeting("redis://localhost"),
        (2, "*2 $6 CLIENT $2 ID *2 $4 INFO $6 server ".into())
    );
    let (messages, commands) = greeting("redis://me:secret@localhost/3");
    assert_eq!(messages, 4);
    assert!(commands.starts_with("*3 $4 AUTH $2 me $6 secret *2 $6 SELECT $1 3 "), "{commands}");
    let (messages, commands) = greeting("redis://:secret@localhost?protocol=resp3");
    assert_eq!(messages, 3);
    assert!(commands.starts_with("*5 $5 HELLO $1 3 $4 AUTH $7 default $6 secret "), "{commands}");
}

/// The hazard: every reader has a value transferred that is too large to be kept.
#[test]
fn a_key_whose_value_was_too_large_is_asked_for_its_size_first() {
    let mut redis = protocol("redis://localhost");
    let mut read = asked(b"k", Ask::Get);
    read.again = Some(Again::Size);
    let reads = [read, asked(b"other", Ask::Get)];
    let mut answer = |bytes| {
        let mut out = Vec::new();
        let (covered, mut shape) = redis.encode(&reads, 100, &mut out).unwrap();
        assert_eq!((covered, &out[..]), (1, &b"*2\r\n$6\r\nSTRLEN\r\n$1\r\nk\r\n"[..]));
        let mut answers = Vec::new();
        assert!(redis.answer(&reads[..1], &mut shape, Value::Int(bytes), &mut answers).unwrap());
        answers.remove(0)
    };
    assert!(matches!(answer((1 << 20) + 1), Answer::TooLarge { bytes: 1_048_577 }));
    assert!(matches!(answer(1 << 20), Answer::AskAgain(Again::WithLife)));
}
