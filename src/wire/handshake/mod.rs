//! The handshake: who is at the other end, and whether it is heard at all.
//!
//! Both sides say four bytes of the protocol. The caller then greets: versions, mesh, node, incarnation, whom it means to
//! call, lane, and a nonce. The called side compares that with what it knows and challenges: the same of itself, and a proof
//! that it knows the mesh secret. The caller checks, proves the same, and is welcomed. The proofs are HMAC-SHA256 (RFC 2104)
//! over all that both sides have said, each direction under a name of its own, so that neither can be played back to the other
//! side. Without a secret the key is empty and the flow is the same. What follows the handshake is not signed: who can change
//! packets between two nodes can speak for either.
//!
//! Whatever does not fit has its own refusal, said to the other side and in both logs; nothing else is heard before the
//! welcome. [`Caller`] and [`Called`] are told bytes as they come and answer with bytes to be sent: no socket, no clock, no
//! randomness. The postman brings fresh nonces, ends what takes longer than [`TIME_LIMIT`], sends what is to be sent even
//! when a side refuses, and closes then.
//!
//! The form of the greeting and of the answers is the same in all versions of the protocol, so that any two nodes can tell
//! each other that they have none in common.

mod proof;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::{Buf, BytesMut};

use super::codec;
use super::frame::{self, Frames, HANDSHAKE_LIMIT};
use crate::messages::peer::{Answer, Greeting, Lane, MAGIC, PeerRefusal, Proof};
use crate::types::{Incarnation, MeshId, NodeId, Version};
use proof::{Direction, Said};

/// A handshake that takes longer is ended by the postman, with no word: whoever is there is not one of us, or not well.
pub const TIME_LIMIT: Duration = Duration::from_secs(2);

/// Fresh random bytes, new for each connection.
pub type Nonce = [u8; 16];

/// What a node knows when it calls or is called. Its owner makes a new one at each change of the dictionary.
#[derive(Clone, PartialEq, Eq)]
pub struct Known {
    /// Oldest and newest version of the protocol that it speaks.
    pub versions: (u16, u16),
    /// Its mesh, if it has one.
    pub mesh: Option<MeshId>,
    /// Itself.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// `mesh.secret`; empty when none is set.
    pub secret: Vec<u8>,
    /// The version of the dictionary that `roster` is of.
    pub version: Version,
    /// The nodes of the roster with their listed incarnations. None while this node has no dictionary: then whoever is
    /// of the same mesh is heard, since only they can bring the dictionary.
    pub roster: Option<BTreeMap<NodeId, Incarnation>>,
    /// Nodes that were removed.
    pub gone: BTreeSet<NodeId>,
    /// Nodes that are heard this instant, over a control connection that stands, and in which life. A node goes out of here
    /// as soon as its connection breaks, so that one that was started again quickly is not taken for its own double.
    pub living: BTreeMap<NodeId, Incarnation>,
}

/// Who is at the other end, once the handshake has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its mesh.
    pub mesh: Option<MeshId>,
    /// What the connection carries.
    pub lane: Lane,
    /// The version of the protocol that both speak.
    pub version: u16,
    /// Whether the caller belongs to no mesh: only [`crate::messages::ownership::JoinMessage`] may travel then.
    pub joining: bool,
}

/// Which side would not speak with the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This one.
    Ours,
    /// The other one, which said so.
    Theirs,
}

/// The handshake has failed, for good: close the connection once what is to be sent has been sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// Who refused.
    pub by: Side,
    /// Why.
    pub why: PeerRefusal,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            Side::Ours => write!(f, "refused: {}", self.why),
            Side::Theirs => write!(f, "the other side refused: {}", self.why),
        }
    }
}

impl From<PeerRefusal> for Refused {
    fn from(why: PeerRefusal) -> Self {
        Self { by: Side::Ours, why }
    }
}

/// The side that dialled.
#[derive(Debug)]
pub struct Caller {
    greeting: Greeting,
    state: CallerState,
}

#[derive(Debug)]
enum CallerState {
    Magic,
    Challenge,
    Welcome(Peer),
}

impl Caller {
    /// Begins: `output` holds what is to be sent first. `to` is whom the roster says to be at the address; none when only
    /// the address is known.
    pub fn new(known: &Known, to: Option<NodeId>, lane: Lane, nonce: Nonce, output: &mut BytesMut) -> Self {
        let greeting = Greeting {
            versions: known.versions,
            mesh: known.mesh,
            node: known.node,
            incarnation: known.incarnation,
            to,
            lane,
            nonce,
            version: known.version,
        };
        output.extend_from_slice(&MAGIC);
        say(&greeting, output);
        Self { greeting, state: CallerState::Magic }
    }

