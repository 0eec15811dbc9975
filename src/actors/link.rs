//! A link: our side of one lane to one peer. It dials, keeps the connection, dials again when it breaks, and says who is
//! there and who is gone.
//!
//! A link whose connection breaks dials again at once. If that fails, the heartbeat machine is told (control lane), what
//! waited goes back to the doors, and it tries again with growing pauses, a second at most; a call from the peer ends a pause, and
//! a call to it that is not answered: what was said while the two were cut off from each other is said again seconds later.
//! Stores and doors hear of each break and of each new connection of the data lanes, in this order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use actix_rt::time::sleep;
use tokio::sync::Notify;

use crate::actors::calling::{CallError, Handshaken, call, call_at};
use crate::actors::connection::{Connection, Ended, Party};
use crate::actors::node::Node;
use crate::actors::outbox::{Frame, Kind, Outbox, Standing};
use crate::actors::post::deliver;
use crate::actors::postroom::Postroom;
use crate::actors::switchboard::Heard;
use crate::machines::{door, heartbeat, store};
use crate::messages::peer::Lane;
use crate::types::NodeId;

/// Pauses between two calls: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// A call that was not answered for so long may have been lost.
const ANSWERED: Duration = Duration::from_millis(100);

/// A bulk connection that has had nothing to say for so long is given up.
const IDLE: Duration = Duration::from_secs(30);

/// Where a peer listens, by the roster, for those who keep its links. They are woken in the order in which they wait.
#[derive(Debug)]
pub struct Address {
    place: Mutex<Option<String>>,
    changed: Notify,
}

impl Address {
    /// There.
    pub fn new(place: String) -> Self {
        Self { place: Mutex::new(Some(place)), changed: Notify::new() }
    }

    /// There from now on, or nowhere: the peer is off the roster.
    pub fn set(&self, place: Option<&str>) {
        let mut known = self.lock();
        if known.as_deref() != place {
            *known = place.map(str::to_owned);
            drop(known);
            self.changed.notify_waiters();
        }
    }

    fn now(&self) -> Option<String> {
        self.lock().clone()
    }

    async fn none(&self) {
        self.until(|place| place.is_none()).await;
    }

    async fn other_than(&self, known: &str) {
        self.until(|place| place != Some(known)).await;
    }

