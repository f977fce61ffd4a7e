//! A relay on tokio-tungstenite, after its own `examples/server.rs`: a split socket whose two directions are two futures of one task.
//!
//! In its favour: frames are `Bytes`, which a `Message` shares instead of copying; its read buffer is 512 bytes instead of 128 KiB,
//! because the library fills it with zeros before every read (with the 4 KiB that its documentation advises for many quiet
//! connections that was 6 % of the processor time) and a move is 18 bytes; the example's unbounded queue per client is a `watch` channel,
//! so that a slow client has no backlog; one task per client, `unconstrained`; a message is fed and flushed at once, which is
//! one `write`.

use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use corelay_peers::{Arguments, Member, Rooms};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

const READ_BUFFER_BYTES: usize = 512;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    Arguments::parse().run(serve_client)
}

async fn serve_client(stream: TcpStream, rooms: Arc<Rooms>) {
    // How a client ends is its own business.
    let _ = tokio::task::unconstrained(relay(stream, &rooms)).await;
}

async fn relay(stream: TcpStream, rooms: &Rooms) -> Result<(), Error> {
    let mut path = String::new();
    #[allow(clippy::result_large_err, reason = "the library's signature")]
    let note_path = |request: &Request, response: Response| {
        request.uri().path().clone_into(&mut path);
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let socket = accept_hdr_async_with_config(stream, note_path, Some(config)).await?;
    let member = rooms.join(&path);
    drop(path);
    let (write, read) = socket.split();
    tokio::select! {
        biased;
        outcome = receive(read, &member) => outcome,
        outcome = send(write, member.frames()) => outcome,
    }
}

async fn receive(mut socket: SplitStream<WebSocketStream<TcpStream>>, member: &Member) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        match message? {
            Message::Binary(message) => member.handle_message(&message),
            // Answered by the library.
            Message::Ping(_) | Message::Close(_) => {}
            Message::Text(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Ok(())
}

async fn send(
    mut socket: SplitSink<WebSocketStream<TcpStream>, Message>,
    mut frames: watch::Receiver<Bytes>,
) -> Result<(), Error> {
    while frames.changed().await.is_ok() {
        let frame = frames.borrow_and_update().clone();
        socket.send(Message::Binary(frame)).await?;
    }
    Ok(())
}
