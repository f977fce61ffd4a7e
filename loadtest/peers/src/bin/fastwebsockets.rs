//! A relay on fastwebsockets, after its own `examples/echo_server_split.rs`: hyper for the upgrade, then a split socket.
//!
//! In its favour: the stream behind hyper's upgrade is taken out again, so that frames go to the plain `TcpStream` (no boxed
//! stream, and halves that share no lock); reading and writing are two futures of one task, so that a client costs one task,
//! and a tick wakes it once; a frame of up to 16 KiB leaves in one `write`, copied behind its header, instead of a `writev` of
//! two pieces; tasks are `unconstrained`, as in the example; nothing is flushed, since a `TcpStream` buffers nothing. A
//! current-thread runtime with one thread, as in the example. Reading has to be split from writing: a `read_frame` that is
//! dropped half way, as `select!` on the whole socket does, loses the header it has taken.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use corelay_peers::{Arguments, Member, Rooms};
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, WebSocket, WebSocketError, WebSocketRead, WebSocketWrite,
};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// Up to here a frame is copied behind its header: one `write` of one piece.
const COPIED_BYTES_MAX: usize = 16 * 1024;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    Arguments::parse().run(serve_client)
}

async fn serve_client(stream: TcpStream, rooms: Arc<Rooms>) {
    let service = service_fn(move |request| {
        let response = answer(request, &rooms);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    // A client that breaks off its request is gone; there is nobody to tell.
    let _ = connection.await;
}

fn answer(mut request: Request<Incoming>, rooms: &Rooms) -> Response<Empty<Bytes>> {
    let Ok((response, upgraded)) = upgrade(&mut request) else {
        let mut refusal = Response::new(Empty::new());
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return refusal;
    };
    let member = rooms.join(request.uri().path());
    tokio::spawn(tokio::task::unconstrained(async move {
        // How a client ends is its own business.
        let _ = relay(upgraded, &member).await;
    }));
    response
}

async fn relay(upgraded: UpgradeFut, member: &Member) -> Result<(), WebSocketError> {
    let Some((read, mut write)) = split(upgraded.await?) else {
        return Err(WebSocketError::ConnectionClosed);
    };
    write.set_writev_threshold(COPIED_BYTES_MAX);
    tokio::select! {
        biased;
        outcome = receive(FragmentCollectorRead::new(read), member) => outcome,
        outcome = send(write, member.frames()) => outcome,
    }
}

/// The halves of the socket itself. `None`: the client sent frames before it was answered, which RFC 6455 forbids.
fn split(
    socket: WebSocket<TokioIo<Upgraded>>,
) -> Option<(WebSocketRead<OwnedReadHalf>, WebSocketWrite<OwnedWriteHalf>)> {
    let parts = socket.into_inner().into_inner().downcast::<TokioIo<TcpStream>>().ok()?;
    let (read, write) = parts.io.into_inner().into_split();
    parts
        .read_buf
        .is_empty()
        .then(|| fastwebsockets::after_handshake_split(read, write, fastwebsockets::Role::Server))
}

async fn receive(
    mut socket: FragmentCollectorRead<OwnedReadHalf>,
    member: &Member,
) -> Result<(), WebSocketError> {
    loop {
        // The load test sends no ping; its close is answered by the end of the stream.
        let frame = socket.read_frame(&mut |_| async { Ok::<(), WebSocketError>(()) }).await?;
        match frame.opcode {
            OpCode::Binary => member.handle_message(&frame.payload),
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}

async fn send(
    mut socket: WebSocketWrite<OwnedWriteHalf>,
    mut frames: watch::Receiver<Bytes>,
) -> Result<(), WebSocketError> {
    while frames.changed().await.is_ok() {
        let frame = frames.borrow_and_update().clone();
        socket.write_frame(Frame::binary(Payload::Borrowed(&frame))).await?;
    }
    Ok(())
}
