//! The bar for the relay: a loop that only receives and sends the same bytes through the same io_uring calls.
//!
//! It answers the upgrade of `/play/{room}`, welcomes players, and each tick sends every member of a room one shared Delta of
//! the positions that have come since the last tick. It checks nothing, limits nothing, and does not recover from anything.
//! `--listen ADDRESS` serves until SIGTERM, SIGINT or `--seconds N`; then one JSON line tells CPU time and delivered frames.
//! Without arguments (`cargo bench`) a short run against a few clients of its own shows that it works.
#![allow(clippy::disallowed_methods, reason = "there is no core here that could be told the time")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]
#![allow(missing_docs, reason = "a bench is no library")]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use corelay::limits;
use corelay::wire::frame::{Opcode, write_header};
use corelay::wire::native::write_joined;
use corelay::wire::native::{DeltaHeader, KeyframeHeader, Move, Position, RosterHeader, Welcome, kind};
use io_uring::types::{BufRingEntry, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use zerocopy::{FromBytes, IntoBytes};

const TICK: Duration = Duration::from_millis(1000 / limits::TICK_HZ_DEFAULT as u64);
const DESCRIPTORS: u32 = 16 * 1024;
const BUFFERS: u16 = limits::RECEIVE_BUFFERS;
const BUFFER_BYTES: usize = limits::RECEIVE_BUFFER_BYTES as usize;
/// A Move as a client frames it: two bytes of header, four of mask, the record.
const MOVE_FRAME_BYTES: usize = 2 + 4 + size_of::<Move>();

const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const CLOSE: u64 = 3;

static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let Some(listen) = value("--listen") else {
        println!("usage: bare_loop --listen 127.0.0.1:4100 [--seconds N]; now a short demonstration");
        return demonstrate();
    };
    let listen: SocketAddr = listen.parse().map_err(|_| usage("--listen wants ADDRESS:PORT"))?;
    let seconds = match value("--seconds") {
        Some(text) => Some(text.parse().map_err(|_| usage("--seconds wants a whole number"))?),
        None => None,
    };
    stop_on_signals();
    let mut server = Server::new(listen)?;
    eprintln!("listening on {}", server.listener.local_addr()?);
    server.run(seconds.map(Duration::from_secs))?;
    println!("{}", server.report());
    Ok(())
}

