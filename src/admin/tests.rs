//! The pages, on the runtime they live in; the test is the shards and the store.

use std::io::{Read, Write as _};
use std::sync::atomic::AtomicU64;

use super::documents::{Beginning, ShownDocument};
use super::*;
use crate::ids::{Party, RequestNumber, Topic, TopicName};
use crate::limits::{DOCUMENT_BYTES_MAX, DOCUMENT_UPLOAD_BYTES_MAX, QUESTION_WAIT, QUESTIONS_MAX};
use crate::mailbox::{self, Endpoint, Letter, Posted};
use crate::room::stored::{Cursor, StoreAction, StoreAnswer, StoreRequest, Unavailable};
use crate::service::{Runtime, Service};
use crate::shard::peer::{Answer, GameList, PeerMessage, Question, RunningGame};

struct Fixture {
    address: std::net::SocketAddr,
    shards: Vec<Arc<ShardMetrics>>,
    store_metrics: Arc<StoreMetrics>,
    phase: Arc<PhaseCell>,
    now_us: Arc<AtomicU64>,
    endpoints: Vec<Endpoint>,
    /// A party that is there, and says nothing by itself.
    store: Endpoint,
}

/// Serves the pages on the runtime they live in, on a thread that ends with the test process.
fn serve_pages(access: Access) -> Fixture {
    let shards: Vec<Arc<ShardMetrics>> = (0..2).map(|_| Arc::default()).collect();
    let phase = Arc::new(PhaseCell::default());
    let store_metrics: Arc<StoreMetrics> = Arc::default();
    let now_us = Arc::new(AtomicU64::new(1));
    let clock_us = now_us.clone();
    let (endpoints, [mailbox, store]) = mailbox::mesh(2, 16).unwrap();
    let began = tokio::time::Instant::now();
    let clock = move || Instant::from_micros(began.elapsed().as_micros() as u64);
    let (service, handle) = Service::new(mailbox, Arc::new(clock));
    let admin = Admin {
        shards: shards.clone(),
        store: store_metrics.clone(),
        phase: phase.clone(),
        about: About { version: "1.2.3", kernel: "6.18".into(), driver: "epoll", started_at_unix_s: 1.5e9 },
        relay: ([127, 0, 0, 1], 4000).into(),
        relay_tls: Some(([0, 0, 0, 0], 4443).into()),
        is_development: true,
        certificates: Certificates::new(None),
        clock: Arc::new(move || Instant::from_micros(clock_us.load(Ordering::Relaxed))),
        access,
        service: handle,
        exports: Exports::new(Arc::new(|topic| Ok(parts_of(topic)))),
        documents: Documents::new(
            Arc::new(document_of),
            Arc::new(|| Ok(Beginning { epoch: u64::MAX, at_ms: 5 })),
        ),
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = Runtime::IoUring;
        let served = runtime.run(async move {
            tokio::task::spawn_local(async move { service.run(runtime).await.map(|never| match never {}) });
            match serve(TcpListener::from_std(listener).unwrap(), admin).await {}
        });
        served.unwrap()
    });
    Fixture { address, shards, store_metrics, phase, now_us, endpoints, store }
}

/// An export of four parts; of one topic, nothing is kept, and that of another fails in the middle.
fn parts_of(topic: Option<&str>) -> Option<export::Parts> {
    let part = |letter: &str| Ok(format!("{}\n", letter.repeat(4 * 1024 * 1024)));
    let cut = topic == Some("room:cut");
    let parts = ["a", "b", "c", "d"].map(|letter| match letter {
        "c" if cut => Err("no disk".to_owned()),
        letter => part(letter),
    });
    (topic != Some("room:none")).then(|| Box::new(parts.into_iter()) as export::Parts)
}

/// Some are not there, cannot be read, or are on a disk that hangs.
fn document_of(topic: &Topic) -> Result<Option<ShownDocument>, String> {
    match topic.name().as_str() {
        "none" => return Ok(None),
        "torn" => return Err("it makes no text".into()),
        "hangs" => std::thread::sleep(2 * QUESTION_WAIT),
        _ => {}
    }
    Ok(Some(ShownDocument { epoch: u64::MAX, version: 7, length: 3, text: "é\"\n".into() }))
}

impl Fixture {
    fn fetch(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask(&format!("GET {path}"), "Host: localhost");
        (status, body)
    }

    /// Status, head and body.
    fn ask(&self, request: &str, header: &str) -> (u16, String, String) {
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        write!(stream, "{request} HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n").unwrap();
        Self::answer(stream)
    }

