//! Listeners and connections, set up as the doors and the links want them.
//!
//! Small messages must not wait for larger ones (no delay), a peer that vanished without a word must be noticed by the
//! operating system too (keepalive, and between nodes a bound on unacknowledged bytes), and a node that is started again
//! must get its port back at once (reuse of the address). Nothing here knows what the bytes mean.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that wait to be accepted while a storm of clients comes back.
const BACKLOG: i32 = 1024;

/// After so long a silence the operating system asks whether a client is still there, and again so often.
const CLIENT_KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));

/// The same between nodes. Beacons notice sooner; this closes what nobody waits for any more.
const PEER_KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(2));

/// A listener at `address` (`host:port`; the first address that a name stands for), ready for an asynchronous runtime.
///
/// # Errors
/// When the address has no meaning, is in use, or may not be used.
pub fn listen(address: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name stands for no address");
    for address in address.to_socket_addrs()? {
        match listen_at(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Has the operating system allow this process as many open connections and files as it ever may. Gives how many that are.
pub fn allow_many() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, most).is_err() {
        return limit.current.unwrap_or(u64::MAX);
    }
    limit.maximum.unwrap_or(u64::MAX)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets up a client's connection.
///
/// # Errors
/// When the connection is already gone.
pub fn tune_client<'s>(stream: impl Into<SockRef<'s>>) -> io::Result<()> {
    tune(&stream.into(), CLIENT_KEEPALIVE)
}

/// Sets up a connection between nodes: what the other side does not acknowledge for `patience` breaks it.
///
/// # Errors
/// When the connection is already gone.
pub fn tune_peer<'s>(stream: impl Into<SockRef<'s>>, patience: Duration) -> io::Result<()> {
    let socket = stream.into();
    // Without this bound a cut link that heals would wait for the kernel's last, doubled, retransmission timer.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(patience))?;
    #[cfg(not(target_os = "linux"))]
    let _ = patience;
    tune(&socket, PEER_KEEPALIVE)
}

fn tune(socket: &SockRef<'_>, (idle, interval): (Duration, Duration)) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_said_to_be_so() {
        let first = listen("127.0.0.1:0").expect("any free port");
        let address = first.local_addr().expect("bound").to_string();
        let second = listen(&address).expect_err("taken");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_is_free_again_at_once() {
        let first = listen("127.0.0.1:0").expect("any free port");
        let address = first.local_addr().expect("bound");
        let client = std::net::TcpStream::connect(address).expect("listening");
        tune_client(&client).expect("connected");
        tune_peer(&client, Duration::from_secs(1)).expect("connected");
        drop((first, client));
        listen(&address.to_string()).expect("free again");
    }
}
