//! The bar for the relay: a loop that only receives and sends the same bytes through the same io_uring calls.
//!
//! It answers the upgrade of `/play/{room}`, welcomes players, and each tick sends every member of a room one shared Delta of
//! the positions that have come since the last tick. It checks nothing, limits nothing, and does not recover from anything.
//! It speaks corelay's native dialect, so that its bytes are corelay's own, and has one thread.
#![allow(clippy::disallowed_methods, reason = "there is no core here that could be told the time")]

mod buffers;
mod room;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use buffers::Buffers;
use clap::Parser;
use corelay::limits;
use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use room::{Room, apply_frames};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TICK: Duration = Duration::from_millis(1000 / limits::TICK_HZ_DEFAULT as u64);
const DESCRIPTORS: u32 = 16 * 1024;

const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const CLOSE: u64 = 3;

/// The floor under a relay: one io_uring loop, one thread, one room per /play/NAME in corelay's native dialect.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address and port
    #[arg(long)]
    listen: SocketAddr,
}

fn main() -> anyhow::Result<()> {
    let Arguments { listen } = Arguments::parse();
    // As corelay does: memory is counted in pages of 4 KiB, not in steps of 2 MiB.
    rustix::thread::disable_transparent_huge_pages(true).context("huge pages stay on")?;
    let mut server = Server::new(listen).with_context(|| {
        format!("--listen {listen}, or a ring with a table of {DESCRIPTORS} descriptors (`ulimit -n`)")
    })?;
    Ok(server.run()?)
}

/// One client, by its place in the descriptor table.
#[derive(Default)]
struct Client {
    room: Option<usize>,
    player: u32,
    /// What is being sent.
    sending: Option<Rc<Vec<u8>>>,
    gone: bool,
    /// The request head, then the rest of a frame that a buffer's end cut.
    unread: Vec<u8>,
}

struct Server {
    ring: IoUring,
    listener: TcpListener,
    buffers: Buffers,
    clients: Vec<Client>,
    rooms: Vec<Room>,
    names: HashMap<String, usize>,
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
        let options = corelay::rim::ListenOptions::default();
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
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(types::Fd(self.listener.as_raw_fd())).allocate_file_index(true);
        self.push(accept.build(), ACCEPT, 0)?;
        let mut completions = Vec::with_capacity(4096);
        loop {
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                self.handle(&completion)?;
            }
            self.buffers.publish();
            self.run_ticks()?;
            self.wait()?;
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let due = self.rooms.iter().map(|room| room.next_tick).min();
        let timeout =
            due.map_or(limits::TURN_INTERVAL_MAX, |due| due.saturating_duration_since(Instant::now()));
        let timespec = Timespec::from(timeout);
        let gather = timeout.min(limits::TURN_GATHER_TIME).as_micros() as u32;
        let arguments = SubmitArgs::new().timespec(&timespec).min_wait_usec(gather);
        match self.ring.submitter().submit_with_args(limits::COMPLETIONS_PER_TURN, &arguments) {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR)) => Err(error),
            _ => Ok(()),
        }
    }

    fn push(&mut self, entry: squeue::Entry, operation: u64, place: u32) -> io::Result<()> {
        let entry = entry.user_data(operation << 32 | u64::from(place));
        // SAFETY: entries point at nothing, or at frames that their client holds until the completion.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
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
            SEND => self.sent(place),
            _ => Ok(()),
        }
    }

    fn received(&mut self, place: u32, completion: &cqueue::Entry) -> io::Result<()> {
        if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
            let bytes = self.buffers.bytes(buffer, completion.result() as usize);
            let client = &mut self.clients[place as usize];
            if let (Some(room), true) = (client.room, client.unread.is_empty()) {
                let used = apply_frames(&mut self.rooms[room], client.player, bytes);
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
            let used = apply_frames(&mut self.rooms[room], client.player, &unread);
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
        let player = room.join(place);
        let answer = Room::welcome(player, &accept);
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
            if !self.rooms[index].has_moved() {
                continue;
            }
            let frame = Rc::new(self.rooms[index].delta());
            let members = std::mem::take(&mut self.rooms[index].members);
            for &place in &members {
                if self.clients[place as usize].sending.is_none() {
                    self.send(place, &frame)?;
                }
            }
            self.rooms[index].members = members;
        }
        Ok(())
    }

    fn send(&mut self, place: u32, frame: &Rc<Vec<u8>>) -> io::Result<()> {
        self.clients[place as usize].sending = Some(frame.clone());
        // WAITALL: a send completes when all of it is sent, or never.
        let send = opcode::Send::new(Fixed(place), frame.as_ptr(), frame.len() as u32);
        self.push(send.flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).build(), SEND, place)
    }

    fn sent(&mut self, place: u32) -> io::Result<()> {
        let client = &mut self.clients[place as usize];
        client.sending = None;
        if client.gone {
            self.push(opcode::Close::new(Fixed(place)).build(), CLOSE, place)?;
        }
        Ok(())
    }
}