fn usage(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn stop_on_signals() {
    extern "C" fn stop(_signal: libc::c_int) {
        STOP.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, stop as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}

/// One client, by its place in the descriptor table.
#[derive(Default)]
struct Client {
    room: Option<usize>,
    player: u32,
    /// What is being sent, and how much of it the kernel has.
    sending: Option<(Rc<Vec<u8>>, usize)>,
    gone: bool,
    /// The request head, then the rest of a frame that a buffer's end cut.
    unread: Vec<u8>,
}

/// One game.
struct Room {
    members: Vec<u32>,
    positions: Vec<Position>,
    moved: Vec<bool>,
    /// Indices of `positions` that moved since the last tick.
    recent: Vec<u32>,
    tick: u32,
    next_tick: Instant,
}

struct Server {
    ring: IoUring,
    listener: TcpListener,
    buffers: Buffers,
    clients: Vec<Client>,
    rooms: Vec<Room>,
    names: HashMap<String, usize>,
    /// Frames sent out; one that nobody holds any more is written anew.
    frames: std::collections::VecDeque<Rc<Vec<u8>>>,
    delivered: u64,
    moves: u64,
    bytes_out: u64,
    enters: u64,
}

impl Server {
    fn new(listen: SocketAddr) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_cqsize(limits::COMPLETION_QUEUE_ENTRIES)
            .build(limits::SUBMISSION_QUEUE_ENTRIES)?;
        ring.submitter().register_files_sparse(DESCRIPTORS)?;
        let buffers = Buffers::new(&ring)?;
        let options = corelay::uring::ListenOptions::default();
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(listen),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_send_buffer_size(options.send_buffer_bytes)?;
        socket.set_tcp_notsent_lowat(options.unsent_bytes_max)?;
        socket.bind(&listen.into())?;
        socket.listen(limits::LISTEN_BACKLOG as i32)?;
        Ok(Self {
            ring,
            listener: socket.into(),
            buffers,
            clients: (0..DESCRIPTORS).map(|_| Client::default()).collect(),
            rooms: Vec::new(),
            names: HashMap::new(),
            frames: std::collections::VecDeque::new(),
            delivered: 0,
            moves: 0,
            bytes_out: 0,
            enters: 0,
        })
    }

    fn run(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(types::Fd(self.listener.as_raw_fd())).allocate_file_index(true);
        self.push(accept.build(), ACCEPT, 0)?;
        let started = Instant::now();
        let mut completions = Vec::with_capacity(4096);
        while !STOP.load(Ordering::Relaxed) && limit.is_none_or(|limit| started.elapsed() < limit) {
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                self.handle(&completion)?;
            }
            self.buffers.publish();
            self.run_ticks()?;
            self.wait()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let due = self.rooms.iter().map(|room| room.next_tick).min();
        let timeout =
            due.map_or(limits::TURN_INTERVAL_MAX, |due| due.saturating_duration_since(Instant::now()));
        let timespec = Timespec::from(timeout);
        let gather = timeout.min(limits::TURN_GATHER_TIME).as_micros() as u32;
        let arguments = SubmitArgs::new().timespec(&timespec).min_wait_usec(gather);
        self.enters += 1;
        match self.ring.submitter().submit_with_args(limits::COMPLETIONS_PER_TURN, &arguments) {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR)) => Err(error),
            _ => Ok(()),
        }
    }

    fn push(&mut self, entry: squeue::Entry, operation: u64, place: u32) -> io::Result<()> {
        let entry = entry.user_data(operation << 32 | u64::from(place));
        // SAFETY: entries point at nothing, or at frames that their client holds until the completion.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.enters += 1;
            self.ring.submit()?;
        }
        Ok(())
    }

    fn handle(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let place = completion.user_data() as u32;
        match completion.user_data() >> 32 {
            ACCEPT if completion.result() >= 0 => {
                let place = completion.result() as u32;
                self.clients[place as usize] = Client::default();
                self.push(opcode::RecvMulti::new(Fixed(place), 0).build(), RECEIVE, place)
            }
            RECEIVE => self.received(place, completion),
            SEND => self.sent(place, completion.result()),
            _ => Ok(()),
        }
    }

    fn received(&mut self, place: u32, completion: &cqueue::Entry) -> io::Result<()> {
        if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
            let bytes = self.buffers.bytes(buffer, completion.result() as usize);
            let client = &mut self.clients[place as usize];
            if let (Some(room), true) = (client.room, client.unread.is_empty()) {
                let (moves, used) = apply_frames(&mut self.rooms[room], client.player, bytes);
                self.moves += moves;
                client.unread.extend_from_slice(&bytes[used..]);
            } else {
                client.unread.extend_from_slice(bytes);
                self.read_on(place)?;
            }
            self.buffers.give_back(buffer);
        }
        if cqueue::more(completion.flags()) {
            return Ok(());
        }
        if completion.result() > 0 || completion.result() == -libc::ENOBUFS {
            return self.push(opcode::RecvMulti::new(Fixed(place), 0).build(), RECEIVE, place);
        }
        self.leave(place)
    }

    /// Goes on with bytes that came in pieces.
    fn read_on(&mut self, place: u32) -> io::Result<()> {
        let mut unread = std::mem::take(&mut self.clients[place as usize].unread);
        if self.clients[place as usize].room.is_none()
            && let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n")
        {
            self.join(place, &String::from_utf8_lossy(&unread[..end]))?;
            unread.drain(..end + 4);
        }
        let client = &self.clients[place as usize];
        if let Some(room) = client.room {
            let (moves, used) = apply_frames(&mut self.rooms[room], client.player, &unread);
            self.moves += moves;
            unread.drain(..used);
        }
        self.clients[place as usize].unread = unread;
        Ok(())
    }

    fn join(&mut self, place: u32, head: &str) -> io::Result<()> {
        let path = head.split_whitespace().nth(1).unwrap_or_default();
        let name = path.trim_start_matches("/play/").split('?').next().unwrap_or_default();
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
        });
        let accept = tungstenite::handshake::derive_accept_key(key.unwrap_or_default().as_bytes());
        let index = *self.names.entry(name.to_owned()).or_insert_with(|| {
            self.rooms.push(Room::new());
            self.rooms.len() - 1
        });
        let room = &mut self.rooms[index];
        let player = room.positions.len() as u32 + 1;
        room.members.push(place);
        room.positions.push(Position { player_id: player.into(), x: 0.0.into(), y: 0.0.into() });
        room.moved.push(false);
        let answer = room.welcome(player, &accept);
        let client = &mut self.clients[place as usize];
        client.room = Some(index);
        client.player = player;
        self.send(place, &Rc::new(answer))
    }

    fn leave(&mut self, place: u32) -> io::Result<()> {
        let client = &mut self.clients[place as usize];
        client.gone = true;
        if let Some(room) = client.room.take() {
            self.rooms[room].members.retain(|&member| member != place);
        }
        if client.sending.is_none() {
            self.push(opcode::Close::new(Fixed(place)).build(), CLOSE, place)?;
        }
        Ok(())
    }

    fn run_ticks(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for index in 0..self.rooms.len() {
            if self.rooms[index].next_tick > now {
                continue;
            }
            self.rooms[index].next_tick += TICK;
            if self.rooms[index].recent.is_empty() {
                continue;
            }
            let mut frame = self.free_frame();
            let buffer = Rc::get_mut(&mut frame).expect("nobody else holds it yet");
            self.rooms[index].write_delta(buffer);
            let members = std::mem::take(&mut self.rooms[index].members);
            for &place in &members {
                if self.clients[place as usize].sending.is_none() {
                    self.send(place, &frame)?;
                }
            }
            self.rooms[index].members = members;
            self.frames.push_back(frame);
        }
        Ok(())
    }

    fn free_frame(&mut self) -> Rc<Vec<u8>> {
        if self.frames.front_mut().is_some_and(|oldest| Rc::get_mut(oldest).is_some()) {
            return self.frames.pop_front().unwrap_or_default();
        }
        Rc::default()
    }

    fn send(&mut self, place: u32, frame: &Rc<Vec<u8>>) -> io::Result<()> {
        self.clients[place as usize].sending = Some((frame.clone(), 0));
        self.push(send_entry(place, frame), SEND, place)
    }

    fn sent(&mut self, place: u32, result: i32) -> io::Result<()> {
        let client = &mut self.clients[place as usize];
        let Some((frame, sent)) = &mut client.sending else { return Ok(()) };
        *sent += result.max(0) as usize;
        self.bytes_out += result.max(0) as u64;
        if result > 0 && *sent < frame.len() {
            let entry = send_entry(place, &frame[*sent..]);
            return self.push(entry, SEND, place);
        }
        self.delivered += 1;
        client.sending = None;
        if client.gone {
            self.push(opcode::Close::new(Fixed(place)).build(), CLOSE, place)?;
        }
        Ok(())
    }

    fn report(&self) -> String {
        let usage = rusage();
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        let (user, system) = (seconds(usage.ru_utime), seconds(usage.ru_stime));
        let per_frame = (user + system) * 1e6 / self.delivered.max(1) as f64;
        format!(
            "{{\"cpu_s\":{:.3},\"user_s\":{user:.3},\"system_s\":{system:.3},\"frames_delivered\":{},\"moves\":{},\
             \"bytes_out\":{},\"enters\":{},\"cpu_us_per_frame\":{per_frame:.3}}}",
            user + system,
            self.delivered,
            self.moves,
            self.bytes_out,
            self.enters,
        )
    }
}

