//! A client of a door, as `ctl`, `local` and `chaos` need one: one command, one reply, and nothing waits for ever.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use serde::de::DeserializeOwned;

use crate::messages::client::Reply;
use crate::resp;

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The door cannot be reached, or the connection broke.
    #[error("{at}: {error}{}", hint(.error))]
    Io {
        /// Which door.
        at: String,
        /// As the system says it.
        error: io::Error,
    },
    /// What answers there is no node of ours.
    #[error("{at}: this is no plain door of a keyval node: {why}")]
    Stranger {
        /// Which door.
        at: String,
        /// What was wrong with its answer.
        why: String,
    },
    /// The node says no, and why.
    #[error("{0}")]
    Refused(String),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => " (does a node run there? --at names another)",
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => " (no answer in time)",
        _ => "",
    }
}

/// A connection to one door.
pub struct Client {
    at: String,
    stream: TcpStream,
    input: BytesMut,
    patience: Duration,
}

impl Client {
    /// Connects, and says the password if there is one. No connection and no reply is waited for longer than `patience`.
    ///
    /// # Errors
    /// When nobody can be reached there, or the password is refused.
    pub fn connect(at: &str, password: Option<&str>, patience: Duration) -> Result<Self, ClientError> {
        let failed = |error| ClientError::Io { at: at.to_owned(), error };
        let stream = dial(at, patience).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut client = Self { at: at.to_owned(), stream, input: BytesMut::new(), patience };
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            client.call(&["AUTH", password])?;
        }
        Ok(client)
    }

    /// Says a command and waits for its reply; an error reply is an error here.
    ///
    /// # Errors
    /// When the connection breaks, the answer is none, or the node says no.
    pub fn call(&mut self, words: &[&str]) -> Result<Reply, ClientError> {
        match self.ask(words)? {
            Reply::Error(why) => Err(ClientError::Refused(why.into_owned())),
            reply => Ok(reply),
        }
    }

    /// The same for commands that answer with JSON: its text.
    ///
    /// # Errors
    /// As `call`, and when the answer is no text.
    pub fn text(&mut self, words: &[&str]) -> Result<String, ClientError> {
        match self.call(words)? {
            Reply::Bulk(bytes) => String::from_utf8(bytes.into()).map_err(|error| self.stranger(&error)),
            Reply::Verbatim(text) => Ok(text),
            other => Err(self.stranger(&format_args!("{other:?} is no text"))),
        }
    }

    /// The same, read.
    ///
    /// # Errors
    /// As `text`, and when it is no such JSON.
    pub fn json<T: DeserializeOwned>(&mut self, words: &[&str]) -> Result<T, ClientError> {
        let text = self.text(words)?;
        serde_json::from_str(&text).map_err(|error| self.stranger(&error))
    }

    /// Says a command and waits for its reply, whatever it is. After an error here the connection is of no more use: a reply
    /// that comes late would be taken for the next one's.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is none.
    pub fn ask(&mut self, words: &[&str]) -> Result<Reply, ClientError> {
        let deadline = Instant::now() + self.patience;
        self.stream.set_write_timeout(Some(self.patience)).map_err(|error| self.failed(error))?;
        self.stream.write_all(&command(words)).map_err(|error| self.failed(error))?;
        loop {
            match resp::decode(&mut self.input) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => self.read_before(deadline)?,
                Err(error) => return Err(self.stranger(&error)),
            }
        }
    }

    fn read_before(&mut self, deadline: Instant) -> Result<(), ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.failed(io::ErrorKind::TimedOut.into()));
        }
        let mut piece = [0; 16 << 10];
        let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut piece));
        match read {
            Ok(0) => Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => {
                self.input.put_slice(&piece[..length]);
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: io::Error) -> ClientError {
        ClientError::Io { at: self.at.clone(), error }
    }

    fn stranger(&self, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Stranger { at: self.at.clone(), why: why.to_string() }
    }
}

fn dial(at: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
    for address in at.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}