    /// Hears what has come, appends to `output` what is to be sent, and tells who is there once it is known and has welcomed
    /// this node. Bytes of messages that came behind the welcome stay in `input`.
    ///
    /// # Errors
    /// When either side refuses.
    pub fn hear(
        &mut self,
        known: &Known,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<Option<Peer>, Refused> {
        loop {
            match &self.state {
                CallerState::Magic => {
                    if !take_magic(input)? {
                        return Ok(None);
                    }
                    self.state = CallerState::Challenge;
                }
                CallerState::Challenge => match take::<Answer>(input)? {
                    None => return Ok(None),
                    Some(answer) => self.state = CallerState::Welcome(self.on_challenge(known, answer, output)?),
                },
                CallerState::Welcome(peer) => {
                    return match take::<Answer>(input)? {
                        None => Ok(None),
                        Some(Answer::Welcome) => Ok(Some(*peer)),
                        Some(Answer::Refused(why)) => Err(Refused { by: Side::Theirs, why }),
                        Some(Answer::Challenge { .. }) => Err(PeerRefusal::Unexpected.into()),
                    };
                }
            }
        }
    }

    fn on_challenge(&self, known: &Known, answer: Answer, output: &mut BytesMut) -> Result<Peer, Refused> {
        let (version, mesh, node, incarnation, nonce, proof) = match answer {
            Answer::Challenge { version, mesh, node, incarnation, nonce, proof } => {
                (version, mesh, node, incarnation, nonce, proof)
            }
            Answer::Refused(why) => return Err(Refused { by: Side::Theirs, why }),
            Answer::Welcome => return Err(PeerRefusal::Unexpected.into()),
        };
        if !(known.versions.0..=known.versions.1).contains(&version) {
            return Err(PeerRefusal::BadVersion { mine: known.versions }.into());
        }
        if known.mesh.is_some() && mesh != known.mesh {
            return Err(PeerRefusal::WrongMesh { mine: known.mesh }.into());
        }
        if self.greeting.to.is_some_and(|to| to != node) {
            return Err(PeerRefusal::WrongNode { mine: node }.into());
        }
        known.check_life(node, incarnation)?;
        let said = Said { greeting: &self.greeting, version, mesh, node, incarnation, nonce };
        if !said.proves(&known.secret, Direction::FromCalled, &proof) {
            // Our own proof is kept back: whoever is there has not shown that it is one of us.
            return Err(PeerRefusal::BadSecret.into());
        }
        say(&Proof(said.proof(&known.secret, Direction::FromCaller)), output);
        let joining = self.greeting.mesh.is_none();
        Ok(Peer { node, incarnation, mesh, lane: self.greeting.lane, version, joining })
    }
}

/// The side that was called.
#[derive(Debug)]
pub struct Called {
    nonce: Nonce,
    state: CalledState,
}

#[derive(Debug)]
enum CalledState {
    Magic,
    Greeting,
    Proof(Greeting, u16),
}

impl Called {
    /// Waits for a greeting.
    pub fn new(nonce: Nonce) -> Self {
        Self { nonce, state: CalledState::Magic }
    }

    /// Hears what has come, appends to `output` what is to be sent, and tells who is there once it is known and welcome.
    ///
    /// # Errors
    /// When either side refuses. `output` then holds what the other side is told: a frame, or, to whom does not even say
    /// the first four bytes, a line that a person or a Redis client can read.
    pub fn hear(
        &mut self,
        known: &Known,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<Option<Peer>, Refused> {
        let heard = self.hear_on(known, input, output);
        if let Err(Refused { by: Side::Ours, why }) = &heard {
            match why {
                PeerRefusal::BadMagic => output.extend_from_slice(format!("-ERR {why}\r\n").as_bytes()),
                _ => say(&Answer::Refused(why.clone()), output),
            }
        }
        heard
    }

    fn hear_on(&mut self, known: &Known, input: &mut BytesMut, output: &mut BytesMut) -> Result<Option<Peer>, Refused> {
        loop {
            match &self.state {
                CalledState::Magic => {
                    if !take_magic(input)? {
                        return Ok(None);
                    }
                    output.extend_from_slice(&MAGIC);
                    self.state = CalledState::Greeting;
                }
                CalledState::Greeting => match take::<Greeting>(input)? {
                    None => return Ok(None),
                    Some(greeting) => self.on_greeting(known, greeting, output)?,
                },
                CalledState::Proof(greeting, version) => {
                    let Some(Proof(proof)) = take(input)? else { return Ok(None) };
                    if !self.said(known, greeting, *version).proves(&known.secret, Direction::FromCaller, &proof) {
                        return Err(PeerRefusal::BadSecret.into());
                    }
                    // Time has passed since the greeting: who was removed meanwhile is not welcomed.
                    known.check_greeting(greeting)?;
                    say(&Answer::Welcome, output);
                    return Ok(Some(peer_of(greeting, *version)));
                }
            }
        }
    }

    fn on_greeting(&mut self, known: &Known, greeting: Greeting, output: &mut BytesMut) -> Result<(), Refused> {
        let mine = known.versions;
        let version = common(greeting.versions, mine).ok_or(PeerRefusal::BadVersion { mine })?;
        known.check_greeting(&greeting)?;
        let proof = self.said(known, &greeting, version).proof(&known.secret, Direction::FromCalled);
        let challenge = Answer::Challenge {
            version,
            mesh: known.mesh,
            node: known.node,
            incarnation: known.incarnation,
            nonce: self.nonce,
            proof,
        };
        say(&challenge, output);
        self.state = CalledState::Proof(greeting, version);
        Ok(())
    }

    fn said<'a>(&self, known: &Known, greeting: &'a Greeting, version: u16) -> Said<'a> {
        let (mesh, node, incarnation) = (known.mesh, known.node, known.incarnation);
        Said { greeting, version, mesh, node, incarnation, nonce: self.nonce }
    }
}

