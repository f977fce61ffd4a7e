//! Shards without a kernel: virtual time, and clients that are byte buffers. What a test does is what a rim would do.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod client;
pub mod documents;
pub mod games;
pub mod moderated;
pub mod rooms;
#[path = "../support/store.rs"]
pub mod store;
pub mod tokens;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use corelay::ids::{ConnId, Party, RequestNumber, ShardId, TopicName};
use corelay::metrics::ShardMetrics;
use corelay::note::Note;
use corelay::room::stored::{StoreAnswer, StoreRequest};
use corelay::shard::peer::{Answer, Order, PeerMessage, Question};
use corelay::shard::placement::Placement;
use corelay::shard::settings::Settings;
use corelay::shard::sizes::Sizes;
use corelay::shard::{Admission, Output, Shard};
use corelay::time::{Instant, Now};

use client::{Client, ClientId};
use store::StoreModel;

/// Unix time at which every world begins, in seconds.
pub const STARTED_AT_S: u64 = 1_800_000_000;

/// Shards, clients, and the time.
pub struct World {
    pub now: Now,
    pub metrics: Vec<Arc<ShardMetrics>>,
    pub settings: Arc<Settings>,
    pub clients: BTreeMap<ClientId, Client>,
    /// Shards that have finished their drain.
    pub drained: Vec<usize>,
    /// Shards that were told to stop accepting.
    pub stopped_accepting: Vec<usize>,
    /// The shard whose mailbox takes no more, but for what must arrive.
    pub full_mailbox: Option<usize>,
    /// Shards that have ended.
    pub ended: Vec<usize>,
    /// What the log was told.
    pub notes: Vec<Note>,
    /// Orders to end members that could not be told something.
    pub given_up: usize,
    /// What the service thread was told, by which shard.
    pub answers: Vec<(usize, RequestNumber, Answer)>,
    /// The store's records on disk.
    pub store: StoreModel,
    /// The store answers nothing for now.
    pub store_stands: bool,
    /// The questions that shards have asked the store meanwhile.
    pub asked: VecDeque<(usize, RequestNumber, StoreRequest)>,
    shards: Vec<Shard>,
    /// How many processes there were before this one.
    generation: u8,
    next_client: u32,
}

/// Runs a test where everything lives on one shard, and where the topic called `name` lives on the last of three shards and
/// clients dial the first.
pub fn near_and_far(settings: impl Fn() -> Settings, test: impl Fn(World, &str)) {
    for shards in [1, 3] {
        let world = World::new(Settings { placement: Placement::known(shards), ..settings() });
        let name = world.name_on(usize::from(shards) - 1);
        test(world, &name);
    }
}

impl World {
    pub fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let metrics: Vec<Arc<ShardMetrics>> =
            (0..settings.placement.shards).map(|_| Arc::default()).collect();
        let mut world = Self {
            now: Now { instant: Instant::from_micros(1_000_000), unix_us: STARTED_AT_S * 1_000_000 },
            shards: Vec::new(),
            metrics,
            settings,
            clients: BTreeMap::new(),
            drained: Vec::new(),
            stopped_accepting: Vec::new(),
            full_mailbox: None,
            ended: Vec::new(),
            notes: Vec::new(),
            given_up: 0,
            answers: Vec::new(),
            store: StoreModel::default(),
            store_stands: false,
            asked: VecDeque::new(),
            generation: 0,
            next_client: 0,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let seed = |id: u16| [id as u8 + 1 + 16 * self.generation; 32];
        let shards =
            self.metrics.iter().zip(0..).map(|(metrics, id)| {
                Shard::new(ShardId(id), self.settings.clone(), metrics.clone(), seed(id))
            });
        self.shards = shards.collect();
    }

    /// The process ends, and another one begins with what is on disk. What the store was asked is not done.
    pub fn restart(&mut self) {
        self.clients.clear();
        self.asked.clear();
        self.generation += 1;
        self.start();
    }

    /// The sum of a counter over all shards.
    pub fn count(&self, value: impl Fn(&ShardMetrics) -> u64) -> u64 {
        self.metrics.iter().map(|metrics| value(metrics)).sum()
    }

    /// How much is in the tables of a shard.
    pub fn sizes(&self, shard: usize) -> Sizes {
        self.shards[shard].sizes()
    }

    /// A TCP connection to shard `shard`, nothing sent yet.
    pub fn dial_shard(&mut self, shard: usize, admission: Admission) -> ClientId {
        let conn = self.shards[shard].handle_accepted(admission, self.now).expect("the table has room");
        let id = ClientId(self.next_client);
        self.next_client += 1;
        self.clients.insert(id, Client::new(shard, conn));
        id
    }

