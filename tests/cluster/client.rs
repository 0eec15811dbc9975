//! A client that knows nothing of keyval but docs/protocol.md: RESP2 over a socket, one command at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A reply, as far as the stories look at it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+...`
    Simple(String),
    /// `-...`
    Error(String),
    /// `:...`
    Integer(i64),
    /// `$...`, as text.
    Bulk(String),
    /// Nothing.
    Null,
    /// `*...`
    Array(Vec<Reply>),
}

impl Reply {
    /// The text of a simple or bulk reply, or a number's.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Simple(text) | Self::Bulk(text) => Some(text.clone()),
            Self::Integer(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Of a flat list of names and values, the value of a name.
    pub fn field(&self, name: &str) -> Option<Reply> {
        let Self::Array(items) = self else { return None };
        items.chunks(2).find(|pair| pair[0].text().as_deref() == Some(name)).map(|pair| pair[1].clone())
    }
}

/// A connection to one door.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects, and gives up on a reply after `patience`.
    pub fn connect(address: &str, patience: Duration) -> io::Result<Self> {
        let address = address.parse().map_err(io::Error::other)?;
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// One command, one reply.
    pub fn ask(&mut self, words: &[&str]) -> io::Result<Reply> {
        self.send(words)?;
        self.reply()
    }

    /// Sends a command without waiting.
    pub fn send(&mut self, words: &[&str]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
        }
        self.raw(&bytes)
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the door closed the connection"));
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| io::Error::other("an empty line"))?;
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse().map_err(io::Error::other)?),
            "$" if rest == "-1" => Reply::Null,
            "*" if rest == "-1" => Reply::Null,
            "$" => {
                let length: usize = rest.parse().map_err(io::Error::other)?;
                let mut bytes = vec![0; length + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Reply::Bulk(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" => {
                let length: usize = rest.parse().map_err(io::Error::other)?;
                Reply::Array((0..length).map(|_| self.reply()).collect::<io::Result<_>>()?)
            }
            _ => return Err(io::Error::other(format!("not a RESP2 reply: {line}"))),
        })
    }
}