impl Known {
    fn check_greeting(&self, greeting: &Greeting) -> Result<(), PeerRefusal> {
        // A node that asks at a name which stands for many addresses also meets itself there.
        let is_self = (greeting.node, greeting.incarnation) == (self.node, self.incarnation);
        // One that was removed is told so by whomever it meets: those it looks for may all have gone, too.
        let was_ours = greeting.mesh.is_some() && greeting.mesh == self.mesh;
        if !is_self && was_ours && self.gone.contains(&greeting.node) {
            return Err(self.removed());
        }
        if is_self || greeting.to.is_some_and(|to| to != self.node) {
            return Err(PeerRefusal::WrongNode { mine: self.node });
        }
        match greeting.mesh {
            None if greeting.lane != Lane::Control => return Err(PeerRefusal::Unexpected),
            None => {}
            Some(_) if greeting.mesh != self.mesh => return Err(PeerRefusal::WrongMesh { mine: self.mesh }),
            Some(_) => self.check_listed(greeting)?,
        }
        if self.gone.contains(&greeting.node) {
            return Err(self.removed());
        }
        self.check_life(greeting.node, greeting.incarnation)
    }

    fn removed(&self) -> PeerRefusal {
        PeerRefusal::NotOnRoster { version: self.version, removed: true }
    }

    fn check_listed(&self, greeting: &Greeting) -> Result<(), PeerRefusal> {
        let Some(roster) = &self.roster else { return Ok(()) };
        // Who knows a newer dictionary may have been admitted by it, and may be the one who brings it to us.
        if roster.contains_key(&greeting.node) || greeting.version > self.version {
            return Ok(());
        }
        Err(PeerRefusal::NotOnRoster { version: self.version, removed: false })
    }

    /// Of two processes with one id, one is told so: the one in an older life than the roster lists, or, while one is
    /// heard, the other. Our own id in another life is a double of ourselves.
    fn check_life(&self, node: NodeId, incarnation: Incarnation) -> Result<(), PeerRefusal> {
        let listed = self.roster.as_ref().and_then(|roster| roster.get(&node));
        let outlived = listed.is_some_and(|listed| *listed > incarnation);
        let doubled = self.living.get(&node).is_some_and(|living| *living != incarnation);
        if node == self.node || outlived || doubled { Err(PeerRefusal::NodeIdInUse) } else { Ok(()) }
    }
}

impl fmt::Debug for Known {
    // The secret stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known")
            .field("mesh", &self.mesh)
            .field("node", &self.node)
            .field("incarnation", &self.incarnation)
            .field("version", &self.version)
            .field("roster", &self.roster)
            .field("gone", &self.gone)
            .field("living", &self.living)
            .finish_non_exhaustive()
    }
}

fn peer_of(greeting: &Greeting, version: u16) -> Peer {
    let Greeting { mesh, node, incarnation, lane, .. } = *greeting;
    Peer { node, incarnation, mesh, lane, version, joining: mesh.is_none() }
}

/// The newest version that both ranges hold.
fn common(theirs: (u16, u16), mine: (u16, u16)) -> Option<u16> {
    let newest = theirs.1.min(mine.1);
    (newest >= theirs.0.max(mine.0)).then_some(newest)
}

fn say<T: serde::Serialize>(value: &T, output: &mut BytesMut) {
    frame::push(value, HANDSHAKE_LIMIT, output).expect("what the handshake says is short");
}

/// Whether the four bytes are there; refused at the first byte that differs, since some strangers wait to be spoken to.
fn take_magic(input: &mut BytesMut) -> Result<bool, PeerRefusal> {
    let come = input.len().min(MAGIC.len());
    if input[..come] != MAGIC[..come] {
        return Err(PeerRefusal::BadMagic);
    }
    if come < MAGIC.len() {
        return Ok(false);
    }
    input.advance(MAGIC.len());
    Ok(true)
}

fn take<T: serde::de::DeserializeOwned>(input: &mut BytesMut) -> Result<Option<T>, PeerRefusal> {
    let Some(frame) = Frames::new(HANDSHAKE_LIMIT).next(input)? else { return Ok(None) };
    match codec::decode(&frame) {
        Ok(value) => Ok(Some(value)),
        // Sound CBOR that says something else is a message out of place.
        Err(_) if codec::check(&frame, codec::MAX_DEPTH).is_ok() => Err(PeerRefusal::Unexpected),
        Err(error) => Err(PeerRefusal::Malformed(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
