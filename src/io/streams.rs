//! Where bytes come from and go to: a socket, and in tests a pipe, behind one name.
//!
//! A build that anybody runs knows sockets alone, so that these types are the sockets under other names. In tests the nodes of a
//! whole mesh live on one thread (`ring`), where a pipe stands for a connection and whoever made the pipes decides what comes
//! through them, and when.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(test)]
use tokio::io::DuplexStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
#[cfg(test)]
use tokio::sync::mpsc::UnboundedReceiver;

use super::sockets;

/// Those who have called at a made-up door, each with its address.
#[cfg(test)]
pub type Callers = UnboundedReceiver<(Stream, SocketAddr)>;

/// A door at which nobody is heard yet. It may go to another thread.
#[derive(Debug)]
pub enum Listener {
    /// Of the operating system.
    Socket(TcpListener),
    /// Of a made-up network.
    #[cfg(test)]
    MadeUp(Callers),
}

/// A door at which somebody listens.
#[derive(Debug)]
pub enum Listening {
    /// Of the operating system.
    Socket(tokio::net::TcpListener),
    /// Of a made-up network.
    #[cfg(test)]
    MadeUp(Callers),
}

/// A connection. Both directions at once, as handshakes want it.
#[derive(Debug)]
pub enum Stream {
    /// Of the operating system.
    Socket(TcpStream),
    /// Of a made-up network.
    #[cfg(test)]
    Pipe(Pipe),
}

/// A connection on its way to another thread.
#[derive(Debug)]
pub enum Parcel {
    /// Of the operating system.
    Socket(std::net::TcpStream),
    /// Of a made-up network.
    #[cfg(test)]
    Pipe(Pipe),
}

/// One end of a made-up connection. Each direction is a pipe of its own, so that dropping one closes it as a socket's half does.
#[cfg(test)]
#[derive(Debug)]
pub struct Pipe {
    /// What comes.
    pub reader: DuplexStream,
    /// What goes.
    pub writer: DuplexStream,
    /// The address at which it came, or from which it went out.
    pub local: SocketAddr,
}

/// What comes by a connection.
#[derive(Debug)]
pub enum Reader {
    /// Of the operating system.
    Socket(OwnedReadHalf),
    /// Of a made-up network.
    #[cfg(test)]
    Pipe(DuplexStream),
}

/// What goes by a connection. Dropping it tells the other side that nothing more will.
#[derive(Debug)]
pub enum Writer {
    /// Of the operating system.
    Socket(OwnedWriteHalf),
    /// Of a made-up network.
    #[cfg(test)]
    Pipe(DuplexStream),
}

impl Listener {
    /// Listens, on this thread.
    ///
    /// # Errors
    /// When the door cannot be watched.
    pub fn open(self) -> io::Result<Listening> {
        match self {
            Self::Socket(listener) => tokio::net::TcpListener::from_std(listener).map(Listening::Socket),
            #[cfg(test)]
            Self::MadeUp(callers) => Ok(Listening::MadeUp(callers)),
        }
    }
}

impl Listening {
    /// The next who calls, and from where.
    ///
    /// # Errors
    /// When that one cannot be heard; another may be.
    pub async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Socket(listener) => listener.accept().await.map(|(stream, from)| (Stream::Socket(stream), from)),
            #[cfg(test)]
            Self::MadeUp(callers) => match callers.recv().await {
                Some(caller) => Ok(caller),
                None => std::future::pending().await,
            },
        }
    }
}

impl Stream {
    /// The address of this end.
    ///
    /// # Errors
    /// When the connection is already gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Socket(stream) => stream.local_addr(),
            #[cfg(test)]
            Self::Pipe(pipe) => Ok(pipe.local),
        }
    }

    /// Sets it up as a client's.
    ///
    /// # Errors
    /// When it is already gone.
    pub fn tune_client(&self) -> io::Result<()> {
        match self {
            Self::Socket(stream) => sockets::tune_client(stream),
            #[cfg(test)]
            Self::Pipe(_) => Ok(()),
        }
    }

    /// Sets it up as one between nodes; see [`sockets::tune_peer`].
    ///
    /// # Errors
    /// When it is already gone.
    pub fn tune_peer(&self, patience: Duration) -> io::Result<()> {
        match self {
            Self::Socket(stream) => sockets::tune_peer(stream, patience),
            #[cfg(test)]
            Self::Pipe(_) => Ok(()),
        }
    }

    /// Its two directions.
    pub fn split(self) -> (Reader, Writer) {
        match self {
            Self::Socket(stream) => {
                let (reader, writer) = stream.into_split();
                (Reader::Socket(reader), Writer::Socket(writer))
            }
            #[cfg(test)]
            Self::Pipe(pipe) => (Reader::Pipe(pipe.reader), Writer::Pipe(pipe.writer)),
        }
    }

    /// Takes leave of this thread.
    ///
    /// # Errors
    /// When it is already gone.
    pub fn pack(self) -> io::Result<Parcel> {
        match self {
            Self::Socket(stream) => stream.into_std().map(Parcel::Socket),
            #[cfg(test)]
            Self::Pipe(pipe) => Ok(Parcel::Pipe(pipe)),
        }
    }
}

impl Parcel {
    /// Arrives on this thread.
    ///
    /// # Errors
    /// When it is already gone.
    pub fn unpack(self) -> io::Result<Stream> {
        match self {
            Self::Socket(stream) => TcpStream::from_std(stream).map(Stream::Socket),
            #[cfg(test)]
            Self::Pipe(pipe) => Ok(Stream::Pipe(pipe)),
        }
    }
}

impl Reader {
    /// Ready when something may have come: before that a buffer need not be had. A pipe says so always.
    pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(reader) => reader.as_ref().poll_read_ready(context),
            #[cfg(test)]
            Self::Pipe(_) => Poll::Ready(Ok(())),
        }
    }
}

impl Writer {
    /// Writes what can be written without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when nothing can, another when the connection is gone.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(writer) => writer.try_write(bytes),
            #[cfg(test)]
            Self::Pipe(writer) => {
                match Pin::new(writer).poll_write(&mut Context::from_waker(std::task::Waker::noop()), bytes) {
                    Poll::Ready(written) => written,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).poll_read(context, into),
            #[cfg(test)]
            Self::Pipe(pipe) => Pin::new(&mut pipe.reader).poll_read(context, into),
        }
    }
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(reader) => Pin::new(reader).poll_read(context, into),
            #[cfg(test)]
            Self::Pipe(reader) => Pin::new(reader).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(test)]
            Self::Pipe(pipe) => Pin::new(&mut pipe.writer).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).poll_flush(context),
            #[cfg(test)]
            Self::Pipe(pipe) => Pin::new(&mut pipe.writer).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).poll_shutdown(context),
            #[cfg(test)]
            Self::Pipe(pipe) => Pin::new(&mut pipe.writer).poll_shutdown(context),
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(writer) => Pin::new(writer).poll_write(context, bytes),
            #[cfg(test)]
            Self::Pipe(writer) => Pin::new(writer).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(writer) => Pin::new(writer).poll_flush(context),
            #[cfg(test)]
            Self::Pipe(writer) => Pin::new(writer).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(writer) => Pin::new(writer).poll_shutdown(context),
            #[cfg(test)]
            Self::Pipe(writer) => Pin::new(writer).poll_shutdown(context),
        }
    }
}
