//! What is seen of a ring: what nodes publish, what clients learn, and what the rules say to it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;

use super::network::{Happens, Network};
use crate::actors::node::Node;
use crate::machines::election::Published;
use crate::sim::checker::{
    Checker, Complete, Counters, Fact, NeverBack, Objects, OneCommander, Registers, SameDictionary,
};
use crate::sim::client::{Client, Eras, Learnt};
use crate::sim::clock::Time;
use crate::sim::trace::fingerprint;
use crate::sim::world::Told;
use crate::types::{Generation, NodeId, RangeId};

/// What is seen, and who judges it.
pub struct Book {
    /// Where it happens.
    pub network: Arc<Network>,
    open: Cell<bool>,
    ranges: usize,
    /// The newest that any node has published.
    newest: RefCell<Option<Arc<Published>>>,
    /// What each has last published.
    last: RefCell<BTreeMap<NodeId, Arc<Published>>>,
    /// How far each object of the clients is.
    eras: RefCell<Eras>,
    checkers: RefCell<Vec<Box<dyn Checker>>>,
    broken: RefCell<Option<String>>,
    answered: Cell<u64>,
    unanswered: Cell<u64>,
}

impl Book {
    /// An empty one, of a mesh with so many ranges.
    pub fn new(network: Arc<Network>, ranges: usize) -> Self {
        let checkers: Vec<Box<dyn Checker>> = vec![
            Box::<Registers>::default(),
            Box::<Counters>::default(),
            Box::<Objects>::default(),
            Box::<OneCommander>::default(),
            Box::<NeverBack>::default(),
            Box::<SameDictionary>::default(),
            Box::<Complete>::default(),
        ];
        Self {
            network,
            open: Cell::new(true),
            ranges,
            newest: RefCell::default(),
            last: RefCell::default(),
            eras: RefCell::default(),
            checkers: RefCell::new(checkers),
            broken: RefCell::default(),
            answered: Cell::default(),
            unanswered: Cell::default(),
        }
    }

    /// The true time.
    pub fn now(&self) -> Time {
        self.network.now()
    }

    /// Whether clients go on.
    pub fn is_open(&self) -> bool {
        self.open.get()
    }

    /// Clients end after what they have begun.
    pub fn close(&self) {
        self.open.set(false);
    }

    /// How often a range has been begun anew, as far as anybody knows.
    pub fn generation(&self, range: RangeId) -> Generation {
        self.newest.borrow().as_ref().map_or(Generation(0), |newest| newest.dictionary.chain(range).generation)
    }

    /// Operations of clients that had an answer, and that had an error or none.
    pub fn operations(&self) -> (u64, u64) {
        (self.answered.get(), self.unanswered.get())
    }

    /// Looks whether a node has published anything since.
    pub fn look(&self, node: &Node) {
        let Some(published) = node.published() else { return };
        let before = self.last.borrow_mut().insert(node.me.id, published.clone());
        if before.is_some_and(|before| Arc::ptr_eq(&before, &published)) {
            return;
        }
        self.network.fold(Happens::Published, node.me.id.0, published.dictionary.version.0 ^ published.term.0 << 40);
        self.show(&Fact::Published { node: node.me.id, life: node.me.incarnation, published: &published });
        let mut newest = self.newest.borrow_mut();
        if newest.as_ref().is_none_or(|newest| newest.dictionary.version < published.dictionary.version) {
            *newest = Some(published);
        }
    }

    /// What a client asks for next.
    pub fn choose(&self, client: &mut Client, random: &mut ChaCha8Rng) -> Vec<Vec<Bytes>> {
        client.act(self.now(), self.ranges, |range| self.generation(range), &mut self.eras.borrow_mut(), random)
    }

    /// What a client was told of one of the things it asked for, and what that adds to the history.
    pub fn enter(&self, client: &mut Client, name: usize, place: usize, told: &Told) {
        let Some(range) = client.waits_for(place) else { return };
        let now = (self.now(), self.generation(range));
        let learnt = client.hear(now, place, told, &mut self.eras.borrow_mut());
        let (answered, text) = match told {
            Told::Reply(reply) => (!matches!(reply, crate::messages::client::Reply::Error(_)), format!("{reply:?}")),
            other => (false, format!("{other:?}")),
        };
        let counter = if answered { &self.answered } else { &self.unanswered };
        counter.set(counter.get() + 1);
        self.network.fold(Happens::Learnt, name as u64, fingerprint(text.as_bytes()));
        match learnt {
            Some(Learnt::Operation(operation)) => self.show(&Fact::Operation(&operation)),
            Some(Learnt::Counted(counted)) => self.show(&Fact::Counted(&counted)),
            Some(Learnt::Called(call)) => self.show(&Fact::Called(&call)),
            None => {}
        }
    }

    /// The first rule that was broken, once all have looked back.
    ///
    /// # Errors
    /// If one was.
    pub fn judge(&self) -> Result<(), String> {
        for checker in self.checkers.borrow_mut().iter_mut() {
            let found = checker.finish();
            self.note(checker.name(), found);
        }
        self.is_good()
    }

    /// Whether no rule was broken so far.
    ///
    /// # Errors
    /// If one was: which, and how.
    pub fn is_good(&self) -> Result<(), String> {
        self.broken.borrow().clone().map_or(Ok(()), Err)
    }

    fn show(&self, fact: &Fact<'_>) {
        let now = self.now();
        for checker in self.checkers.borrow_mut().iter_mut() {
            let found = checker.observe(now, fact);
            self.note(checker.name(), found);
        }
    }

    fn note(&self, rule: &str, found: Result<(), String>) {
        if let Err(what) = found {
            self.broken.borrow_mut().get_or_insert(format!("{} {rule}: {what}", self.now()));
        }
    }
}
