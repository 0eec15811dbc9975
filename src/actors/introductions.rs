//! Finding members of the mesh elsewhere than the roster says: at the addresses of `mesh.join`.
//!
//! When all nodes of a mesh come back with new addresses, as containers do, nobody finds anybody by the roster, and the roster
//! cannot change before a majority has met. The names in `mesh.join` still lead to members: who answers there says its id, and
//! its links call there too. At the start these addresses are asked once in any case: one that belongs to another mesh says
//! that this data directory does not belong here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::time::sleep;

use crate::actors::calling::{CallError, call_at, resolve};
use crate::actors::node::Node;
use crate::messages::peer::{Lane, PeerRefusal};

/// Pauses between two rounds while members are missing: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// Asks at `mesh.join` now, and again as long as members are missing.
pub async fn introduce(node: Arc<Node>) {
    if node.settings.mesh.join.is_empty() {
        return;
    }
    if let Err(why) = round(&node).await {
        return node.end_by_error(why);
    }
    let mut pause = PAUSES.0;
    loop {
        // Not a guess: the pause between two looks.
        sleep(pause).await;
        let missing = missing(&node);
        if missing == 0 {
            pause = PAUSES.0;
            continue;
        }
        let _ = round(&node).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// How many peers of the roster cannot be spoken to; somebody, where the log has not come yet.
fn missing(node: &Node) -> usize {
    let peers = node.published().map_or(1, |published| published.dictionary.roster.len().saturating_sub(1));
    peers.saturating_sub(node.switchboard.standing(Lane::Control).len())
}

/// Asks everywhere.
///
/// # Errors
/// When somebody there belongs to another mesh: what the operator is told.
async fn round(node: &Arc<Node>) -> Result<(), String> {
    for address in &node.settings.mesh.join {
        for place in resolve(address).await.unwrap_or_default() {
            ask(node, address, place).await?;
        }
    }
    Ok(())
}

async fn ask(node: &Arc<Node>, address: &str, place: SocketAddr) -> Result<(), String> {
    match call_at(node, place, None, Lane::Control).await {
        Ok(handshaken) => node.switchboard.found(handshaken.peer.node, place),
        Err(CallError::Refused(refused)) => {
            if let (PeerRefusal::WrongMesh { mine: Some(theirs) }, Some(mesh)) = (&refused.why, node.mesh()) {
                let theirs = if *theirs == mesh { "another mesh".into() } else { format!("mesh {theirs}") };
                return Err(format!(
                    "WrongMesh: the data directory {} belongs to mesh {mesh}, but {address} (mesh.join) to {theirs}; give this \
                     node another data directory, or other addresses to join",
                    node.settings.node.data_dir.display()
                ));
            }
            // A node that was removed before the log reached it is called by nobody: here it learns so.
            node.on_refusal(node.me.id, &refused.why);
        }
        Err(error) => tracing::debug!(%place, %error, "nobody to be introduced to"),
    }
    Ok(())
}