    /// A TCP connection to shard 0.
    pub fn dial(&mut self) -> ClientId {
        self.dial_shard(0, Admission::Admitted)
    }

    /// A WebSocket client that asked for `target`; its answer is not looked at.
    pub fn request(&mut self, target: &str) -> ClientId {
        let client = self.dial();
        self.send_raw(client, client::request(target).as_bytes());
        client
    }

    /// A player that joined: its Welcome, Roster and Keyframe are read.
    pub fn join(&mut self, target: &str) -> ClientId {
        let client = self.request(target);
        self.client(client).upgraded();
        client
    }

    /// A Phoenix client of serializer V2 on shard `shard`, upgraded; `query` goes into its request (`&name=Ann`).
    pub fn socket_on(&mut self, shard: usize, query: &str) -> ClientId {
        self.request_on(shard, &format!("/socket/websocket?vsn=2.0.0{query}"))
    }

    /// A client whose request this shard has accepted, and upgraded.
    pub fn request_on(&mut self, shard: usize, target: &str) -> ClientId {
        let client = self.dial_shard(shard, Admission::Admitted);
        self.send_raw(client, client::request(target).as_bytes());
        let (status, head) = self.client(client).response();
        assert_eq!(status, 101, "{head}");
        client
    }

    /// A Phoenix client like `socket_on`, on shard 0.
    pub fn socket(&mut self, query: &str) -> ClientId {
        self.socket_on(0, query)
    }

    /// A text message from a client.
    pub fn say(&mut self, id: ClientId, text: &str) {
        self.send_raw(id, &client::masked_frame(0x81, text.as_bytes()));
    }

    /// Several text messages from a client, in one segment.
    pub fn say_at_once(&mut self, id: ClientId, texts: &[&str]) {
        let frames = texts.iter().map(|text| client::masked_frame(0x81, text.as_bytes()));
        let bytes: Vec<u8> = frames.flatten().collect();
        self.send_raw(id, &bytes);
    }

    /// A name whose topics live on shard `shard`.
    pub fn name_on(&self, shard: usize) -> String {
        let placement = self.settings.placement;
        let lives_there = |name: &String| {
            let name = TopicName::parse(name).expect("a name");
            usize::from(placement.shard_of(&name).0) == shard
        };
        (0..).map(|number| format!("n{number}")).find(lives_there).expect("every shard has names")
    }

    pub fn client(&mut self, id: ClientId) -> &mut Client {
        self.clients.get_mut(&id).expect("a client of this world")
    }

    /// Bytes from a client, as they are.
    pub fn send_raw(&mut self, id: ClientId, bytes: &[u8]) {
        let client = &self.clients[&id];
        // Nobody hears what is sent to a descriptor that is closed.
        if client.ended.is_some() {
            return;
        }
        let (shard, conn) = (client.shard, client.conn);
        self.shards[shard].handle_received(conn, &mut bytes.to_vec(), self.now);
        self.run();
    }

    /// A binary message from a client.
    pub fn send(&mut self, id: ClientId, payload: &[u8]) {
        self.send_raw(id, &client::masked_frame(0x82, payload));
    }

    /// The client's end of stream, without a close frame.
    pub fn hang_up(&mut self, id: ClientId) {
        let client = &self.clients[&id];
        let (shard, conn) = (client.shard, client.conn);
        self.shards[shard].handle_eof(conn, self.now);
        self.run();
    }

    /// A send to the client has failed: nothing reaches it any more.
    pub fn break_off(&mut self, id: ClientId) {
        let client = &self.clients[&id];
        let (shard, conn) = (client.shard, client.conn);
        self.shards[shard].handle_send_failed(conn, self.now);
        self.run();
    }

    /// From now on the client's socket takes nothing (`false`), or everything again.
    pub fn set_reading(&mut self, id: ClientId, reading: bool) {
        let client = self.client(id);
        client.reading = reading;
        if reading && let Some(in_flight) = client.in_flight.take() {
            client.inbox.extend(in_flight);
            let (shard, conn) = (client.shard, client.conn);
            self.shards[shard].handle_sent(conn, self.now);
        }
        self.run();
    }

