//! Dialling a peer, answering one that dials, and the handshake in both cases.
//!
//! `wire::handshake` decides who is heard; here its bytes are carried, within its time limit. What is to be said to a side
//! that is refused is said before the connection is closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::time::timeout;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::lookup_host;

use crate::actors::node::Node;
use crate::io::streams::Stream;
use crate::messages::peer::{Lane, PeerRefusal};
use crate::types::NodeId;
use crate::wire::handshake::{Called, Caller, Peer, Refused, Side, TIME_LIMIT};

/// How long a connection may take to be had, before the handshake.
const CONNECT: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The operating system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nobody answered in time.
    #[error("no answer in {0:?}")]
    Slow(Duration),
    /// The other side hung up in the middle of the handshake.
    #[error("closed in the middle of the handshake")]
    HungUp,
    /// One side would not speak with the other.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A name that stands for nothing.
    #[error("the name stands for no address")]
    NoAddress,
}

impl CallError {
    /// What the other side said against us, if it did.
    pub fn against_us(&self) -> Option<&PeerRefusal> {
        match self {
            Self::Refused(Refused { by: Side::Theirs, why }) => Some(why),
            _ => None,
        }
    }
}

/// A connection on which the handshake has succeeded.
pub struct Handshaken {
    /// Who is there.
    pub peer: Peer,
    /// The connection.
    pub stream: Stream,
    /// What has come behind the handshake.
    pub heard: BytesMut,
}

/// All addresses that `host:port` stands for now.
///
/// # Errors
/// When it cannot be resolved.
pub async fn resolve(address: &str) -> Result<Vec<SocketAddr>, CallError> {
    let found = timeout(CONNECT * 2, lookup_host(address)).await.map_err(|_| CallError::Slow(CONNECT * 2))??;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err(CallError::NoAddress) } else { Ok(addresses) }
}

/// Calls a node at the address that the roster gives for it: at each that the name stands for, until it answers at one.
///
/// # Errors
/// The last thing that went wrong.
pub async fn call(node: &Arc<Node>, address: &str, to: NodeId, lane: Lane) -> Result<Handshaken, CallError> {
    let mut last = CallError::NoAddress;
    for address in resolve(address).await? {
        match call_at(node, address, Some(to), lane).await {
            Ok(handshaken) => return Ok(handshaken),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Calls whoever is at one address.
///
/// # Errors
/// When there is nobody, or one side refuses the other.
pub async fn call_at(
    node: &Arc<Node>,
    address: SocketAddr,
    to: Option<NodeId>,
    lane: Lane,
) -> Result<Handshaken, CallError> {
    let stream = timeout(CONNECT, node.surroundings.connect(address)).await.map_err(|_| CallError::Slow(CONNECT))??;
    stream.tune_peer(node.patience())?;
    timeout(TIME_LIMIT, greet(node, stream, to, lane)).await.map_err(|_| CallError::Slow(TIME_LIMIT))?
}

async fn greet(node: &Arc<Node>, mut stream: Stream, to: Option<NodeId>, lane: Lane) -> Result<Handshaken, CallError> {
    let mut output = BytesMut::new();
    let mut input = BytesMut::with_capacity(512);
    let known = node.known();
    let mut caller = Caller::new(&known, to, lane, node.surroundings.random(), &mut output);
    loop {
        stream.write_all_buf(&mut output).await?;
        if stream.read_buf(&mut input).await? == 0 {
            return Err(CallError::HungUp);
        }
        let heard = caller.hear(&known, &mut input, &mut output);
        if let Some(peer) = heard? {
            stream.write_all_buf(&mut output).await?;
            return Ok(Handshaken { peer, stream, heard: input });
        }
    }
}

/// Answers one that has called.
///
/// # Errors
/// When one side refuses the other, or it takes too long.
pub async fn answer(node: &Arc<Node>, stream: Stream) -> Result<Handshaken, CallError> {
    stream.tune_peer(node.patience())?;
    timeout(TIME_LIMIT, be_greeted(node, stream)).await.map_err(|_| CallError::Slow(TIME_LIMIT))?
}

async fn be_greeted(node: &Arc<Node>, mut stream: Stream) -> Result<Handshaken, CallError> {
    let mut output = BytesMut::new();
    let mut input = BytesMut::with_capacity(512);
    // As of one instant: both proofs sign what was known when the handshake began.
    let known = node.known();
    let mut called = Called::new(node.surroundings.random());
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Err(CallError::HungUp);
        }
        let heard = called.hear(&known, &mut input, &mut output);
        stream.write_all_buf(&mut output).await?;
        match heard {
            Ok(None) => {}
            Ok(Some(peer)) => return Ok(Handshaken { peer, stream, heard: input }),
            Err(refused) => {
                let _ = stream.shutdown().await;
                return Err(refused.into());
            }
        }
    }
}
