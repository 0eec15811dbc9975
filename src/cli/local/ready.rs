//! When the mesh is ready: looked at from outside, by the door that clients use.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::layout::Described;
use crate::cli::client::{Client, ClientError};
use crate::messages::status::{Nodes, Status};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// How long one node may take to answer; it may be paused.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// After so long, and again after as long, it is said what is missing.
const LATE: Duration = Duration::from_secs(15);

/// What has been seen.
pub(super) enum News {
    /// All nodes have said their ids.
    Known(Vec<Described>),
    /// Every node knows all others as up, a commander, and nobody's range unserved.
    Ready,
    /// Not yet; what is missing.
    Late(String),
}

/// Looks, in a thread of its own, until the mesh is ready or nobody listens any more.
pub(super) fn watch(nodes: Vec<Described>, tell: UnboundedSender<News>) {
    thread::spawn(move || look_until_ready(nodes, &tell));
}

fn look_until_ready(mut nodes: Vec<Described>, tell: &UnboundedSender<News>) {
    // The nodes have these from the environment too, so the password is the same.
    let password = std::env::var("KEYVAL__CLIENT__PASSWORD").ok();
    let (mut late, mut known) = (Instant::now() + LATE, false);
    loop {
        let missing = missing(&mut nodes, password.as_deref());
        if !known && nodes.iter().all(|node| !node.id.is_empty()) {
            known = true;
            if tell.send(News::Known(nodes.clone())).is_err() {
                return;
            }
        }
        let Some(missing) = missing else {
            let _ = tell.send(News::Ready);
            return;
        };
        if Instant::now() > late {
            late += LATE;
            if tell.send(News::Late(missing)).is_err() {
                return;
            }
        }
        if tell.is_closed() {
            return;
        }
        thread::sleep(LOOK); // between looks
    }
}

/// What is missing; none when the mesh is ready. Ids that are learnt are put in their places.
pub(in crate::cli) fn missing(nodes: &mut [Described], password: Option<&str>) -> Option<String> {
    let mut seen = Vec::new();
    let mut missing = Vec::new();
    for node in nodes.iter_mut() {
        match look(node, password) {
            Ok((status, roster)) => {
                node.id.clone_from(&status.me.id);
                seen.push((node.name.clone(), status, roster));
            }
            Err(error) => missing.push(format!("{}: {error}", node.name)),
        }
    }
    let ids: BTreeSet<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
    missing.extend(
        seen.iter().filter_map(|(name, status, roster)| Some(format!("{name}: {}", lacks(status, roster, &ids)?))),
    );
    let meshes: BTreeSet<_> = seen.iter().map(|(_, status, _)| &status.mesh).collect();
    if missing.is_empty() && meshes.len() > 1 {
        missing.push("they belong to different meshes".to_owned());
    }
    (!missing.is_empty()).then(|| missing.join("; "))
}

fn look(node: &Described, password: Option<&str>) -> Result<(Status, Nodes), ClientError> {
    let mut client = Client::connect(&node.client, password, PATIENCE)?;
    Ok((client.json(&["MESH", "STATUS"])?, client.json(&["MESH", "NODES"])?))
}

/// What a node does not see yet.
fn lacks(status: &Status, roster: &Nodes, ids: &BTreeSet<&str>) -> Option<String> {
    if status.mesh.is_none() {
        return Some(format!("{}, belongs to no mesh yet", status.state));
    }
    if status.commander.is_none() {
        return Some("knows no commander".to_owned());
    }
    let up: BTreeSet<&str> =
        roster.nodes.iter().filter(|node| node.state == "up").map(|node| node.id.as_str()).collect();
    let lacking = ids.difference(&up).count();
    if lacking > 0 {
        return Some(format!("does not know {lacking} of the nodes as up"));
    }
    (status.ranges.unserved > 0).then(|| format!("{} ranges are not served", status.ranges.unserved))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::mesh::{self, View};
    use crate::machines::chronicle::Chronicle;
    use crate::messages::ownership::{Addresses, Candidate, Role};
    use crate::messages::status::Commander;
    use crate::types::{Incarnation, NodeId, Now};

    fn joining() -> (Status, Nodes) {
        let me = Candidate {
            id: NodeId(7),
            incarnation: Incarnation(1),
            name: "node-1".into(),
            addresses: Addresses::default(),
            zone: String::new(),
            weight: 100,
            role: Role::Drone,
        };
        let (ailing, chronicle) = (Default::default(), Chronicle::default());
        let view = View {
            now: Now::default(),
            me: &me,
            published: None,
            leases: None,
            ailing: &ailing,
            progress: None,
            asking: &[],
            chronicle: &chronicle,
        };
        (mesh::status(&view), mesh::nodes(&view))
    }

    #[test]
    fn a_mesh_is_ready_when_every_node_sees_all_of_it() {
        let (mut status, mut roster) = joining();
        let id = roster.nodes[0].id.clone();
        let ids = BTreeSet::from([id.as_str()]);
        let lacks = |status: &Status, roster: &Nodes| lacks(status, roster, &ids).unwrap_or_default();
        assert!(lacks(&status, &roster).contains("no mesh yet"));
        status.mesh = Some("1".into());
        assert!(lacks(&status, &roster).contains("no commander"));
        status.commander = Some(Commander { id: "1".into(), name: "n".into(), client: "c".into() });
        assert!(lacks(&status, &roster).contains("1 of the nodes"));
        roster.nodes[0].state = "up".into();
        status.ranges.unserved = 3;
        assert!(lacks(&status, &roster).contains("3 ranges"));
        status.ranges.unserved = 0;
        assert_eq!(lacks(&status, &roster), "");
    }
}
