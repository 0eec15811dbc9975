//! Operators' commands, `MESH ...`: most are told from what this node knows, orders wait for the commander, and who watches
//! waits for something to happen.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use actix_rt::time::timeout;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::actors::node::Node;
use crate::actors::ownership::{Ordering, Verifying};
use crate::actors::post::offer;
use crate::commands::mesh;
use crate::messages::client::Reply;
use crate::messages::ownership::Order;
use crate::types::RangeId;

/// How long an operator waits for the commander.
const PATIENCE: Duration = Duration::from_secs(10);

/// How an operator's command is answered.
pub enum Answer {
    /// At once.
    Now(Reply),
    /// When the commander has, or something has happened.
    Later(Pin<Box<dyn Future<Output = Reply>>>),
}

/// Answers an operator's command.
pub fn mesh(node: &Arc<Node>, words: &[Bytes]) -> Answer {
    match with_view(node, |view| mesh::answer(view, words)) {
        mesh::Answer::Reply(reply) => Answer::Now(reply),
        mesh::Answer::Order(order) => Answer::Later(Box::pin(give(node.clone(), order))),
        mesh::Answer::Verify(range) => Answer::Later(Box::pin(verify(node.clone(), range))),
        mesh::Answer::Watch { after } => Answer::Later(Box::pin(watch(node.clone(), after))),
    }
}

/// What this node knows, as the commands want it.
pub fn with_view<T>(node: &Node, tell: impl FnOnce(&mesh::View<'_>) -> T) -> T {
    let published = node.adopted();
    let chronicle = node.chronicle.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ailing = BTreeMap::new();
    let own = node.ailing();
    if !own.is_empty() {
        ailing.insert(node.me.id, own);
    }
    let asking: &[String] = if node.mesh().is_none() { &node.settings.mesh.join } else { &[] };
    tell(&mesh::View {
        now: node.now(),
        me: &node.me,
        published: published.as_deref(),
        leases: None,
        ailing: &ailing,
        progress: node.progress(),
        asking,
        chronicle: &chronicle,
    })
}

async fn give(node: Arc<Node>, order: Order) -> Reply {
    let (answer, answered) = oneshot::channel();
    if !offer(&node.crew().ownership, Ordering { order, answer }) {
        return mesh::ordered(Err("this node has too much to do; try again".into()));
    }
    match timeout(PATIENCE, answered).await {
        Ok(Ok(result)) => mesh::ordered(result),
        Ok(Err(_)) => mesh::ordered(Err("this node cannot bring the order to a commander".into())),
        Err(_) => {
            Reply::error(format!("UNCERTAIN the commander has not answered in {PATIENCE:?}; look before you repeat it"))
        }
    }
}

/// However long it takes: the machine asks for nothing in vain for ever.
async fn verify(node: Arc<Node>, range: Option<RangeId>) -> Reply {
    let (answer, answered) = oneshot::channel();
    if !offer(&node.crew().ownership, Verifying { range, answer }) {
        return mesh::verified(Err("this node has too much to do; try again".into()));
    }
    mesh::verified(answered.await.unwrap_or_else(|_| Err("this node is ending".into())))
}

async fn watch(node: Arc<Node>, after: u64) -> Reply {
    let happened = node.happened.notified();
    tokio::pin!(happened);
    // Registered before the look: what happens in between is not missed.
    happened.as_mut().enable();
    if node.chronicle.lock().unwrap_or_else(PoisonError::into_inner).last() == after {
        let _ = timeout(mesh::WATCH_PATIENCE, happened).await;
    }
    with_view(&node, |view| mesh::watched(view, after))
}