    fn put(&self, path: &str, body: &[u8]) -> (u16, String, String) {
        let (mut stream, length) = (std::net::TcpStream::connect(self.address).unwrap(), body.len());
        write!(stream, "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n").unwrap();
        stream.write_all(body).unwrap();
        Self::answer(stream)
    }

    fn answer(mut stream: std::net::TcpStream) -> (u16, String, String) {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.into(), body.into())
    }
}

/// The next question in a shard's mailbox.
fn asked(shard: &mut Endpoint) -> (RequestNumber, Question) {
    let mut count = [0; 8];
    rustix::io::read(shard.eventfd(), &mut count).unwrap();
    match shard.take() {
        Some((Party::Service, Letter::Peer(PeerMessage::Ask { request, question }))) => (request, question),
        other => panic!("{other:?}"),
    }
}

fn answer(shard: &mut Endpoint, answer: PeerMessage) {
    assert!(matches!(shard.post(Party::Service, Letter::Peer(answer)), Posted::Queued));
    if shard.must_ring(Party::Service) {
        shard.wake(Party::Service);
    }
}

#[test]
fn readiness_follows_the_phase() {
    let fixture = serve_pages(Access::Loopback);
    assert_eq!(fixture.fetch("/readyz"), (503, "starting\n".into()));
    fixture.phase.enter(Phase::Ready);
    assert_eq!(fixture.fetch("/readyz"), (200, "ok\n".into()));
    fixture.phase.enter(Phase::Draining);
    assert_eq!(fixture.fetch("/readyz"), (503, "draining\n".into()));
}

#[test]
fn a_store_that_hangs_is_named() {
    let fixture = serve_pages(Access::Loopback);
    fixture.phase.enter(Phase::Ready);
    fixture.store_metrics.begin_work(Instant::from_micros(2_000_000));
    fixture.now_us.store(7_000_000, Ordering::Relaxed);
    assert_eq!(fixture.fetch("/readyz"), (200, "ok\n".into()));
    fixture.now_us.store(7_100_000, Ordering::Relaxed);
    let hangs = "the store hangs: it has worked on one batch for 5.1 s\n";
    assert_eq!(fixture.fetch("/readyz"), (503, hangs.into()));
    fixture.store_metrics.end_work();
    assert_eq!(fixture.fetch("/readyz"), (200, "ok\n".into()));
}

#[test]
fn a_loop_that_stands_still_is_named() {
    let fixture = serve_pages(Access::Loopback);
    fixture.phase.enter(Phase::Ready);
    fixture.now_us.store(6_000_000, Ordering::Relaxed);
    fixture.shards[0].loop_turned_at_us.set(1_000_000);
    fixture.shards[1].loop_turned_at_us.set(900_000);
    assert_eq!(fixture.fetch("/livez"), (503, "shard 1: its loop last turned 5.1 s ago\n".into()));
    fixture.shards[1].loop_turned_at_us.set(5_900_000);
    assert_eq!(fixture.fetch("/livez"), (200, "ok\n".into()));
    fixture.shards[0].loop_turned_at_us.set(0);
    fixture.phase.enter(Phase::Draining);
    assert_eq!(fixture.fetch("/livez"), (200, "draining\n".into()));
}

#[test]
fn a_process_that_stood_still_is_alive() {
    let fixture = serve_pages(Access::Loopback);
    fixture.phase.enter(Phase::Ready);
    fixture.now_us.store(60_000_000, Ordering::Relaxed);
    let shards = fixture.shards.clone();
    let loops = std::thread::spawn(move || {
        std::thread::sleep(SECOND_LOOK_AFTER / 10);
        shards.iter().for_each(|shard| shard.loop_turned_at_us.set(60_000_000));
    });
    assert_eq!(fixture.fetch("/livez"), (200, "ok\n".into()));
    loops.join().unwrap();
}

