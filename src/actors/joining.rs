//! The postman of the joining machine: asks at addresses whether there is a mesh, until this node belongs to one.
//!
//! A name may stand for many addresses: each is asked. A node that meets itself there has met one that belongs to no mesh.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, WrapFuture};
use actix_rt::time::timeout;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::actors::calling::{CallError, Handshaken, call_at, resolve};
use crate::actors::node::Node;
use crate::actors::post::{Desk, Postman, deliver};
use crate::actors::supervisor::{Joined, Supervisor};
use crate::machines::joining::{self, Effect, Input};
use crate::messages::ownership::{JoinAnswer, JoinMessage};
use crate::messages::peer::{Lane, PeerRefusal};
use crate::types::Now;
use crate::wire::frame::{self, Frames};

/// How long an answer may take; the commander commits an admission before it answers.
const PATIENCE: Duration = Duration::from_secs(6);

impl actix::Message for Input {
    type Result = ();
}

/// The actor around the joining machine. It ends when this node belongs to a mesh.
pub struct Joining {
    node: Arc<Node>,
    desk: Desk<joining::Joining>,
    supervisor: Addr<Supervisor>,
}

impl Joining {
    /// With a machine that has asked nobody yet.
    pub fn new(node: Arc<Node>, machine: joining::Joining, supervisor: Addr<Supervisor>) -> Self {
        Self { node, desk: Desk::new(machine), supervisor }
    }
}

impl Actor for Joining {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.wind(context);
    }
}

impl Handler<Input> for Joining {
    type Result = ();

    fn handle(&mut self, input: Input, context: &mut Context<Self>) {
        self.tell(input, context);
    }
}

impl Postman for Joining {
    type Machine = joining::Joining;

    fn now(&self) -> Now {
        self.node.now()
    }

    fn desk(&mut self) -> &mut Desk<Self::Machine> {
        &mut self.desk
    }

    fn timer() -> Input {
        Input::Timer
    }

    fn perform(&mut self, effect: Effect, context: &mut Context<Self>) {
        match effect {
            Effect::Ask(address) => {
                let asking = ask_all(self.node.clone(), address, context.address());
                context.spawn(asking.into_actor(self));
            }
            Effect::Found => {
                deliver(&self.supervisor, Joined::Founder);
                context.stop();
            }
            Effect::Joined { mesh, .. } => {
                deliver(&self.supervisor, Joined::Member(mesh));
                context.stop();
            }
            Effect::Note(text) => tracing::info!("{text}"),
            Effect::End(reason) => self.node.end_by_error(reason),
        }
    }
}

async fn ask_all(node: Arc<Node>, address: String, joining: Addr<Joining>) {
    let places = match resolve(&address).await {
        Ok(places) => places,
        Err(error) => {
            return deliver(&joining, Input::Answered { address, answer: Err(error.to_string()) });
        }
    };
    for place in places {
        let (node, address, joining) = (node.clone(), address.clone(), joining.clone());
        actix_rt::spawn(async move {
            let answer = match timeout(PATIENCE, ask(&node, place)).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(CallError::Refused(refused)))
                    if refused.why == (PeerRefusal::WrongNode { mine: node.me.id }) =>
                {
                    Ok(JoinAnswer::NoMesh)
                }
                // This node was removed, or runs twice: no other address will say otherwise.
                Ok(Err(error)) if is_final(&error) => Ok(JoinAnswer::Refused(error.to_string())),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer in {PATIENCE:?}")),
            };
            deliver(&joining, Input::Answered { address, answer });
        });
    }
}

fn is_final(error: &CallError) -> bool {
    matches!(
        error.against_us(),
        Some(PeerRefusal::NotOnRoster { removed: true, .. } | PeerRefusal::BadSecret | PeerRefusal::BadVersion { .. })
    )
}

async fn ask(node: &Arc<Node>, place: SocketAddr) -> Result<JoinAnswer, CallError> {
    let Handshaken { mut stream, mut heard, .. } = call_at(node, place, None, Lane::Control).await?;
    let mut output = BytesMut::new();
    frame::push(&JoinMessage::Ask(node.me.clone()), frame::HANDSHAKE_LIMIT, &mut output)
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    stream.write_all_buf(&mut output).await?;
    loop {
        let malformed = |error: frame::FrameError| std::io::Error::other(error.to_string());
        if let Some(frame) = Frames::of(Lane::Control).next(&mut heard).map_err(malformed)? {
            return match frame::join_message(&frame).map_err(malformed)? {
                JoinMessage::Answer(answer) => Ok(answer),
                JoinMessage::Ask(_) => Err(CallError::HungUp),
            };
        }
        if stream.read_buf(&mut heard).await? == 0 {
            return Err(CallError::HungUp);
        }
    }
}
