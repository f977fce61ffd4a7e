//! Documents: operations over each other, and an edit of a long text from the push to what everybody is told.
#![allow(missing_docs, reason = "criterion_group! makes an undocumented function")]

use std::hint::black_box;
use std::sync::Arc;

use corelay::ids::{Address, ChannelNumber, ConnId, ShardId, Ticket, Topic};
use corelay::limits::DOCUMENT_BYTES_MAX;
use corelay::metrics::ShardMetrics;
use corelay::room::document::{Document, DocumentRules};
use corelay::room::hosted::{Context, Hosted};
use corelay::room::ot::{Tie, compose, transform};
use corelay::room::request::{Effect, Join, Rights};
use corelay::room::stored::{Cursor, StoreAction, StoreAnswer};
use corelay::time::{Instant, Now};
use corelay::wire::format::Format;
use corelay::wire::operation::Operation;
use corelay::wire::push::{DocumentPush, Edit, Push, PushEvent};
use criterion::{Criterion, criterion_group, criterion_main};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

fn operation(json: &str) -> Operation {
    Operation::parse(json).expect("an operation")
}

fn transforms(criterion: &mut Criterion) {
    let one = operation(r#"[5,"one",-3,7,"two",4,-2,"three",9,"four"]"#);
    let other = operation(r#"[2,"uno",6,-4,"dos",3,"tres",-5,8,"cuatro"]"#);
    assert_eq!((one.components().len(), other.components().len()), (10, 10));
    criterion.bench_function("transform two operations of 10 components", |bencher| {
        bencher.iter(|| transform(black_box(&one), black_box(&other), Tie::Right));
    });
    criterion.bench_function("compose two operations of 10 components", |bencher| {
        bencher.iter(|| compose(black_box(&one), black_box(&other)));
    });
    let (one, other) = (operation(r#"[100,"a"]"#), operation(r#"[7,"b"]"#));
    criterion.bench_function("transform two letters that are typed", |bencher| {
        bencher.iter(|| transform(black_box(&one), black_box(&other), Tie::Right));
    });
}

/// A document with a text, two members, and a store that does everything at once.
struct Edited {
    document: Document,
    metrics: ShardMetrics,
    random: ChaCha12Rng,
    now: Now,
    version: u64,
}

impl Edited {
    fn new(bytes: usize) -> Self {
        let topic = Arc::new(Topic::parse("doc:long").expect("a topic"));
        let document = Document::new(&topic, DocumentRules::default(), 1, 256);
        let now = Now { instant: Instant::from_micros(1_000_000), unix_us: 1_800_000_000_000_000 };
        let random = ChaCha12Rng::seed_from_u64(1);
        let mut edited = Self { document, metrics: ShardMetrics::default(), random, now, version: 0 };
        for member in 0..2 {
            let join = Join {
                user: format!("user-{member}").into(),
                name: "Ann".into(),
                rights: Rights::Play,
                is_moderator: false,
                format: Format::V2,
                layout: false,
                ack: false,
                meta: None,
                resume_token: None,
                seen: None,
                supersedes: None,
            };
            edited.act(|document, context| document.join(address(member), join, context));
        }
        let part = "0123456789abcde\n".repeat(2_000);
        while edited.version < (bytes / part.len()) as u64 {
            edited.edit(&operation(&format!("[{part:?}]")), edited.version);
        }
        edited
    }

    /// Lets the document act, and answers what it asks of the store. Returns how much is to be told.
    fn act(&mut self, act: impl FnOnce(&mut Document, &mut Context<'_>)) -> usize {
        let mut told = 0;
        let mut effects = self.decide(act);
        while let Some(effect) = effects.pop() {
            let Effect::Ask { ticket, request } = effect else {
                told += 1;
                continue;
            };
            let answer = match request.action {
                StoreAction::Append { expected, change, .. } => {
                    StoreAnswer::Appended(Cursor(expected.0 + change.records.len() as u64))
                }
                StoreAction::Load { .. } | StoreAction::Read { .. } => {
                    StoreAnswer::Loaded { stream: None, records: Vec::new(), values: Vec::new() }
                }
            };
            effects.extend(self.answer(ticket, answer));
        }
        told
    }

    fn answer(&mut self, ticket: Ticket, answer: StoreAnswer) -> Vec<Effect> {
        self.decide(|document, context| document.answered(ticket, answer, context))
    }

    fn decide(&mut self, act: impl FnOnce(&mut Document, &mut Context<'_>)) -> Vec<Effect> {
        let mut context = Context {
            now: self.now,
            metrics: &self.metrics,
            random: &mut self.random,
            development: true,
            notes: false,
            presence_list_max: 256,
            work: 0,
            effects: Vec::new(),
        };
        act(&mut self.document, &mut context);
        context.effects
    }

    fn edit(&mut self, operation: &Operation, version: u64) {
        let op_id = Some(format!("{:032x}", self.version).into());
        let edit = Edit { operation: operation.clone(), version, epoch: None, op_id };
        let push = DocumentPush::Operation(edit);
        let push = Push { reference: Some("\"9\"".into()), event: PushEvent::Document(push) };
        let told = self.act(|document, context| document.push(address(0), push, context));
        assert_eq!(told, 2, "a broadcast, and the answer");
        self.version += 1;
    }
}

fn address(slot: u32) -> Address {
    Address { shard: ShardId(0), channel: ChannelNumber(0), conn: ConnId { slot, generation: 0 } }
}

fn edits(criterion: &mut Criterion) {
    let mut edited = Edited::new(DOCUMENT_BYTES_MAX - 40_000);
    // Each at another place than those of the last versions: what they delete is still there, so the text keeps its length.
    let edits: Vec<Operation> =
        (0..10_000).map(|place| operation(&format!(r#"[{},"letter",-6]"#, place * 12))).collect();
    for behind in [0, 10, 100] {
        let name = format!("an edit of 220 KiB that was made {behind} versions ago, all of it but the disk");
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                let edit = &edits[edited.version as usize % edits.len()];
                edited.edit(edit, edited.version.saturating_sub(behind));
            });
        });
    }
}

criterion_group!(benches, transforms, edits);
criterion_main!(benches);
