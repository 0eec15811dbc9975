//! The clients' doors: accepts connections and deals them out to the workers, one session each.
//!
//! One gateway on each worker thread owns the sessions of that thread; the first one also holds the two listeners. Once a
//! second it looks for connections that have waited too long: without a first command, in the middle of one, or for a reader
//! that does not read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use actix_rt::time::sleep;
use tokio::io::AsyncWriteExt;

use crate::actors::clients::Client;
use crate::actors::node::Node;
use crate::actors::post::{deliver, offer};
use crate::actors::session::{Overdue, Part, Session, Shelf};
use crate::actors::surroundings::Thread;
use crate::commands::errors;
use crate::commands::view::Door;
use crate::io::streams::{Listener, Parcel, Stream};
use crate::messages::client::Reply;
use crate::resp::{self, Protocol};

/// How often connections that have waited too long are looked for.
const ROUND: Duration = Duration::from_secs(1);

/// The listeners of the clients' doors.
pub struct Doors {
    /// The plain door.
    pub plain: Listener,
    /// The cluster door.
    pub cluster: Listener,
}

/// A connection for a worker's gateway.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Accepted {
    stream: Parcel,
    client: Arc<Client>,
}

/// Listen at these doors and deal the connections out to all gateways.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Open {
    listeners: Vec<(Listener, Door)>,
    gateways: Vec<Addr<Gateway>>,
}

/// Accept nobody any more, and let the sessions part from their clients.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Close;

/// A session has ended.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Ended(pub u64);

/// The actor at the clients' doors of one worker.
pub struct Gateway {
    node: Arc<Node>,
    worker: usize,
    sessions: BTreeMap<u64, (Arc<Client>, Addr<Session>)>,
    sweeping: bool,
    /// Of all sessions of this worker; made on its thread.
    shelf: Rc<RefCell<Shelf>>,
}

impl Gateway {
    /// Starts one on each worker. Only when all are there, the first one opens the doors.
    pub fn start_all(node: &Arc<Node>, doors: Doors) {
        let start = |(worker, thread): (usize, &Thread)| {
            let node = node.clone();
            thread.start(move |_| Gateway {
                node,
                worker,
                sessions: BTreeMap::new(),
                sweeping: false,
                shelf: Rc::default(),
            })
        };
        let gateways: Vec<Addr<Gateway>> = node.crew().threads.iter().enumerate().map(start).collect();
        node.set_gateways(gateways.clone());
        let listeners = vec![(doors.plain, Door::Plain), (doors.cluster, Door::Cluster)];
        deliver(&gateways[0], Open { listeners, gateways: gateways.clone() });
    }

    fn sweep(&mut self, context: &mut Context<Self>) {
        let now = self.node.now().instant;
        for (client, session) in self.sessions.values() {
            if client.deadline().is_some_and(|deadline| deadline <= now) {
                offer(session, Overdue);
            }
        }
        self.sweeping = !self.sessions.is_empty();
        if self.sweeping {
            context.run_later(ROUND, Self::sweep);
        }
    }
}

async fn listen(node: Arc<Node>, listener: Listener, kind: Door, gateways: Vec<Addr<Gateway>>) {
    let mut listener = match listener.open() {
        Ok(listener) => listener,
        Err(error) => return node.end_by_error(format!("a clients' door cannot be watched: {error}")),
    };
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a client could not be accepted");
                // Not a guess: most often too many open files, and clients may close theirs meanwhile.
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Some(refusal) = refusal(&node, from) {
            actix_rt::spawn(turn_away(stream, refusal));
            continue;
        }
        let local = stream.local_addr().unwrap_or(from);
        let Ok(stream) = stream.pack() else { continue };
        let client = node.clients.enter(from, local, kind, node.now().wall_ms);
        let gateway = &gateways[(client.id % gateways.len() as u64) as usize];
        deliver(gateway, Accepted { stream, client });
    }
}

/// Why this client is not heard at all.
fn refusal(node: &Node, from: SocketAddr) -> Option<Reply> {
    let settings = &node.settings.client;
    if node.clients.count() >= settings.max_clients {
        node.clients.refuse();
        return Some(errors::max_clients());
    }
    let is_local = from.ip().to_canonical().is_loopback();
    let open = !settings.protected || settings.password.is_set() || is_local;
    (!open).then(errors::protected)
}

async fn turn_away(mut stream: Stream, refusal: Reply) {
    let mut output = bytes::BytesMut::new();
    resp::encode(&refusal, Protocol::Resp2, &mut output);
    let _ = stream.write_all(&output).await;
    let _ = stream.shutdown().await;
}

impl Actor for Gateway {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(self.node.surroundings.mailbox());
    }

    fn stopped(&mut self, _context: &mut Context<Self>) {
        if !self.node.is_closing() {
            self.node.end_by_error("a gateway stopped");
        }
    }
}

impl Handler<Open> for Gateway {
    type Result = ();

    fn handle(&mut self, Open { listeners, gateways }: Open, context: &mut Context<Self>) {
        for (listener, kind) in listeners {
            context.spawn(listen(self.node.clone(), listener, kind, gateways.clone()).into_actor(self));
        }
    }
}

impl Handler<Accepted> for Gateway {
    type Result = ();

    fn handle(&mut self, accepted: Accepted, context: &mut Context<Self>) {
        let Accepted { stream, client } = accepted;
        let stream = stream.unpack().and_then(|stream| stream.tune_client().map(|()| stream));
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "a client left before it was heard");
                self.node.clients.leave(client.id);
                return;
            }
        };
        let door = self.node.crew().doors[self.worker].clone();
        let (node, shelf) = (self.node.clone(), self.shelf.clone());
        let session = Session::new(node, client.clone(), door, stream, context.address(), shelf).start();
        self.sessions.insert(client.id, (client, session));
        if !self.sweeping {
            self.sweeping = true;
            context.run_later(ROUND, Self::sweep);
        }
    }
}

impl Handler<Ended> for Gateway {
    type Result = ();

    fn handle(&mut self, Ended(id): Ended, _context: &mut Context<Self>) {
        self.sessions.remove(&id);
        self.node.clients.leave(id);
    }
}

impl Handler<Close> for Gateway {
    type Result = ();

    fn handle(&mut self, _: Close, context: &mut Context<Self>) {
        for (_, session) in self.sessions.values() {
            deliver(session, Part);
        }
        // The listeners close with this actor.
        context.stop();
    }
}
