//! One client's connection: its bytes to commands, their replies to bytes, in order.
//!
//! All commands that came in one read are one batch. What the connection itself knows is answered at once; what concerns keys
//! goes to the door of this thread as one message. While a batch is out nothing more is read: the client's next commands
//! wait in the operating system's buffers, so a connection never holds more than one batch, and a client that sends faster
//! than the mesh answers is slowed down rather than refused. Writing does not wait for reading: what is known is written at
//! once, and a reader that does not read is cut off by a limit and a deadline.

mod batch;
mod running;
mod shelf;

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFuture, Addr, AsyncContext, Context, Handler, Message};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::actors::clients::Client;
use crate::actors::door::{Answers, Door, Submit};
use crate::actors::gateway::{Ended, Gateway};
use crate::actors::node::Node;
use crate::actors::post::deliver;
use crate::io::streams::{Reader, Stream, Writer};
use crate::resp::{Parser, ProtocolError};
use batch::Batch;
use running::Speaker;
pub use shelf::Shelf;

/// So many commands, or requests to ranges, are one batch at most: what a client that asks for large values and does not
/// read them has us hold.
const COMMANDS: usize = 256;

/// A read takes at most so much.
const READ: usize = 64 << 10;

/// A buffer begins so small.
const SMALL: usize = 4 << 10;

/// Nothing more is read while so much waits to be written.
const UNREAD: usize = 256 << 10;

/// How long a new connection may say nothing.
const FIRST: Duration = Duration::from_secs(60);

/// How long a client may take over one command, and over reading what it is told, without any progress.
const STALLED: Duration = Duration::from_secs(30);

/// How long a client that is told goodbye may take to hear it.
const GOODBYE: Duration = Duration::from_secs(1);

/// The client's deadline is over.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Overdue;

/// This node ends: tell the client what is known, and close.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Part;

/// The answer to a command that another actor carries out.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Later {
    place: usize,
    reply: crate::messages::client::Reply,
}

/// The actor of one connection.
pub struct Session {
    node: Arc<Node>,
    client: Arc<Client>,
    door: Addr<Door>,
    gateway: Addr<Gateway>,
    reader: Option<Reader>,
    /// None once nothing more will be written.
    writer: Option<Writer>,
    parser: Parser,
    input: BytesMut,
    /// Input that was read may hold a whole command.
    unparsed: bool,
    batch: Batch,
    speaker: Speaker,
    shelf: Rc<RefCell<Shelf>>,
    output: BytesMut,
    /// A future waits for the client to read on.
    draining: bool,
    /// No more commands are heard.
    closing: bool,
    /// The client has closed its side.
    deserted: bool,
}

impl Session {
    /// With a connection of its own.
    pub fn new(
        node: Arc<Node>,
        client: Arc<Client>,
        door: Addr<Door>,
        stream: Stream,
        gateway: Addr<Gateway>,
        shelf: Rc<RefCell<Shelf>>,
    ) -> Self {
        let (reader, writer) = stream.split();
        let speaker = Speaker::new(&node, &client);
        let parser = Parser::new(speaker.limits());
        client.set_deadline(Some(node.now().instant + FIRST));
        Self {
            node,
            client,
            door,
            gateway,
            reader: Some(reader),
            writer: Some(writer),
            parser,
            input: BytesMut::new(),
            unparsed: false,
            batch: Batch::default(),
            speaker,
            shelf,
            output: BytesMut::new(),
            draining: false,
            closing: false,
            deserted: false,
        }
    }

    /// Whether more commands may come in.
    fn hears(&self) -> bool {
        !self.closing && self.batch.is_done() && self.output.len() < UNREAD
    }

    /// Carries out what has come, as one batch.
    fn digest(&mut self, context: &mut Context<Self>) {
        self.unparsed = false;
        self.speaker.begin(&self.node);
        let (mut commands, before) = (0, self.input.len());
        while !self.closing {
            if self.batch.len() >= COMMANDS || self.batch.requests() >= COMMANDS {
                self.unparsed = true;
                break;
            }
            match self.parser.next(&mut self.input) {
                Ok(Some(words)) => {
                    commands += 1;
                    self.on_command(words, context);
                }
                Ok(None) => break,
                Err(error) => {
                    self.batch.ready(self.speaker.protocol(), error.reply());
                    self.closing = true;
                }
            }
        }
        if self.input.len() > self.node.settings.client.query_limit {
            self.batch.ready(self.speaker.protocol(), ProtocolError::CommandTooBig.reply());
            self.closing = true;
        }
        self.speaker.note(&self.client, self.node.now().wall_ms);
        self.node.clients.heard(commands, (before - self.input.len()) as u64);
        if self.input.is_empty() {
            // A connection that has nothing to say holds no buffer.
            self.input = BytesMut::new();
        }
        self.submit(context);
        self.settle(context);
    }

    fn submit(&mut self, context: &mut Context<Self>) {
        let requests = self.batch.take_requests();
        if requests.is_empty() {
            return;
        }
        let submit = Submit {
            session: context.address(),
            client: self.client.id,
            requests,
            passes_on: self.speaker.passes_on(),
        };
        // Never more than one a client, and there are at most client.max_clients of them.
        deliver(&self.door, submit);
    }

