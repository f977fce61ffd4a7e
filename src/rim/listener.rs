//! Listening sockets: one per shard on the same address, so that the kernel spreads clients over shards.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::limits;

/// How often a port in use is tried again.
const IN_USE_RETRIES: u32 = 10;
/// Pause before a port in use is tried again.
const IN_USE_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// How connections are taken: how many an address may have, what every accepted one inherits, and who may listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that one address may have over all shards. `None`: addresses are not even asked for.
    pub connections_per_address: Option<u32>,
    /// `SO_SNDBUF`. See `limits::SEND_BUFFER_BYTES`.
    pub send_buffer_bytes: usize,
    /// `TCP_NOTSENT_LOWAT`. See `limits::UNSENT_BYTES_MAX`.
    pub unsent_bytes_max: u32,
    /// Listen even though another process of this user does. The kernel then spreads clients over both.
    pub share_port: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            connections_per_address: None,
            send_buffer_bytes: limits::SEND_BUFFER_BYTES,
            unsent_bytes_max: limits::UNSENT_BYTES_MAX,
            share_port: false,
        }
    }
}

/// A shard's listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Where it listens, the port resolved if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Why the relay cannot listen, and the likely remedy.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum BindError {
    #[error(
        "another process listens on {address} already; stop it, or choose another address with --listen (`ss -tlnp` shows who)"
    )]
    InUse { address: SocketAddr },
    #[error(
        "no permission to listen on {address}: ports below 1024 need CAP_NET_BIND_SERVICE; choose a port above"
    )]
    Forbidden { address: SocketAddr },
    #[error("{address} is not an address of this machine; choose one of its own, or 0.0.0.0 or [::] for all")]
    NotLocal { address: SocketAddr },
    #[error("cannot listen on {address}: {step}: {source}")]
    Other { address: SocketAddr, step: &'static str, source: io::Error },
}

/// Binds one listening socket per shard.
pub fn bind(address: SocketAddr, shards: u16, options: ListenOptions) -> Result<Vec<Listener>, BindError> {
    if !options.share_port {
        wait_until_free(address)?;
    }
    let first = listen(address, options)?;
    let address = first.local_addr();
    let mut listeners = vec![first];
    for _ in 1..shards {
        listeners.push(listen(address, options)?);
    }
    Ok(listeners)
}

/// With SO_REUSEPORT two processes of one user would share the port without a word; without it the kernel says so.
///
/// The kernel ends the rings of a process that was killed in the background, so its listener may outlive it for a moment.
fn wait_until_free(address: SocketAddr) -> Result<(), BindError> {
    for _ in 0..IN_USE_RETRIES {
        match open(address, None) {
            Err(BindError::InUse { .. }) => std::thread::sleep(IN_USE_RETRY_INTERVAL),
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
    }
    open(address, None).map(drop)
}

fn listen(address: SocketAddr, options: ListenOptions) -> Result<Listener, BindError> {
    let socket = open(address, Some(options))?;
    let failed = |step| move |source| BindError::Other { address, step, source };
    socket.listen(limits::LISTEN_BACKLOG as i32).map_err(failed("listen"))?;
    let socket = TcpListener::from(socket);
    let address = socket.local_addr().map_err(failed("asking for its port"))?;
    Ok(Listener { socket, address })
}

/// A bound socket; with `shared`, one of several on its port.
fn open(address: SocketAddr, shared: Option<ListenOptions>) -> Result<Socket, BindError> {
    let failed = |step| move |source| BindError::Other { address, step, source };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
    let socket = socket.map_err(failed("socket"))?;
    // A port whose last connections are in TIME_WAIT can be bound again.
    socket.set_reuse_address(true).map_err(failed("SO_REUSEADDR"))?;
    if let Some(options) = shared {
        socket.set_reuse_port(true).map_err(failed("SO_REUSEPORT"))?;
        socket.set_tcp_nodelay(true).map_err(failed("TCP_NODELAY"))?;
        socket.set_send_buffer_size(options.send_buffer_bytes).map_err(failed("SO_SNDBUF"))?;
        socket.set_tcp_notsent_lowat(options.unsent_bytes_max).map_err(failed("TCP_NOTSENT_LOWAT"))?;
    }
    socket.bind(&SockAddr::from(address)).map_err(|source| match Errno::from_io_error(&source) {
        Some(Errno::ADDRINUSE) => BindError::InUse { address },
        Some(Errno::ACCESS | Errno::PERM) => BindError::Forbidden { address },
        Some(Errno::ADDRNOTAVAIL) => BindError::NotLocal { address },
        _ => BindError::Other { address, step: "bind", source },
    })?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_PORT: &str = "127.0.0.1:0";

    #[test]
    fn all_shards_listen_on_the_port_that_the_first_one_got() {
        let listeners = bind(ANY_PORT.parse().unwrap(), 3, ListenOptions::default()).unwrap();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().port()).collect();
        assert!(ports[0] != 0 && ports == [ports[0]; 3], "{ports:?}");
    }

    #[test]
    fn a_port_in_use_is_an_error_unless_it_may_be_shared() {
        let first = bind(ANY_PORT.parse().unwrap(), 1, ListenOptions::default()).unwrap();
        let address = first[0].local_addr();
        let error = bind(address, 1, ListenOptions::default()).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        assert!(bind(address, 1, ListenOptions { share_port: true, ..ListenOptions::default() }).is_ok());
        drop(first);
        assert!(bind(address, 1, ListenOptions::default()).is_ok(), "free again after the last one closed");
    }

    #[test]
    fn a_foreign_address_is_named() {
        let error = bind("192.0.2.1:4000".parse().unwrap(), 1, ListenOptions::default()).unwrap_err();
        assert!(error.to_string().starts_with("192.0.2.1:4000 is not an address of this machine"), "{error}");
    }
}