fn rusage() -> libc::rusage {
    // SAFETY: the kernel fills the struct, for which zero is a valid value.
    unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    }
}

fn send_entry(place: u32, bytes: &[u8]) -> squeue::Entry {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    opcode::Send::new(Fixed(place), bytes.as_ptr(), bytes.len() as u32).flags(flags).build()
}

/// Applies whole frames, of which all that count are Moves; the number of Moves, and of bytes used.
fn apply_frames(room: &mut Room, player: u32, bytes: &[u8]) -> (u64, usize) {
    let (mut moves, mut used) = (0, 0);
    while bytes.len() - used >= 6 {
        let frame = &bytes[used..];
        let whole = 6 + usize::from(frame[1] & 0x7F);
        if frame.len() < whole {
            break;
        }
        if whole == MOVE_FRAME_BYTES && frame[0] == 0x82 {
            let mut record: [u8; size_of::<Move>()] =
                frame[6..MOVE_FRAME_BYTES].try_into().expect("12 bytes");
            record.iter_mut().zip(frame[2..6].iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            if let Ok(record) = Move::ref_from_bytes(&record) {
                room.apply(player, record);
                moves += 1;
            }
        }
        used += whole;
    }
    (moves, used)
}

impl Room {
    fn new() -> Self {
        Self {
            members: Vec::new(),
            positions: Vec::new(),
            moved: Vec::new(),
            recent: Vec::new(),
            tick: 0,
            next_tick: Instant::now() + TICK,
        }
    }

    fn apply(&mut self, player: u32, record: &Move) {
        let index = player as usize - 1;
        (self.positions[index].x, self.positions[index].y) = (record.x, record.y);
        if !self.moved[index] {
            self.moved[index] = true;
            self.recent.push(index as u32);
        }
    }

    fn write_delta(&mut self, buffer: &mut Vec<u8>) {
        self.tick += 1;
        let header = DeltaHeader {
            kind: kind::DELTA,
            tick: self.tick.into(),
            position_count: (self.recent.len() as u32).into(),
            ..DeltaHeader::default()
        };
        let payload_bytes = size_of::<DeltaHeader>() + self.recent.len() * size_of::<Position>();
        buffer.clear();
        write_header(buffer, Opcode::Binary, payload_bytes);
        buffer.extend_from_slice(header.as_bytes());
        for index in self.recent.drain(..) {
            buffer.extend_from_slice(self.positions[index as usize].as_bytes());
            self.moved[index as usize] = false;
        }
    }

    /// Answer to the upgrade, Welcome, Roster, Keyframe.
    fn welcome(&self, player: u32, accept: &str) -> Vec<u8> {
        let mut bytes = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .into_bytes();
        let mut record = |payload: &[u8]| {
            write_header(&mut bytes, Opcode::Binary, payload.len());
            bytes.extend_from_slice(payload);
        };
        let welcome = Welcome {
            kind: kind::WELCOME,
            flags: Welcome::DEVELOPMENT,
            tick_hz: limits::TICK_HZ_DEFAULT.into(),
            player_id: player.into(),
            epoch: 1.into(),
            tick: self.tick.into(),
            min_x: f32::MIN.into(),
            min_y: f32::MIN.into(),
            max_x: f32::MAX.into(),
            max_y: f32::MAX.into(),
            max_speed: f32::INFINITY.into(),
            ..Welcome::default()
        };
        record(welcome.as_bytes());
        let header = RosterHeader {
            kind: kind::ROSTER,
            flags: RosterHeader::WHOLE,
            joined: (self.positions.len() as u16).into(),
            left: 0.into(),
        };
        let mut roster = header.as_bytes().to_vec();
        for position in &self.positions {
            write_joined(&mut roster, position.player_id.get(), "guest", "");
        }
        record(&roster);
        let header = KeyframeHeader {
            kind: kind::KEYFRAME,
            tick: self.tick.into(),
            position_count: (self.positions.len() as u32).into(),
            ..KeyframeHeader::default()
        };
        record(&[header.as_bytes(), self.positions.as_bytes()].concat());
        bytes
    }
}

/// Receive buffers and the ring that lends them to the kernel.
struct Buffers {
    memory: Vec<u8>,
    ring: Box<PageAligned>,
    tail: u16,
}

#[repr(align(4096))]
struct PageAligned([u8; BUFFERS as usize * size_of::<BufRingEntry>()]);

impl Buffers {
    fn new(ring: &IoUring) -> io::Result<Self> {
        let zeroed = PageAligned([0; BUFFERS as usize * size_of::<BufRingEntry>()]);
        let memory = vec![0; usize::from(BUFFERS) * BUFFER_BYTES];
        let mut buffers = Self { memory, ring: Box::new(zeroed), tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.give_back(buffer));
        let address = buffers.ring.0.as_ptr() as u64;
        // SAFETY: the memory is the server's, which lives as long as the process serves.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, BUFFERS, 0, 0)? };
        buffers.publish();
        Ok(buffers)
    }

    fn bytes(&self, buffer: u16, bytes: usize) -> &[u8] {
        &self.memory[usize::from(buffer) * BUFFER_BYTES..][..bytes]
    }

    fn give_back(&mut self, buffer: u16) {
        let address = self.memory[usize::from(buffer) * BUFFER_BYTES..].as_mut_ptr() as u64;
        // SAFETY: the index is within the ring.
        let entry = unsafe {
            let entries = self.ring.0.as_mut_ptr().cast::<BufRingEntry>();
            &mut *entries.add(usize::from(self.tail & (BUFFERS - 1)))
        };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the ring's tail lies in its first entry and is shared with the kernel by atomic access only.
        let tail = unsafe {
            let first = self.ring.0.as_ptr().cast::<BufRingEntry>();
            AtomicU16::from_ptr(BufRingEntry::tail(first).cast_mut())
        };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Ten clients in one room for a second: each must see frames.
fn demonstrate() -> io::Result<()> {
    let mut server = Server::new(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = server.listener.local_addr()?;
    let clients =
        std::thread::spawn(move || (0..10).map(|_| TcpStream::connect(address)).map(play).collect());
    server.run(Some(Duration::from_millis(1500)))?;
    let received: io::Result<Vec<usize>> = clients.join().expect("clients do not panic");
    println!("{}", server.report());
    println!("bytes that each of ten clients got: {:?}", received?);
    Ok(())
}

fn play(client: io::Result<TcpStream>) -> io::Result<usize> {
    let mut client = client?;
    client.set_read_timeout(Some(Duration::from_millis(120)))?;
    client.write_all(b"GET /play/demo HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")?;
    let mut frame = vec![0x82, 0x8C, 0, 0, 0, 0];
    frame.extend_from_slice(Move { kind: kind::MOVE, ..Move::default() }.as_bytes());
    client.write_all(&frame)?;
    let mut bytes = vec![0; 4096];
    let mut received = client.read(&mut bytes)?;
    received += client.read(&mut bytes)?;
    Ok(received)
}