    /// Writes what is known, sets the next deadline, and closes when all is said.
    fn settle(&mut self, context: &mut Context<Self>) {
        self.batch.write(&mut self.output, |text| self.node.clients.erred(text));
        self.flush(context);
        let limit = self.node.settings.client.output_limit;
        if self.output.len() > limit {
            tracing::info!(client = %self.client.from, bytes = self.output.len(), "cut off: it does not read what it asked for");
            return context.stop();
        }
        let now = self.node.now().instant;
        let idle = self.node.settings.client.idle_timeout;
        let patience = match () {
            () if self.closing || !self.output.is_empty() || !self.input.is_empty() => Some(STALLED),
            () if self.batch.is_done() => idle,
            () => None,
        };
        self.client.set_deadline(patience.map(|patience| now + patience));
        if self.closing && self.batch.is_done() && self.output.is_empty() {
            self.say_goodbye(context);
        }
    }

    fn flush(&mut self, context: &mut Context<Self>) {
        while !self.output.is_empty() {
            let Some(writer) = &mut self.writer else {
                self.output.clear();
                return;
            };
            match writer.try_write(&self.output) {
                Ok(count) => self.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !std::mem::replace(&mut self.draining, true) {
                        context.spawn(Draining);
                    }
                    return;
                }
                Err(_) => return context.stop(),
            }
        }
        // A large buffer is not kept by a connection that has nothing to say.
        if self.output.capacity() > UNREAD {
            self.output = BytesMut::new();
        }
    }

    fn wrote(&mut self, count: usize) {
        self.output.advance(count);
        self.node.clients.told(count as u64);
    }

    /// Closes our side, and waits a little for the client's: closing at once would take back what it has not read yet.
    fn say_goodbye(&mut self, context: &mut Context<Self>) {
        if self.deserted {
            return context.stop();
        }
        if self.writer.take().is_some() {
            context.run_later(GOODBYE, |_, context| context.stop());
        }
    }
}

/// Reads as long as the session hears.
struct Reading(Reader);

impl ActorFuture<Session> for Reading {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        session: &mut Session,
        context: &mut Context<Session>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        // Now and then the others of this thread have their turn.
        for _ in 0..16 {
            if session.unparsed && session.hears() {
                session.digest(context);
                continue;
            }
            if !session.hears() && session.writer.is_some() {
                return Poll::Pending;
            }
            let Poll::Ready(read) = self.0.poll_read_ready(task) else { return Poll::Pending };
            let goodbye = session.writer.is_none();
            let wanted = session.parser.wanting(&session.input).clamp(SMALL, READ);
            session.input.reserve(wanted);
            let read = match read {
                Ok(()) => match pin!(self.0.read_buf(&mut session.input)).poll(task) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(read) => read,
                },
                Err(error) => Err(error),
            };
            match read {
                Ok(0) | Err(_) if goodbye => {
                    context.stop();
                    return Poll::Ready(());
                }
                Ok(_) if goodbye => session.input.clear(),
                // The client has said all it wanted; it may still read.
                Ok(0) => {
                    session.closing = true;
                    session.deserted = true;
                    session.settle(context);
                    return Poll::Ready(());
                }
                Ok(_) => session.digest(context),
                Err(_) => {
                    context.stop();
                    return Poll::Ready(());
                }
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Writes on when the client has read.
struct Draining;

impl ActorFuture<Session> for Draining {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        session: &mut Session,
        context: &mut Context<Session>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        loop {
            let Some(writer) = &mut session.writer else { return Poll::Ready(()) };
            match Pin::new(writer).poll_write(task, &session.output) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) => session.wrote(count),
                Poll::Ready(Err(_)) => {
                    context.stop();
                    return Poll::Ready(());
                }
            }
            session.settle(context);
            if session.output.is_empty() {
                session.draining = false;
                // Reading may go on.
                task.waker().wake_by_ref();
                return Poll::Ready(());
            }
        }
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let reader = self.reader.take().expect("started once");
        context.spawn(Reading(reader));
    }

    fn stopped(&mut self, _context: &mut Context<Self>) {
        deliver(&self.gateway, Ended(self.client.id));
    }
}

impl Handler<Answers> for Session {
    type Result = ();

    fn handle(&mut self, Answers(answers): Answers, context: &mut Context<Self>) {
        for (place, reply) in answers {
            self.batch.answer(place, reply);
        }
        self.settle(context);
    }
}

impl Handler<Later> for Session {
    type Result = ();

    fn handle(&mut self, later: Later, context: &mut Context<Self>) {
        self.batch.answer_later(later.place, later.reply);
        self.settle(context);
    }
}

impl Handler<Overdue> for Session {
    type Result = ();

    fn handle(&mut self, _: Overdue, context: &mut Context<Self>) {
        tracing::debug!(client = %self.client.from, "closed: it has waited too long");
        context.stop();
    }
}

impl Handler<Part> for Session {
    type Result = ();

    fn handle(&mut self, _: Part, context: &mut Context<Self>) {
        self.closing = true;
        self.batch.give_up();
        self.settle(context);
    }
}
