//! Sockets before they connect, and how processes start: what the safe crates have no call for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal, setsid};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// How a socket is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening {
    /// The address it connects from; the port is chosen when it connects.
    pub source: Option<IpAddr>,
    /// A receive buffer of about this size instead of the default.
    pub receive_buffer_bytes: Option<usize>,
}

pub(super) fn open(target: &SockAddr, opening: Opening) -> io::Result<Socket> {
    let domain = if target.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    // A move must leave when it is sent, not when the last one has been acknowledged.
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = opening.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = opening.source {
        choose_port_late(&socket)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// Without it a bind takes a port for itself, whatever the connection's other end is, and there are few of them.
fn choose_port_late(socket: &Socket) -> io::Result<()> {
    let yes: libc::c_int = 1;
    // SAFETY: the kernel reads an int at the address, which is one that lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const yes).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Starts `command` in a session of its own: the scheduler shares processor time between sessions, and a Ctrl-C does not
/// reach it. It is told to end when the thread that starts it ends.
pub fn in_own_session(command: &mut Command) -> &mut Command {
    let prepare = || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        setsid()?;
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls may be made; these are two bare system calls.
    unsafe { command.pre_exec(prepare) }
}