    async fn until(&self, is: impl Fn(Option<&str>) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is(self.lock().as_deref()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One lane to one peer.
pub struct Link {
    /// This node.
    pub node: Arc<Node>,
    /// To whom.
    pub peer: NodeId,
    /// Which lane.
    pub lane: Lane,
    /// Where it listens.
    pub address: Arc<Address>,
    /// What is to be said.
    pub outbox: Arc<Outbox>,
    /// The peer has called us: it is there.
    pub hurry: Arc<Notify>,
}

impl Actor for Link {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let line = Line {
            node: self.node.clone(),
            peer: self.peer,
            lane: self.lane,
            address: self.address.clone(),
            dialled: String::new(),
            outbox: self.outbox.clone(),
            hurry: self.hurry.clone(),
            stood: false,
            lost: false,
            said: None,
        };
        context.spawn(line.keep().into_actor(self).map(|(), _, context| context.stop()));
    }
}

/// The link at work.
struct Line {
    node: Arc<Node>,
    peer: NodeId,
    lane: Lane,
    address: Arc<Address>,
    /// Where it was last dialled.
    dialled: String,
    outbox: Arc<Outbox>,
    hurry: Arc<Notify>,
    /// Whether a connection stood before this attempt.
    stood: bool,
    /// Whether something may have been lost since a connection last stood, so that stores must be told of the next one.
    lost: bool,
    /// What was last said in the log about why there is none.
    said: Option<String>,
}

impl Line {
    /// Until the peer is off the roster.
    async fn keep(mut self) {
        let mut pause = PAUSES.0;
        loop {
            let address = self.address.clone();
            let ended = tokio::select! {
                biased;
                () = address.none() => true,
                () = self.once(&mut pause) => false,
            };
            if ended {
                break;
            }
        }
        self.give_back(self.outbox.stand(Standing::Down));
        self.tell_down();
    }

    /// One connection, or one attempt and the pause after it.
    async fn once(&mut self, pause: &mut Duration) {
        if self.lane == Lane::Bulk && !self.stood && !self.lost {
            self.outbox.stand(Standing::Idle);
            self.outbox.wanted().await;
        } else {
            self.outbox.stand(Standing::Dialling);
        }
        self.dialled = self.address.now().unwrap_or_default();
        let dialled = tokio::select! {
            biased;
            dialled = self.dial(&self.dialled) => Some(dialled),
            () = self.called() => None,
        };
        let dialled = match dialled {
            Some(dialled) => dialled,
            // Once: two that call each other might else hang up on each other for ever.
            None => {
                self.dialled = self.address.now().unwrap_or_default();
                self.dial(&self.dialled).await
            }
        };
        match dialled {
            Ok(handshaken) => {
                *pause = PAUSES.0;
                self.converse(handshaken).await;
            }
            Err(error) => {
                self.on_failure(&error);
                self.pause(*pause).await;
                *pause = (*pause * 2).min(PAUSES.1);
            }
        }
    }

    /// The peer has called us, while it should have answered.
    async fn called(&self) {
        let answered = sleep(ANSWERED); // not a guess: the span itself is what counts
        self.hurry.notified().await;
        answered.await;
    }

    /// Where the roster says, then where the peer was met.
    async fn dial(&self, address: &str) -> Result<Handshaken, CallError> {
        let error = match call(&self.node, address, self.peer, self.lane).await {
            Ok(handshaken) => return Ok(handshaken),
            Err(error) => error,
        };
        let Some(place) = self.node.switchboard.found_at(self.peer) else { return Err(error) };
        call_at(&self.node, place, Some(self.peer), self.lane).await.map_err(|_| error)
    }

    async fn converse(&mut self, handshaken: Handshaken) {
        let Handshaken { peer, stream, heard } = handshaken;
        tracing::debug!(peer = %self.peer, lane = ?self.lane, incarnation = %peer.incarnation, "link up");
        self.said = None;
        let party = Party { node: peer.node, incarnation: peer.incarnation, lane: self.lane };
        self.outbox.stand(Standing::Up);
        // A bulk connection that is had because something is to be said interrupts nothing.
        if self.lane == Lane::Data || std::mem::take(&mut self.lost) {
            self.tell_up();
        }
        let last = Arc::new(Heard::new(self.node.now().instant));
        let connection = Connection { party, stream, heard, outbox: self.outbox.clone(), last };
        let postroom = Postroom::new(self.node.clone());
        let outlived = self.node.clone().outlived(party);
        let (why, mut untouched) = tokio::select! {
            biased;
            carried = connection.carry(&postroom) => carried,
            () = self.address.other_than(&self.dialled) => (Ended::Outlived, Vec::new()),
            () = outlived => (Ended::Outlived, Vec::new()),
            () = self.idle() => (Ended::Idle, Vec::new()),
        };
        let idle = matches!(why, Ended::Idle);
        self.stood = !idle;
        tracing::debug!(peer = %self.peer, lane = ?self.lane, %why, "link down");
        untouched.extend(self.outbox.stand(Standing::Down));
        let interrupted = !idle || !untouched.is_empty();
        self.give_back(untouched);
        if interrupted {
            self.lost = true;
            self.tell_down();
        }
    }

    /// A bulk connection ends when nothing has been said for long.
    async fn idle(&self) {
        loop {
            sleep(IDLE).await; // not a guess: the span itself is what counts
            if self.lane == Lane::Bulk && self.outbox.was_idle() {
                return;
            }
        }
    }

    fn on_failure(&mut self, error: &CallError) {
        let waiting = self.outbox.stand(Standing::Down);
        let lost = waiting.iter().any(|frame| frame.kind == Kind::InOrder);
        self.give_back(waiting);
        if lost && !std::mem::replace(&mut self.lost, true) {
            self.tell_down();
        }
        // Only the loss of a link that stood is news; a node that never answered is missed by its beacons.
        if std::mem::take(&mut self.stood) && self.lane == Lane::Control {
            deliver(&self.node.crew().heartbeat, heartbeat::Input::LinkBroken(self.peer));
        }
        let cause = error.to_string();
        if self.lane == Lane::Control && self.said.as_ref() != Some(&cause) {
            tracing::info!(peer = %self.node.name_of(self.peer), at = self.dialled, "no link: {cause}");
            self.said = Some(cause);
        }
        if let Some(refusal) = error.against_us() {
            self.node.on_refusal(self.peer, refusal);
        }
    }

    async fn pause(&mut self, pause: Duration) {
        tokio::select! {
            biased;
            () = self.address.other_than(&self.dialled) => {}
            () = self.hurry.notified() => {}
            () = sleep(pause) => {} // not a guess: the pause between two calls
        }
    }

    /// Commands of which nothing has left go back to the doors, which send them elsewhere or hold them.
    fn give_back(&self, frames: Vec<Frame>) {
        let workers = self.node.workers as u64;
        for frame in frames {
            if let Kind::Carry(number) = frame.kind {
                let door = &self.node.crew().doors[(number % workers) as usize];
                deliver(door, door::Input::NotSent { peer: self.peer, id: number / workers });
            }
        }
    }

    fn tell_up(&self) {
        if self.lane == Lane::Control {
            return;
        }
        let crew = self.node.crew();
        for store in &crew.stores {
            deliver(store, store::Input::LinkUp(self.peer));
        }
        if self.lane == Lane::Data {
            self.node.lost.is_back(self.peer);
            for door in &crew.doors {
                deliver(door, door::Input::LinkUp(self.peer));
            }
        }
    }

    fn tell_down(&self) {
        if self.lane == Lane::Control {
            return;
        }
        let crew = self.node.crew();
        if self.lane == Lane::Data {
            self.node.lost.broke(self.peer, self.node.now().instant);
            for door in &crew.doors {
                deliver(door, door::Input::LinkDown(self.peer));
            }
        }
        for store in &crew.stores {
            deliver(store, store::Input::LinkDown(self.peer));
        }
    }
}
