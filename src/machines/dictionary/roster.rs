//! The rules about nodes: who comes on the roster, how each stands, whose life is over, and who leaves.
//!
//! A node's life is its incarnation. One that comes back with a higher one proves that the former is over (G22), so its
//! admission buries the former. A life that was buried is never admitted again (G24), nor is a node that was removed.

use crate::machines::dictionary::{Dictionary, Gone};
use crate::messages::events::{Event, EventKind};
use crate::messages::ownership::{Candidate, Cause, Franchise, Member, Part, Role, Standing};
use crate::types::{Incarnation, NodeId};

/// How many nodes a roster may have. Far above any mesh we know of; keeps a flood of strangers from growing the log.
pub const MAX_NODES: usize = 1_000;

/// How many removed nodes are remembered.
pub const MAX_GONE: usize = 1_000;

/// The longest name, zone or address of a node, in bytes.
const MAX_TEXT: usize = 255;

/// The largest weight of a node.
const MAX_WEIGHT: u32 = 10_000;

type Outcome = Result<Vec<Event>, String>;

impl Member {
    /// Whether the commander hears this node in its present life, as far as is agreed: what it heads is served.
    pub fn serves(&self) -> bool {
        self.standing != Standing::Suspect && !self.is_over()
    }

    /// Whether its present life is over, so that it must come back with a new one.
    pub fn is_over(&self) -> bool {
        self.dead.is_some_and(|dead| self.node.incarnation <= dead)
    }
}

impl Dictionary {
    /// Whether a node may be admitted as it presents itself; why not, in words for its operator.
    ///
    /// # Errors
    /// When it never may, under this id and in this life.
    pub fn admissible(&self, candidate: &Candidate) -> Result<(), String> {
        let id = candidate.id;
        check_texts(candidate)?;
        if let Some(gone) = self.gone.get(&id) {
            return Err(format!(
                "node {id} was removed from this mesh (dictionary version {}); start it with an empty data directory to join as a new node",
                gone.version
            ));
        }
        let Some(member) = self.roster.get(&id) else {
            return match self.roster.len() {
                MAX_NODES.. => Err(format!("the roster is full: {MAX_NODES} nodes")),
                _ => Ok(()),
            };
        };
        if candidate.incarnation < member.node.incarnation {
            return Err(format!(
                "node {id} is on the roster with a later start than yours ({} > {}): another process has this identity; was a data directory copied?",
                member.node.incarnation, candidate.incarnation
            ));
        }
        if member.dead.is_some_and(|dead| candidate.incarnation <= dead) {
            return Err(format!(
                "node {id} was given up in this life (incarnation {}); it must start again",
                candidate.incarnation
            ));
        }
        Ok(())
    }

    /// Whether the roster shows a node just as it presents itself.
    pub fn shows(&self, candidate: &Candidate) -> bool {
        self.roster.get(&candidate.id).is_some_and(|member| member.node == self.named(candidate))
    }

    pub(super) fn admit(&mut self, candidate: &Candidate) -> Outcome {
        self.admissible(candidate)?;
        let node = self.named(candidate);
        let known = self.roster.get(&node.id);
        if known.is_some_and(|member| member.node == node) {
            return Err(format!("{} is on the roster just so", node.name));
        }
        let text = match known {
            None => format!("{} admitted as {}; peers reach it at {}", node.name, word(node.role), node.addresses.peer),
            Some(member) if member.node.incarnation == node.incarnation => {
                format!("{} changed what it says of itself; peers reach it at {}", node.name, node.addresses.peer)
            }
            Some(_) => format!("{} is back with a new start; what it held before in memory is gone", node.name),
        };
        let event = self.event(EventKind::NodeAdmitted, Some(node.id), Vec::new(), text);
        let free = self.free_index();
        match self.roster.get_mut(&node.id) {
            None => {
                let member = Member::new(free, node, Standing::Joining);
                self.roster.insert(member.node.id, member);
            }
            Some(member) => {
                if node.incarnation > member.node.incarnation {
                    member.dead = member.dead.max(Some(member.node.incarnation));
                    member.standing = Standing::Joining;
                }
                member.node = node;
            }
        }
        Ok(vec![event])
    }