    /// A shard ends without a word, and the others notice. Its clients are left alone.
    pub fn end_shard(&mut self, ended: usize) {
        self.ended.push(ended);
        for (number, shard) in self.shards.iter_mut().enumerate() {
            if !self.ended.contains(&number) {
                shard.handle_party_ended(Party::Shard(ShardId(ended as u16)), self.now);
            }
        }
        self.run();
    }

    pub fn tell_shards(&mut self, order: &Order) {
        for shard in &mut self.shards {
            shard.handle_order(order.clone(), self.now);
        }
        self.run();
        self.timeout();
    }

    /// The service thread asks every shard something, which answer in `answers`. Nothing is done for it yet.
    pub fn ask_shards(&mut self, request: RequestNumber, question: &Question) {
        for shard in &mut self.shards {
            let message = PeerMessage::Ask { request, question: question.clone() };
            shard.handle_peer(Party::Service, message, self.now);
        }
        self.run();
    }

    /// An operator kicks a user: how many shards have answered, and how many connections they have closed.
    pub fn kick(&mut self, user: &str) -> (u32, u32) {
        self.ask_shards(RequestNumber(7), &Question::Kick { user: user.into() });
        self.timeout();
        let answers = std::mem::take(&mut self.answers);
        let disconnected = |(_, request, answer): &(usize, RequestNumber, Answer)| match answer {
            Answer::Kicked { disconnected } if *request == RequestNumber(7) => *disconnected,
            other => panic!("{other:?}"),
        };
        (answers.len() as u32, answers.iter().map(disconnected).sum())
    }

    /// From here on each part of a turn may do so much work.
    pub fn allow_work(&mut self, units: u32) {
        self.shards.iter_mut().for_each(|shard| shard.allow_work(units));
    }

    /// Whether every shard may go on with the part that `allow_work` began.
    pub fn has_work_left(&self) -> bool {
        self.shards.iter().all(Shard::has_work_left)
    }

    /// Does what is due now, as far as one turn goes. `false`: nothing was due.
    pub fn timeout(&mut self) -> bool {
        self.shards.iter_mut().for_each(|shard| shard.handle_clocks(self.now));
        let is_due = |shard: &&mut Shard| shard.poll_timeout().is_some_and(|due| due <= self.now.instant);
        let due = self.shards.iter_mut().filter(is_due);
        let turned = due.map(|shard| shard.handle_timeout(self.now)).count();
        self.run();
        turned > 0
    }

    /// Lets time pass in which nobody turns.
    pub fn pass_ms(&mut self, ms: u64) {
        self.now.unix_us += ms * 1_000;
        self.now.instant = self.now.instant + Duration::from_millis(ms);
    }

