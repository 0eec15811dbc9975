//! A real redis-server, and random commands to compare with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use bytes::{Bytes, BytesMut};
use keyval::messages::client::Reply;
use keyval::resp::{Protocol, decode, encode};

use crate::speaker::Speaker;

/// A redis-server of our own on a port of its own, empty. Ends with the test.
pub struct Redis {
    process: Child,
    stream: TcpStream,
    input: BytesMut,
}

impl Redis {
    /// None where none is installed.
    pub fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let mut process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(process.stdout.take()?).lines();
        lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("Ready to accept connections")))?.ok()?;
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        Some(Self { process, stream, input: BytesMut::new() })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Speaker for Redis {
    fn call(&mut self, words: &[Bytes]) -> Reply {
        let mut out = BytesMut::new();
        encode(&Reply::Array(words.iter().cloned().map(Reply::Bulk).collect()), Protocol::Resp2, &mut out);
        self.stream.write_all(&out).expect("redis-server listens");
        loop {
            if let Some(reply) = decode(&mut self.input).expect("redis-server speaks RESP") {
                return reply;
            }
            let mut piece = [0; 64 << 10];
            let read = self.stream.read(&mut piece).expect("redis-server answers");
            assert!(read > 0, "redis-server closed the connection after {words:?}");
            self.input.extend_from_slice(&piece[..read]);
        }
    }
}

/// A stream of random commands, the same for the same seed (the generator is Vigna's SplitMix64).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.next() as usize % from.len()]
    }

    /// A command on few keys, so that they meet, with options that make sense and options that do not. Times are far away,
    /// so that it makes no difference when it is said. Not DBSIZE: Redis counts keys that ended before they began.
    pub fn command(&mut self) -> Vec<Bytes> {
        let name = self.pick(&[
            "GET",
            "SET",
            "SET",
            "SET",
            "SETNX",
            "SETEX",
            "PSETEX",
            "GETSET",
            "GETDEL",
            "GETEX",
            "GETEX",
            "APPEND",
            "STRLEN",
            "MGET",
            "MSET",
            "INCR",
            "DECR",
            "INCRBY",
            "DECRBY",
            "DEL",
            "UNLINK",
            "EXISTS",
            "TOUCH",
            "EXPIRE",
            "EXPIRE",
            "PEXPIRE",
            "EXPIREAT",
            "PEXPIREAT",
            "EXPIRETIME",
            "PEXPIRETIME",
            "PERSIST",
            "TYPE",
            "DBSIZE",
            "FLUSHALL",
        ]);
        let name = if name == "FLUSHALL" && !self.next().is_multiple_of(20) { "EXISTS" } else { name };
        let mut words = vec![name];
        let how_many = match name {
            "FLUSHALL" => 0,
            "MGET" | "DEL" | "UNLINK" | "EXISTS" | "TOUCH" | "MSET" => 1 + self.next() % 4,
            _ => 1,
        };
        for _ in 0..how_many {
            words.push(self.key());
            if name == "MSET" {
                words.push(self.value());
            }
        }
        match name {
            "SET" => {
                words.push(self.value());
                self.options(&mut words, &["NX", "XX", "GET", "KEEPTTL", "EX", "PX", "EXAT", "PXAT", "get", "FOO"]);
            }
            "GETEX" => self.options(&mut words, &["PERSIST", "EX", "PX", "EXAT", "PXAT", "persist", "FOO"]),
            "SETNX" | "GETSET" | "APPEND" => words.push(self.value()),
            "SETEX" | "PSETEX" => words.extend([self.time(), self.value()]),
            "INCRBY" | "DECRBY" => words.push(self.value()),
            // Two ends that are counted from now on are not compared: now is not the same.
            "EXPIRE" | "PEXPIRE" => {
                words.push(self.time());
                self.options(&mut words, &["NX", "XX", "nx", "FOO"]);
            }
            "EXPIREAT" | "PEXPIREAT" => {
                words.push(self.time());
                self.options(&mut words, &["NX", "XX", "GT", "LT", "nx", "FOO"]);
            }
            _ => {}
        }
        // Now and then a word too many or too few.
        match self.next() % 60 {
            0 => words.push("more"),
            1 => drop(words.pop()),
            _ => {}
        }
        if words.is_empty() {
            words.push(name);
        }
        words.into_iter().map(Bytes::from_static_str).collect()
    }

    fn key(&mut self) -> &'static str {
        self.pick(&["a", "b", "c", "{t}1", "{t}2", ""])
    }

    fn value(&mut self) -> &'static str {
        self.pick(&[
            "0",
            "1",
            "-1",
            "10",
            "007",
            "+1",
            " 1",
            "abc",
            "",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "1.5",
        ])
    }

    fn time(&mut self) -> &'static str {
        self.pick(&[
            "0",
            "-1",
            "-100",
            "x",
            "4102444800",
            "4102444800000",
            "5000000000000",
            "9223372036854775807",
            "9223372036854775",
            "9223372036854776",
            "-9223372036854775808",
            "92233720368547758070",
        ])
    }

    fn options(&mut self, words: &mut Vec<&'static str>, of: &[&'static str]) {
        while self.next() % 5 < 2 {
            let option = self.pick(of);
            words.push(option);
            if matches!(option, "EX" | "PX" | "EXAT" | "PXAT") && !self.next().is_multiple_of(10) {
                words.push(self.time());
            }
        }
    }
}

trait FromStaticStr {
    fn from_static_str(text: &'static str) -> Self;
}

impl FromStaticStr for Bytes {
    fn from_static_str(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes())
    }
}