#[test]
fn the_pages_say_what_runs() {
    let fixture = serve_pages(Access::Loopback);
    let (status, body) = fixture.fetch("/version");
    let version: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, version),
        (200, serde_json::json!({"version": "1.2.3", "kernel": "6.18", "driver": "epoll", "shards": 2}))
    );
    let (status, body) = fixture.fetch("/help");
    assert!(status == 200 && body.contains("/users/{id}/disconnect"), "{body}");
    let (status, body) = fixture.fetch("/playground.json");
    let relay: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({
        "relay": "127.0.0.1:4000", "relay_tls": "0.0.0.0:4443", "tls_names": [], "development": true, "version": "1.2.3"
    });
    assert_eq!((status, relay), (200, expected));
    let (status, body) = fixture.fetch("/");
    assert!(status == 200 && body.contains("/metrics"), "{body}");
    let (status, body) = fixture.fetch("/nowhere?a=b");
    assert!(status == 404 && body.starts_with("there is no page /nowhere\n"), "{body}");
    assert!(body.contains("GET  /metrics") && body.contains("POST /users/{id}/disconnect"), "{body}");
    let (status, body) = fixture.fetch("/play/arena");
    assert!(status == 404 && body.contains("another port: 127.0.0.1:4000, by TLS 0.0.0.0:4443"), "{body}");
    fixture.shards[1].frames_in.add(7);
    let (status, body) = fixture.fetch("/metrics");
    assert_eq!(status, 200);
    assert!(body.contains("corelay_frames_in_total{shard=\"1\"} 7\n"), "{body}");
    for (accept, content_type) in [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0,*/*;q=0.1", metrics::CONTENT_TYPE),
    ] {
        let (_, head, _) = fixture.ask("GET /metrics", &format!("Host: localhost\r\nAccept: {accept}"));
        assert!(head.contains(&format!("content-type: {content_type}\r\n")), "{head}");
    }
}

#[test]
fn a_kick_is_answered_by_every_shard() {
    let mut fixture = serve_pages(Access::Loopback);
    let mut endpoints = std::mem::take(&mut fixture.endpoints);
    let shards = std::thread::spawn(move || {
        for (endpoint, disconnected) in endpoints.iter_mut().zip(1..) {
            let (request, question) = asked(endpoint);
            assert!(matches!(question, Question::Kick { user } if &*user == "ann/1 ü"));
            answer(endpoint, PeerMessage::Answer { request, answer: Answer::Kicked { disconnected } });
        }
    });
    let (status, head, body) = fixture.ask("POST /users/ann%2F1%20%C3%BC/disconnect", "Host: localhost");
    assert_eq!((status, body.as_str()), (200, "{\"disconnected\":3,\"user\":\"ann/1 ü\"}\n"), "{head}");
    shards.join().unwrap();
    let (status, _, body) = fixture.ask("POST /users/ann/disconnect", "Host: localhost");
    assert_eq!((status, body.as_str()), (200, "{\"disconnected\":0,\"user\":\"ann\"}\n"), "they have ended");
    for wrong in ["POST /users/%ff/disconnect", &format!("POST /users/{}/disconnect", "x".repeat(129))] {
        assert_eq!(fixture.ask(wrong, "Host: localhost").0, 400, "{wrong}");
    }
    let (status, head, body) = fixture.ask("GET /users/ann/disconnect", "Host: localhost");
    assert!(status == 405 && head.contains("allow: POST"), "{head}");
    assert!(body.starts_with("/users/ann/disconnect does not take GET\n"), "{body}");
}

#[test]
fn the_games_of_every_shard_are_listed() {
    let mut fixture = serve_pages(Access::Loopback);
    let mut endpoints = std::mem::take(&mut fixture.endpoints);
    let shards = std::thread::spawn(move || {
        for (endpoint, (name, players)) in endpoints.iter_mut().zip([("arena", 2), ("cave", 12)]) {
            let (request, question) = asked(endpoint);
            assert!(matches!(question, Question::Games));
            let games = vec![RunningGame { name: TopicName::parse(name).unwrap(), players }];
            let list = Box::new(GameList { games, is_cut: false });
            answer(endpoint, PeerMessage::Answer { request, answer: Answer::Games(list) });
        }
    });
    let (status, head, body) = fixture.ask("GET /games.json", "Host: localhost");
    shards.join().unwrap();
    let expected = r#"{"cut":false,"games":[{"name":"cave","players":12},{"name":"arena","players":2}]}"#;
    assert_eq!((status, body.trim_end()), (200, expected));
    assert!(head.contains("cache-control: no-store") && head.contains("application/json"), "{head}");
}

#[test]
fn an_export_is_sent_as_fast_as_it_is_taken_one_at_a_time() {
    let fixture = serve_pages(Access::Loopback);
    let mut slow = std::net::TcpStream::connect(fixture.address).unwrap();
    write!(slow, "GET /export?topic=room%3Aa HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 15];
    slow.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let (status, second) = fixture.fetch("/export");
    assert!(status == 503 && second.contains("another export is being read"), "{second}");
    assert_eq!(fixture.fetch("/version").0, 200, "whoever reads slowly holds up no other page");
    let mut rest = String::new();
    slow.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("\r\n0\r\n\r\n") && rest.contains("ddd\n"), "{}", rest.len());
    let (_, head, body) = fixture.ask("GET /export", "Host: localhost");
    assert!(head.contains("content-type: application/x-ndjson\r\n"), "{head}");
    assert!(body.len() > 16 * 1024 * 1024);
}

#[test]
fn an_export_that_fails_is_not_taken_for_a_whole_one() {
    let fixture = serve_pages(Access::Loopback);
    let (_, _, body) = fixture.ask("GET /export?topic=room:cut", "Host: localhost");
    assert!(!body.ends_with("0\r\n\r\n"), "it has no end");
    let none = (404, "nothing is kept about room:none\n".to_owned());
    assert_eq!(fixture.fetch("/export?topic=room:none"), none);
    for wrong in ["/export?topic=lobby", "/export?room=lobby", "/export?topic=%zz", "/export?topic="] {
        assert_eq!(fixture.fetch(wrong).0, 400, "{wrong}");
    }
}

#[test]
fn a_shard_that_does_not_answer_is_not_waited_for_long() {
    let fixture = serve_pages(Access::Loopback);
    let (status, _, body) = fixture.ask("POST /users/ann/disconnect", "Host: localhost");
    assert_eq!(status, 202);
    assert!(body.contains("2 of 2 shards have not answered"), "{body}");
}

#[test]
fn who_asks_when_too_many_questions_wait_is_told_when_to_come_back() {
    let fixture = serve_pages(Access::Loopback);
    let ask = |_| {
        let mut stream = std::net::TcpStream::connect(fixture.address).unwrap();
        write!(stream, "POST /users/ann/disconnect HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream
    };
    let answer = |mut stream: std::net::TcpStream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answers: Vec<String> =
        (0..QUESTIONS_MAX + 1).map(ask).collect::<Vec<_>>().into_iter().map(answer).collect();
    let refused: Vec<&String> = answers.iter().filter(|answer| !answer.contains(" 202 ")).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(
        refused[0].starts_with("HTTP/1.1 503 ") && refused[0].contains("retry-after: 5\r\n"),
        "{refused:?}"
    );
    assert!(refused[0].ends_with("wait already; try again\n"), "{refused:?}");
}

#[test]
fn nothing_but_health_is_open_behind_a_token() {
    let fixture = serve_pages(Access::new(Some(b"0123456789abcdef")));
    fixture.phase.enter(Phase::Ready);
    assert_eq!(fixture.fetch("/readyz").0, 200);
    for request in [
        "GET /metrics",
        "GET /help",
        "GET /games.json",
        "GET /export",
        "GET /docs/a",
        "PUT /docs/a",
        "GET /nowhere",
        "POST /users/ann/disconnect",
    ] {
        let (status, head, _) = fixture.ask(request, "Host: relay");
        assert!(status == 401 && head.contains("www-authenticate: Bearer realm="), "{request}: {head}");
    }
    let shown = "Host: relay\r\nAuthorization: Bearer 0123456789abcdef";
    assert_eq!(fixture.ask("GET /metrics", shown).0, 200);
    assert_eq!(fixture.ask("GET /nowhere", shown).0, 404);
}

#[test]
fn a_document_is_shown_as_it_is_kept() {
    let fixture = serve_pages(Access::Loopback);
    let (status, head, body) = fixture.ask("GET /docs/a", "Host: localhost");
    let expected = "{\"id\":\"a\",\"epoch\":\"18446744073709551615\",\"version\":7,\"length\":3,\"text\":\"é\\\"\\n\"}\n";
    assert_eq!((status, &*body), (200, expected));
    assert!(head.contains("application/json") && head.contains("no-store"), "{head}");
    let (status, head, body) = fixture.ask("HEAD /docs/a", "Host: localhost");
    assert!(status == 200 && body.is_empty(), "{head}");
    let none = (404, "there is no document none; PUT /docs/none makes one\n".to_owned());
    assert_eq!(fixture.fetch("/docs/none"), none);
    assert_eq!(fixture.fetch("/docs/torn"), (503, "the store cannot be read: it makes no text\n".into()));
    let long = "x".repeat(65);
    for wrong in ["a%2Fb", "a%20b", "%C3%BC", &long] {
        let (status, body) = fixture.fetch(&format!("/docs/{wrong}"));
        assert!(status == 400 && body.contains("1 to 64 of A-Z a-z 0-9 _ - ."), "{wrong}: {body}");
    }
    let (status, head, body) = fixture.ask("DELETE /docs/a", "Host: localhost");
    assert!(status == 405 && head.contains("allow: GET,HEAD,PUT"), "{head}");
    assert!(body.starts_with("/docs/a does not take DELETE\n"), "{body}");
    assert_eq!(fixture.fetch("/docs/").0, 404);
}

#[test]
fn a_disk_that_hangs_holds_up_no_other_page() {
    let fixture = serve_pages(Access::Loopback);
    let hanging: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(fixture.address).unwrap();
            write!(stream, "GET /docs/hangs HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    assert_eq!(fixture.fetch("/version").0, 200);
    for stream in hanging {
        let (status, head, body) = Fixture::answer(stream);
        assert!(status == 503 && head.contains("retry-after: 5"), "{head}");
        assert!(body.contains("has not answered in time"), "{body}");
    }
}

#[test]
fn what_cannot_be_a_document_is_refused() {
    let fixture = serve_pages(Access::Loopback);
    let long = vec![b'x'; DOCUMENT_BYTES_MAX + 1];
    let longer = vec![b'x'; DOCUMENT_UPLOAD_BYTES_MAX / 2];
    for (path, body, status, words) in [
        ("/docs/a", &long[..], 413, "a document has at most 262144 bytes of UTF-8"),
        ("/docs/a", &longer, 413, "262144"),
        ("/docs/a", b"ab\xFFc", 400, "from its byte 2 on it is not"),
        ("/docs/a%20b", b"", 400, "no name of a document"),
    ] {
        let answer = fixture.put(path, body);
        assert!(answer.0 == status && answer.2.contains(words), "{answer:?}");
    }
    let stranger = "Host: localhost\r\nOrigin: http://evil.example\r\nContent-Length: 0";
    assert_eq!(fixture.ask("PUT /docs/a", stranger).0, 403);
}

#[test]
fn a_document_is_made_by_the_store_and_the_shards_are_told() {
    let mut fixture = serve_pages(Access::Loopback);
    let mut shards = std::mem::take(&mut fixture.endpoints);
    let (_, [_, spare]) = mailbox::mesh(1, 1).unwrap();
    let mut store = std::mem::replace(&mut fixture.store, spare);
    let others = std::thread::spawn(move || {
        for said in [
            StoreAnswer::Appended(Cursor(5)),
            StoreAnswer::Conflict,
            StoreAnswer::Refused(Unavailable::Full),
            StoreAnswer::Refused(Unavailable::Busy),
        ] {
            let (request, Question::Store(asked_for)) = asked(&mut store) else { panic!("of the store") };
            let StoreRequest { topic, action: StoreAction::Append { epoch, expected, change }, .. } =
                *asked_for
            else {
                panic!("an append")
            };
            assert_eq!((&*topic.to_string(), epoch, expected), ("doc:a", u64::MAX, Cursor(0)));
            assert_eq!((change.records.len(), change.records[0].at_ms), (5, 5));
            let is_made = matches!(said, StoreAnswer::Appended(_));
            let said = Answer::Store(Box::new(said));
            answer(&mut store, PeerMessage::Answer { request, answer: said });
            for shard in shards.iter_mut().filter(|_| is_made) {
                let (request, Question::LookAgain { topic }) = asked(shard) else { panic!("another") };
                assert_eq!(topic.to_string(), "doc:a");
                answer(shard, PeerMessage::Answer { request, answer: Answer::Looked });
            }
        }
        (shards, store)
    });
    let text = "🦀".repeat(DOCUMENT_BYTES_MAX / 4);
    let put = || fixture.put("/docs/a", text.as_bytes());
    let (status, _, body) = put();
    let made = "{\"id\":\"a\",\"epoch\":\"18446744073709551615\",\"version\":5,\"length\":65536}\n";
    assert_eq!((status, &*body), (201, made));
    let (status, _, body) = put();
    assert!(status == 409 && body.contains("a document a already"), "{body}");
    for (words, retry_after) in
        [("the disk is full", "retry-after: 5"), ("takes nothing now", "retry-after: 1")]
    {
        let (status, head, body) = put();
        assert!(status == 503 && head.contains(retry_after), "{head}");
        assert!(body.contains(words) && body.contains("nothing was made"), "{body}");
    }
    let _parties = others.join().unwrap();
    let (status, _, body) = put();
    assert!(status == 202 && body.contains("may be made yet"), "{body}");
}

mod sign_in;
