//! Floor 2: from received bytes to a record or a Phoenix message.
#![allow(missing_docs, reason = "criterion's macros write public items")]

use std::hint::black_box;

use corelay::limits::MESSAGE_BYTES_MAX;
use corelay::wire::frame::{Decoder, Incoming, MessageLimits, Opcode, write_header};
use corelay::wire::layout::Layout;
use corelay::wire::native::{self, Move, kind};
use corelay::wire::phoenix::Serializer;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use zerocopy::IntoBytes;

const LIMITS: MessageLimits = MessageLimits { bytes_max: MESSAGE_BYTES_MAX, fragments_max: 1 };

fn a_move() -> Move {
    Move { kind: kind::MOVE, flags: 0, input_seq: 7.into(), x: 1.5.into(), y: (-2.0).into() }
}

/// A masked binary frame, as a client sends it.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut bytes = Vec::new();
    write_header(&mut bytes, Opcode::Binary, payload.len());
    bytes[1] |= 0x80;
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// Header and unmasking. Every second time the payload is masked again, which costs the same.
fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for (name, payload) in [
        ("move_12_bytes", a_move().as_bytes().to_vec()),
        ("1_kib", vec![7; 1024]),
        ("64_kib", vec![7; MESSAGE_BYTES_MAX]),
    ] {
        let mut bytes = frame(&payload);
        let mut decoder = Decoder::default();
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut input = black_box(&mut bytes[..]);
                let message = decoder.decode(&mut input, &LIMITS);
                assert!(matches!(black_box(message), Ok(Some(Incoming::Binary(_)))));
            });
        });
    }
}

fn records(criterion: &mut Criterion) {
    let record = a_move();
    criterion.bench_function("decode_move", |bencher| {
        bencher.iter(|| native::decode(black_box(record.as_bytes()), &Layout::PLAIN).is_ok());
    });
}

/// Head and payload of a chat message are checked; the payload is not parsed.
fn phoenix(criterion: &mut Criterion) {
    let push = r#"["3","1742","room:lobby","new_message",{"body":"on my way, wait for me","client_id":"b1946ac92492"}]"#;
    let mut group = criterion.benchmark_group("phoenix");
    group.throughput(Throughput::Bytes(push.len() as u64));
    group.bench_function("scan_a_100_byte_push", |bencher| {
        bencher.iter(|| Serializer::V2.decode_text(black_box(push)).is_ok());
    });
}

criterion_group!(benches, frames, records, phoenix);
criterion_main!(benches);
