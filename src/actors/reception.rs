//! The peer door: hears who calls, and sees each caller to the thread of its lane.
//!
//! A stranger is told why it is not heard, and closed. One that belongs to no mesh may ask to join, once, and is closed after
//! the answer. All others deliver until their connection breaks, their life is over, or the roster drops them.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use actix_rt::time::{sleep, timeout};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, oneshot};

use crate::actors::calling::{CallError, Handshaken, answer};
use crate::actors::connection::{Connection, Ended, Party};
use crate::actors::exchange::outbox;
use crate::actors::node::Node;
use crate::actors::outbox::Standing;
use crate::actors::ownership::AskToJoin;
use crate::actors::post::{deliver, offer};
use crate::actors::postroom::Postroom;
use crate::actors::switchboard::{Call, Heard};
use crate::io::streams::{Listener, Stream};
use crate::machines::store;
use crate::messages::ownership::{JoinAnswer, JoinMessage};
use crate::messages::peer::Lane;
use crate::wire::frame::{self, Frames, HANDSHAKE_LIMIT};

/// Handshakes that go on at once. More callers wait in the operating system's queue.
const AT_ONCE: usize = 512;

/// How long a node that asks to join may take, and how long the commander.
const ASKING: Duration = Duration::from_secs(2);
const ADMITTING: Duration = Duration::from_secs(5);

/// The actor at the peer door.
pub struct Reception {
    node: Arc<Node>,
    listener: Option<Listener>,
}

impl Reception {
    /// At this listener.
    pub fn new(node: Arc<Node>, listener: Listener) -> Self {
        Self { node, listener: Some(listener) }
    }
}

impl Actor for Reception {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let listener = self.listener.take().expect("started once");
        let listening = listen(self.node.clone(), listener);
        context.spawn(listening.into_actor(self).map(|(), _, context| context.stop()));
    }

    fn stopped(&mut self, _context: &mut Context<Self>) {
        self.node.end_by_error("the peer door closed");
    }
}

async fn listen(node: Arc<Node>, listener: Listener) {
    let mut listener = match listener.open() {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the peer door cannot be watched"),
    };
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let place = room.clone().acquire_owned().await.expect("never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let node = node.clone();
                actix_rt::spawn(async move {
                    let heard = answer(&node, stream).await;
                    drop(place);
                    receive(node, heard).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a peer could not be accepted");
                // Not a guess: most often too many open files, and others may close theirs meanwhile.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn receive(node: Arc<Node>, heard: Result<Handshaken, CallError>) {
    match heard {
        Ok(caller) if caller.peer.joining => {
            if let Err(error) = welcome(&node, caller).await {
                tracing::debug!(%error, "a node that asked to join was not answered");
            }
        }
        Ok(caller) => see_to_its_thread(node, caller),
        Err(error @ CallError::Refused(_)) => tracing::info!("a caller at the peer door: {error}"),
        Err(error) => tracing::debug!("a caller at the peer door: {error}"),
    }
}

/// A stranger asks to join; the connection ends with the answer.
async fn welcome(node: &Arc<Node>, caller: Handshaken) -> Result<(), CallError> {
    let Handshaken { mut stream, mut heard, .. } = caller;
    let asked = timeout(ASKING, ask(&mut stream, &mut heard)).await.map_err(|_| CallError::Slow(ASKING))?;
    let Some(JoinMessage::Ask(candidate)) = asked? else { return Err(CallError::HungUp) };
    let answer = if node.mesh().is_none() {
        let settings = &node.settings.mesh;
        let founds = settings.found || settings.join.is_empty();
        if founds { JoinAnswer::Founding { node: node.me.id } } else { JoinAnswer::NoMesh }
    } else {
        let (sender, receiver) = oneshot::channel();
        offer(&node.crew().ownership, AskToJoin { candidate, answer: sender });
        match timeout(ADMITTING, receiver).await {
            Ok(Ok(answer)) => answer,
            _ => JoinAnswer::Later { mesh: node.mesh().expect("looked at above") },
        }
    };
    let mut output = BytesMut::new();
    frame::push(&JoinMessage::Answer(answer), frame::CONTROL_LIMIT, &mut output).expect("an answer is short");
    stream.write_all_buf(&mut output).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn ask(stream: &mut Stream, heard: &mut BytesMut) -> Result<Option<JoinMessage>, CallError> {
    loop {
        match Frames::new(HANDSHAKE_LIMIT).next(heard) {
            Ok(Some(frame)) => return Ok(frame::join_message(&frame).ok()),
            Ok(None) => {}
            Err(_) => return Ok(None),
        }
        if stream.read_buf(heard).await? == 0 {
            return Err(CallError::HungUp);
        }
    }
}

/// Control stays on this thread; what carries data goes to a worker's.
fn see_to_its_thread(node: Arc<Node>, caller: Handshaken) {
    let Handshaken { peer, stream, heard } = caller;
    let party = Party { node: peer.node, incarnation: peer.incarnation, lane: peer.lane };
    if party.lane == Lane::Control {
        actix_rt::spawn(attend(node, party, stream, heard));
        return;
    }
    let stream = match stream.pack() {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "a peer's connection was lost on its way to a worker"),
    };
    let threads = &node.crew().threads;
    let worker = threads[(party.node.0 % threads.len() as u64) as usize].clone();
    worker.spawn(async move {
        match stream.unpack() {
            Ok(stream) => attend(node, party, stream, heard).await,
            Err(error) => tracing::warn!(%error, "a peer's connection was lost on its way to a worker"),
        }
    });
}

/// Hears a peer until its connection ends.
async fn attend(node: Arc<Node>, party: Party, stream: Stream, heard: BytesMut) {
    let back = outbox(party.lane, Standing::Up);
    let last = Arc::new(Heard::new(node.now().instant));
    let call = Call { incarnation: party.incarnation, back: back.clone(), heard: last.clone() };
    node.switchboard.called(party.node, party.lane, call);
    tell_stores(&node, party, store::Input::LinkUp);
    let connection = Connection { party, stream, heard, outbox: back.clone(), last };
    let postroom = Postroom::new(node.clone());
    let outlived = node.clone().outlived(party);
    let why = tokio::select! {
        biased;
        (why, _) = connection.carry(&postroom) => why,
        () = outlived => Ended::Outlived,
    };
    back.stand(Standing::Down);
    let peer = node.name_of(party.node);
    match why {
        Ended::Closed | Ended::Io(_) | Ended::Outlived => {
            tracing::debug!(peer, lane = ?party.lane, "call ended: {why}")
        }
        _ => tracing::warn!(peer, lane = ?party.lane, "call ended: {why}"),
    }
    if node.switchboard.hung_up(party.node, party.lane, &back) {
        tell_stores(&node, party, store::Input::LinkDown);
    }
}

/// What a peer said to our stores may have been lost with its connection too, not only what they said to it.
fn tell_stores(node: &Node, party: Party, input: fn(crate::types::NodeId) -> store::Input) {
    if party.lane == Lane::Data {
        for store in &node.crew().stores {
            deliver(store, input(party.node));
        }
    }
}