    /// Lets time pass, with everything that becomes due in it at its time.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.now.instant + duration;
        self.shards.iter_mut().for_each(|shard| shard.handle_clocks(self.now));
        loop {
            let running = self.shards.iter().enumerate().filter(|(shard, _)| !self.ended.contains(shard));
            let due = running.filter_map(|(_, shard)| shard.poll_timeout()).min().filter(|due| *due <= end);
            let until = due.unwrap_or(end).max(self.now.instant);
            self.now.unix_us += until.since(self.now.instant).as_micros() as u64;
            self.now.instant = until;
            if due.is_none() {
                return;
            }
            for (number, shard) in self.shards.iter_mut().enumerate() {
                if !self.ended.contains(&number) {
                    shard.handle_timeout(self.now);
                }
            }
            self.run();
        }
    }

    /// Lets time pass in one turn of each loop: whatever becomes due in it is done at once, and late.
    pub fn oversleep(&mut self, ms: u64) {
        self.now.unix_us += ms * 1_000;
        self.now.instant = self.now.instant + Duration::from_millis(ms);
        for shard in &mut self.shards {
            shard.handle_timeout(self.now);
        }
        self.run();
    }

    /// Lets time pass in which the process stands still: the wall clock alone goes on.
    pub fn stand_still(&mut self, ms: u64) {
        self.now.unix_us += ms * 1_000;
    }

    pub fn advance_ms(&mut self, ms: u64) {
        self.advance(Duration::from_millis(ms));
    }

    /// Carries out what the shards want done, until they want nothing.
    fn run(&mut self) {
        while let Some((shard, output)) = self.next_output() {
            match output {
                Output::Send { conn, frames } => self.deliver(shard, conn, &frames),
                Output::Shutdown { conn } => self.by_conn(shard, conn, |client| client.half_closed = true),
                Output::Close { conn, reason } => {
                    self.by_conn(shard, conn, |client| client.ended = Some(reason));
                    self.shards[shard].handle_closed(conn, self.now);
                }
                Output::HandOver { conn, target, state } => {
                    let target = usize::from(target.0);
                    let at_target = self.shards[target].handle_handed_over(*state, self.now);
                    match at_target {
                        Some(at_target) => {
                            self.by_conn(shard, conn, |client| {
                                client.shard = target;
                                client.conn = at_target;
                                client.handed_over = true;
                            });
                            self.shards[shard].handle_closed(conn, self.now);
                        }
                        None => self.shards[shard].handle_hand_over_refused(conn, self.now),
                    }
                }
                Output::Forward { target, message } => {
                    let number = match target {
                        Party::Shard(ShardId(number)) => number,
                        Party::Service => {
                            self.hear_at_service(shard, message);
                            continue;
                        }
                        Party::Store => {
                            self.hear_at_store(shard, message);
                            continue;
                        }
                    };
                    let index = usize::from(number);
                    let refused = self.ended.contains(&index)
                        || self.full_mailbox == Some(index) && !message.must_arrive();
                    let message = match refused {
                        true => self.shards[shard].handle_forward_refused(target, message, self.now),
                        false => Some(message),
                    };
                    self.given_up += usize::from(refused && message.is_some());
                    if let Some(message) = message.filter(|_| !self.ended.contains(&index)) {
                        let source = Party::Shard(ShardId(shard as u16));
                        self.shards[index].handle_peer(source, message, self.now);
                    }
                }
                Output::Pause { conn } => self.by_conn(shard, conn, |client| client.paused = true),
                Output::Resume { conn } => self.by_conn(shard, conn, |client| client.paused = false),
                Output::Upgraded { conn } => {
                    self.by_conn(shard, conn, |client| client.upgraded_by_shard = true);
                }
                Output::Note(note) => self.notes.push(*note),
                Output::StopAccepting => self.stopped_accepting.push(shard),
                Output::Drained => self.drained.push(shard),
            }
        }
    }

    fn hear_at_service(&mut self, source: usize, message: PeerMessage) {
        match message {
            PeerMessage::Answer { request, answer } => self.answers.push((source, request, answer)),
            other => panic!("the service thread is told answers only: {other:?}"),
        }
    }

    fn hear_at_store(&mut self, source: usize, message: PeerMessage) {
        let PeerMessage::Ask { request: number, question: Question::Store(request) } = message else {
            panic!("the store is asked: {message:?}")
        };
        self.asked.push_back((source, number, *request));
        if !self.store_stands {
            self.let_store_answer();
        }
    }

    /// The store does what it was asked for.
    pub fn let_store_answer(&mut self) {
        while let Some((source, number, request)) = self.asked.pop_front() {
            let answer = self.store.answer(&request);
            self.answer_as_store(source, number, answer);
            self.run();
        }
    }

    /// The store answers its first question with `answer`.
    pub fn let_store_say(&mut self, answer: StoreAnswer) {
        let (source, number, _) = self.asked.pop_front().expect("the store was asked");
        self.answer_as_store(source, number, answer);
        self.run();
    }

    fn answer_as_store(&mut self, source: usize, number: RequestNumber, answer: StoreAnswer) {
        let message = PeerMessage::Answer { request: number, answer: Answer::Store(Box::new(answer)) };
        self.shards[source].handle_peer(Party::Store, message, self.now);
    }

    fn next_output(&mut self) -> Option<(usize, Output)> {
        let running = |(shard, _): &(usize, &mut Shard)| !self.ended.contains(shard);
        let mut shards = self.shards.iter_mut().enumerate().filter(running);
        shards.find_map(|(shard, world)| Some((shard, world.poll_output()?)))
    }

    fn deliver(&mut self, shard: usize, conn: ConnId, frames: &corelay::shard::Frames) {
        let mut taken = false;
        self.by_conn(shard, conn, |client| {
            assert!(client.in_flight.is_none(), "two sends in flight");
            let bytes: Vec<u8> = frames.as_slice().iter().flat_map(|frame| frame.bytes()).copied().collect();
            if client.reading {
                client.inbox.extend(bytes);
                taken = true;
            } else {
                client.in_flight = Some(bytes);
            }
        });
        if taken {
            self.shards[shard].handle_sent(conn, self.now);
        }
    }

    fn by_conn(&mut self, shard: usize, conn: ConnId, act: impl FnOnce(&mut Client)) {
        let client = self.clients.values_mut().find(|client| client.shard == shard && client.conn == conn);
        act(client.expect("the shards know no connection that the world does not"));
    }
}