    pub(super) fn stand(&mut self, id: NodeId, life: Incarnation, standing: Standing, evidence: &str) -> Outcome {
        let member = self.roster.get(&id).ok_or_else(|| format!("node {id} is not on the roster"))?;
        let name = member.node.name.clone();
        if member.node.incarnation != life {
            return Err(format!("{name} lives in incarnation {} now, not {life}", member.node.incarnation));
        }
        if member.is_over() && standing == Standing::Up {
            return Err(format!("{name} was given up in this life"));
        }
        if member.standing == standing {
            return Err(format!("{name} is {standing} already"));
        }
        let kind = match standing {
            Standing::Suspect => EventKind::NodeSuspect,
            Standing::Joining | Standing::Up | Standing::Draining => EventKind::NodeUp,
        };
        let text = format!("{name} is {standing}: {evidence}");
        let event = self.event(kind, Some(id), Vec::new(), text);
        self.roster.get_mut(&id).expect("looked up above").standing = standing;
        Ok(vec![event])
    }

    pub(super) fn bury(&mut self, id: NodeId, life: Incarnation, cause: &Cause) -> Outcome {
        let member = self.roster.get(&id).ok_or_else(|| format!("node {id} is not on the roster"))?;
        let name = member.node.name.clone();
        if life > member.node.incarnation {
            return Err(format!("{name} has no incarnation {life}, only {}", member.node.incarnation));
        }
        if member.dead >= Some(life) {
            return Err(format!("{name} in incarnation {life} is known to be over already"));
        }
        let text = match cause {
            Cause::Expired(_) => format!("{name} was silent so long that it is given up; its memory no longer counts"),
            Cause::Dropped(_) => format!("{name} has ended, the operator says; its memory no longer counts"),
            _ => format!("{name} has ended; its memory no longer counts"),
        };
        let event = self.event(EventKind::NodeLost, Some(id), Vec::new(), text);
        let member = self.roster.get_mut(&id).expect("looked up above");
        member.dead = Some(life);
        // A life that is over is heard by nobody: until the node comes back with a new one, it stands so.
        if member.is_over() {
            member.standing = Standing::Suspect;
        }
        Ok(vec![event])
    }

    pub(super) fn remove(&mut self, id: NodeId, cause: &Cause) -> Outcome {
        let member = self.roster.get(&id).ok_or_else(|| format!("node {id} is not on the roster"))?;
        let name = member.node.name.clone();
        let life = member.node.incarnation;
        if !member.is_over() && self.lists(id, life) {
            let tally = self.tally(id);
            return Err(format!(
                "{name} still holds {} ranges and is not known to have ended",
                tally.held + tally.loading
            ));
        }
        if self.roster.len() == 1 {
            return Err(format!("{name} is the last node of the mesh"));
        }
        let text = match cause {
            Cause::Dropped(_) => format!("{name} is off the roster: dropped by the operator"),
            Cause::Drained(_) => format!("{name} is off the roster: it has given away all it held"),
            _ => format!("{name} is off the roster: absent for longer than node_expiry"),
        };
        let event = self.event(EventKind::NodeRemoved, Some(id), Vec::new(), text);
        self.roster.remove(&id);
        self.gone.insert(id, Gone { incarnation: life, version: self.version.next() });
        if self.gone.len() > MAX_GONE {
            let (oldest, _) = self.gone.iter().min_by_key(|(_, gone)| gone.version).expect("there are many");
            self.gone.remove(&oldest.clone());
        }
        Ok(vec![event])
    }

    pub(super) fn drain(&mut self, id: NodeId, drains: bool) -> Outcome {
        let member = self.roster.get_mut(&id).ok_or_else(|| format!("node {id} is not on the roster"))?;
        let name = member.node.name.clone();
        if member.drains == drains {
            return Err(format!("{name} is to {} already", if drains { "leave" } else { "stay" }));
        }
        member.drains = drains;
        let tally = self.tally(id);
        let text = match drains {
            true => {
                format!("{name} drains: it gives away the {} ranges it holds, then leaves", tally.held + tally.loading)
            }
            false => format!("{name} stays: it gives away nothing more"),
        };
        Ok(vec![self.event(EventKind::NodeDraining, Some(id), Vec::new(), text)])
    }

    pub(super) fn assign(&mut self, id: NodeId, part: &Part) -> Outcome {
        let member = self.roster.get_mut(&id).ok_or_else(|| format!("node {id} is not on the roster"))?;
        let name = member.node.name.clone();
        if member.part == *part {
            return Err(format!("{name} has this part in placement already"));
        }
        may_assign(member, part)?;
        member.part.clone_from(part);
        let text = format!("{name} {}", part_words(member));
        Ok(vec![self.event(EventKind::SettingChanged, Some(id), Vec::new(), text)])
    }

