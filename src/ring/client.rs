//! A client of a ring: a connection to a door, over which the simulator's clients work (`sim::client`).

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::book::Book;
use super::network::Network;
use crate::io::streams::Stream;
use crate::messages::client::Reply;
use crate::resp::{self, Protocol};
use crate::sim::client::{Client, Habits};
use crate::sim::network::{Host, between};
use crate::sim::world::Told;

/// Clients' hosts are numbered from here.
const CLIENTS: usize = 1_000;

/// Few registers, so that clients meet.
const HABITS: Habits = Habits {
    keys: 12,
    writes: 50,
    others: 30,
    think: (Duration::from_millis(5), Duration::from_millis(60)),
    patience: Duration::from_secs(4),
};

/// How long a client waits before it goes to another door.
const ELSEWHERE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// One connection.
pub struct Connection {
    stream: Stream,
    input: BytesMut,
}

impl Connection {
    /// To a door.
    pub async fn to(network: &Arc<Network>, name: usize, door: SocketAddr) -> Option<Self> {
        let connecting = network.clone().connect(Host(CLIENTS + name), door);
        let stream = timeout(HABITS.patience, connecting).await.ok()?.ok()?;
        Some(Self { stream, input: BytesMut::new() })
    }

    /// Asks, and waits for the answer. Unless that is a reply, the connection is of no use any more.
    pub async fn ask(&mut self, words: Vec<Bytes>, patience: Duration) -> Told {
        match timeout(patience, self.call(words)).await {
            Ok(Some(reply)) => Told::Reply(reply),
            Ok(None) => Told::Lost,
            Err(_) => Told::Nothing,
        }
    }

    async fn call(&mut self, words: Vec<Bytes>) -> Option<Reply> {
        let mut output = BytesMut::new();
        let command = Reply::Array(words.into_iter().map(Reply::Bulk).collect());
        resp::encode(&command, Protocol::Resp2, &mut output);
        self.stream.write_all_buf(&mut output).await.ok()?;
        loop {
            if let Some(reply) = resp::decode(&mut self.input).expect("a node speaks the protocol") {
                return Some(reply);
            }
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// Works at these doors until the book is closed.
pub async fn work(book: Rc<Book>, name: usize, doors: Vec<SocketAddr>, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut client = Client::new(name as u64 + 1, Host(CLIENTS + name), HABITS);
    let mut connection = None;
    while book.is_open() {
        let Some(mut open) = connection.take() else {
            connection = Connection::to(&book.network, name, doors[random.gen_range(0..doors.len())]).await;
            sleep(between(&mut random, ELSEWHERE)).await; // not a guess: a client's pause between two doors
            continue;
        };
        let words = client.act(book.now(), book.ranges(), |range| book.generation(range), &mut random);
        let told = open.ask(words, HABITS.patience).await;
        let learnt = client.hear(book.now(), book.ranges(), |range| book.generation(range), &told);
        book.enter(name, &told, learnt);
        if matches!(told, Told::Reply(_)) && random.gen_ratio(49, 50) {
            connection = Some(open);
        }
        sleep(client.think(&mut random)).await; // not a guess: a client thinks
    }
}