    pub(super) fn enfranchise(&mut self, id: NodeId, franchise: Franchise) -> Outcome {
        let member = self.roster.get_mut(&id).ok_or_else(|| format!("node {id} is not on the roster"))?;
        let name = member.node.name.clone();
        if member.franchise == franchise {
            return Err(format!("{name} has it so already"));
        }
        member.franchise = franchise;
        let text = match franchise {
            Franchise::Any => format!("{name} votes where there is a seat for it"),
            Franchise::Votes => format!("{name} is to vote"),
            Franchise::Learns => format!("{name} is not to vote"),
        };
        Ok(vec![self.event(EventKind::SeatsChanged, Some(id), Vec::new(), text)])
    }

    /// The candidate under the name that the roster gives it: names are for people, who need them to differ.
    fn named(&self, candidate: &Candidate) -> Candidate {
        let mut node = candidate.clone();
        let taken = |name: &str| self.roster.values().any(|m| m.node.id != candidate.id && m.node.name == name);
        let hex = candidate.id.to_string();
        let longer = [&hex[hex.len() - 4..], &hex[..]].map(|end| format!("{}-{end}", candidate.name));
        let given = self.roster.get(&candidate.id).map(|member| &member.node.name);
        if let Some(kept) = longer.iter().find(|name| given == Some(name)) {
            // Once told apart by its id, a node keeps that name, though the other may have left meanwhile.
            node.name.clone_from(kept);
        } else if taken(&node.name) {
            node.name = longer.iter().find(|name| !taken(name)).expect("ids differ").clone();
        }
        node
    }

    fn free_index(&self) -> u16 {
        let mut taken: Vec<u16> = self.roster.values().map(|member| member.index).collect();
        taken.sort_unstable();
        let free = taken.iter().enumerate().find(|(place, index)| *place != **index as usize);
        free.map_or(taken.len(), |(place, _)| place) as u16
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Drone => "drone",
        Role::Witness => "witness",
    }
}

/// What a stranger says of itself is bounded before it is remembered by everybody.
fn check_texts(candidate: &Candidate) -> Result<(), String> {
    let addresses = &candidate.addresses;
    let texts = [
        ("name", &candidate.name),
        ("zone", &candidate.zone),
        ("peer address", &addresses.peer),
        ("client address", &addresses.client),
        ("cluster address", &addresses.cluster),
        ("console address", &addresses.console),
    ];
    for (what, text) in texts {
        check_text(what, text)?;
    }
    if candidate.name.is_empty() || addresses.peer.is_empty() {
        return Err("a node needs a name and a peer address".into());
    }
    if candidate.id.0 == 0 {
        return Err("a node's id is never zero".into());
    }
    // A witness holds nothing, and says that its weight is none.
    if candidate.role == Role::Witness { Ok(()) } else { check_weight(candidate.weight) }
}

fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT || text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        return Err(format!("the node's {what} is longer than {MAX_TEXT} bytes, or has a blank in it"));
    }
    Ok(())
}

fn check_weight(weight: u32) -> Result<(), String> {
    if (1..=MAX_WEIGHT).contains(&weight) {
        return Ok(());
    }
    Err(format!("node.weight is {weight}, not from 1 to {MAX_WEIGHT}"))
}

/// Whether operators may give a node this part in placement.
///
/// # Errors
/// Why not, in words.
pub fn may_assign(member: &Member, part: &Part) -> Result<(), String> {
    if member.node.role == Role::Witness {
        return Err(format!("{} is a witness: it holds nothing, wherever it is", member.node.name));
    }
    check_weight(part.weight.unwrap_or(member.node.weight))?;
    check_text("zone", part.zone.as_deref().unwrap_or_default())
}

/// What part a node has in placement, for people.
pub fn part_words(member: &Member) -> String {
    let whose = |said: bool| if said { "an operator's word" } else { "by its own settings" };
    let zone = if member.zone().is_empty() { "no zone".to_owned() } else { format!("zone {}", member.zone()) };
    format!(
        "has weight {} ({}) and is in {zone} ({}); ranges move accordingly",
        member.weight(),
        whose(member.part.weight.is_some()),
        whose(member.part.zone.is_some())
    )
}
