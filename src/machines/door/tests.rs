//! Small facts of holding, sending and refusing; and random worlds in which every command has one fate.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::machines::dictionary::Dictionary;
use crate::machines::election::Published;
use crate::messages::client::NotApplied;
use crate::messages::election::Seats;
use crate::messages::ownership::{
    Addresses, Candidate, Cause, Chain, Holder, HolderState, Member, MeshSettings, Role, Standing,
};
use crate::types::{Epoch, Generation, MeshId, Term, Version};

const ME: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);
const LIFE: Incarnation = Incarnation(1);
const RANGES: u16 = 16;
const PARK: Duration = Duration::from_millis(1_500);

fn ms(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn member(id: NodeId) -> Member {
    let addresses = Addresses { cluster: format!("10.0.0.{}:7234", id.0), ..Addresses::default() };
    let node = Candidate {
        id,
        incarnation: LIFE,
        name: format!("drone-{}", id.0),
        addresses,
        zone: String::new(),
        weight: 100,
        role: Role::Drone,
    };
    Member::new(id.0 as u16, node, Standing::Up)
}

fn chain(head: Option<NodeId>, changed: u64) -> Arc<Chain> {
    let holder = |node| Holder { node, incarnation: LIFE, state: HolderState::Serving };
    Arc::new(Chain {
        epoch: Epoch(changed),
        generation: Generation(1),
        changed: Version(changed),
        holders: head.map(holder).into_iter().collect(),
        former: Vec::new(),
        revived: None,
        cause: Cause::Founded,
    })
}

/// All ranges at one head.
fn dictionary(version: u64, head: Option<NodeId>) -> Dictionary {
    let settings = MeshSettings { ranges: RANGES, ..MeshSettings::default() };
    let roster = [ME, TWO, THREE].map(|id| (id, member(id))).into();
    let chains = (0..RANGES).map(|_| chain(head, version)).collect();
    Dictionary::assembled(MeshId(7), Version(version), settings, roster, chains)
}

fn adopt(dictionary: Dictionary) -> Input {
    let published = Published {
        dictionary: Arc::new(dictionary),
        term: Term(1),
        commander: Some(ME),
        commanding: false,
        seats: Seats::default(),
    };
    Input::Adopt(Arc::new(Adoption { published: Arc::new(published), promises: BTreeMap::new() }))
}

fn request(key: &str, write: bool) -> Request {
    let name: &'static [u8] = if write { b"SET" } else { b"GET" };
    let words = vec![name.into(), key.as_bytes().to_vec().into()];
    Request { range: RangeId::of_key(key.as_bytes(), RANGES as usize), words, write, session: 0 }
}

struct Case {
    door: Door,
    now: Instant,
    ticket: u64,
}

impl Case {
    fn new(head: Option<NodeId>) -> Self {
        let config = Config { me: ME, incarnation: LIFE, park: PARK };
        let mut case = Self { door: Door::new(config), now: ms(1_000), ticket: 0 };
        case.step(adopt(dictionary(1, head)));
        case
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.door.step(Now { instant: self.now, wall_ms: 0 }, input, &mut effects);
        effects
    }

    fn submit(&mut self, session: u64, requests: &[Request]) -> Vec<Effect> {
        self.submit_at(session, requests, true)
    }

    fn submit_at(&mut self, session: u64, requests: &[Request], passes_on: bool) -> Vec<Effect> {
        self.ticket += 1;
        self.step(Input::Submit { ticket: self.ticket, session, requests: requests.to_vec(), passes_on })
    }

    fn carried(&mut self, peer: NodeId, id: u64, outcomes: Vec<Outcome>) -> Vec<Effect> {
        self.step(Input::Carried { peer, id, from: 0, outcomes })
    }

    fn until(&mut self, end: Instant) -> Vec<Effect> {
        let mut seen = Vec::new();
        while let Some(at) = self.door.deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            seen.extend(self.step(Input::Timer));
            assert!(self.door.deadline().is_none_or(|next| next > self.now), "a deadline is not met by its timer");
        }
        self.now = end;
        seen
    }
}

fn ok() -> Outcome {
    Outcome::Replied(Reply::ok())
}

fn not_head() -> Outcome {
    Outcome::NotApplied(NotApplied::NotHead(Epoch(1)))
}

/// Ticket, place, and the first word of the reply.
fn answers(effects: &[Effect]) -> Vec<(u64, u32, String)> {
    let answer = |effect: &Effect| match effect {
        Effect::Answer { ticket, place, reply } => Some((*ticket, *place, text(reply).split(' ').next()?.to_owned())),
        _ => None,
    };
    effects.iter().filter_map(answer).collect()
}

fn text(reply: &Reply) -> &str {
    match reply {
        Reply::Simple(text) | Reply::Error(text) => text,
        other => panic!("{other:?}"),
    }
}

fn said(effects: &[Effect]) -> String {
    let answer = |effect: &Effect| match effect {
        Effect::Answer { reply, .. } => Some(text(reply).to_owned()),
        _ => None,
    };
    effects.iter().find_map(answer).expect("an answer")
}

/// Destination (none for here), name, and how many commands.
fn sent(effects: &[Effect]) -> Vec<(Option<NodeId>, u64, usize)> {
    let sent = |effect: &Effect| match effect {
        Effect::Local { ticket, requests } => Some((None, *ticket, requests.len())),
        Effect::Carry { to, id, requests } => Some((Some(*to), *id, requests.len())),
        _ => None,
    };
    effects.iter().filter_map(sent).collect()
}

// Where commands go

#[test]
fn commands_for_this_node_leave_as_one_batch_and_are_answered_by_place() {
    let mut case = Case::new(Some(ME));
    let effects = case.submit(1, &[request("a", true), request("b", false), request("c", true)]);
    let [(None, id, 3)] = sent(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(effects.len(), 1);
    let first = case.step(Input::Outcomes { ticket: id, from: 1, outcomes: vec![ok(), ok()] });
    assert_eq!(answers(&first), [(1, 1, "OK".into()), (1, 2, "OK".into())]);
    let last = case.step(Input::Outcomes { ticket: id, from: 0, outcomes: vec![ok()] });
    assert_eq!(answers(&last), [(1, 0, "OK".into())]);
    assert!(case.door.batches.is_empty() && case.door.sent.is_empty(), "nothing is kept");
    assert_eq!(case.door.deadline(), None);
}

#[test]
fn the_plain_door_carries_and_the_cluster_door_says_where() {
    let mut case = Case::new(Some(TWO));
    let effects = case.submit(1, &[request("foo", true), request("bar", false)]);
    assert_eq!(sent(&effects), [(Some(TWO), 1, 2)]);
    let effects = case.submit_at(2, &[request("foo", true)], false);
    assert_eq!(said(&effects), "MOVED 12182 10.0.0.2:7234");
    assert_eq!(sent(&effects), []);
}

#[test]
fn a_long_batch_is_carried_in_parts() {
    let mut case = Case::new(Some(TWO));
    let many: Vec<Request> = (0..1_200).map(|i| request(&format!("k{i}"), true)).collect();
    let parts: Vec<usize> = sent(&case.submit(1, &many)).iter().map(|(_, _, count)| *count).collect();
    assert_eq!(parts, [512, 512, 176]);
    let mut large = request("a", true);
    large.words.push(vec![0; 700_000].into());
    let parts: Vec<usize> = sent(&case.submit(2, &[large.clone(), large])).iter().map(|part| part.2).collect();
    assert_eq!(parts, [1, 1]);
}

#[test]
fn an_earlier_life_of_this_node_heads_nothing() {
    let mut case = Case::new(Some(ME));
    case.door.config.incarnation = Incarnation(2);
    let effects = case.submit(1, &[request("a", true)]);
    assert_eq!(effects, []);
    assert!(said(&case.until(ms(2_500))).starts_with("CLUSTERDOWN nobody serves slots "));
}

// Holding

#[test]
fn commands_are_parked_while_nobody_heads_and_resumed_in_order() {
    let mut case = Case::new(None);
    assert_eq!(case.submit(1, &[request("a", true), request("b", true)]), []);
    assert_eq!(case.submit(2, &[request("a", false)]), []);
    case.now = ms(2_000);
    let effects = case.step(adopt(dictionary(2, Some(TWO))));
    let Some(Effect::Carry { to: TWO, requests, .. }) = effects.first() else { panic!("{effects:?}") };
    let a = request("a", true).range;
    let of_a: Vec<bool> = requests.iter().filter(|request| request.range == a).map(|request| request.write).collect();
    assert_eq!((requests.len(), of_a), (3, vec![true, false]), "one carry, in order");
}

#[test]
fn what_is_parked_for_too_long_is_refused_with_a_word_that_says_it_did_not_happen() {
    let mut case = Case::new(None);
    case.submit(1, &[request("a", true)]);
    assert_eq!(case.until(ms(2_499)), []);
    let refused = said(&case.until(ms(2_500)));
    assert!(
        refused.starts_with("CLUSTERDOWN") && refused.ends_with("nothing of this command was carried out"),
        "{refused}"
    );

    let mut case = Case::new(Some(TWO));
    let [(_, id, _)] = sent(&case.submit(1, &[request("a", true)]))[..] else { panic!() };
    case.now = ms(2_450);
    case.carried(TWO, id, vec![not_head()]);
    let refused: Vec<_> = case.until(ms(2_454)).into_iter().collect();
    assert_eq!(refused, []);
    let [(_, id, _)] = sent(&case.until(ms(2_455)))[..] else { panic!("tried again after a pause") };
    case.now = ms(2_501);
    let refused = said(&case.carried(TWO, id, vec![Outcome::NotApplied(NotApplied::Held)]));
    assert!(refused.starts_with("TRYAGAIN slots ") && refused.contains("could not be answered"), "{refused}");
}

#[test]
fn a_no_is_followed_to_the_next_head() {
    let mut case = Case::new(Some(TWO));
    let [(_, id, _)] = sent(&case.submit(1, &[request("a", true)]))[..] else { panic!() };
    assert_eq!(sent(&case.step(adopt(dictionary(2, Some(THREE))))), [], "a write is waited for");
    let [(Some(THREE), next, 1)] = sent(&case.carried(TWO, id, vec![not_head()]))[..] else { panic!() };
    assert_eq!(answers(&case.carried(THREE, next, vec![ok()])), [(1, 0, "OK".into())]);
}

#[test]
fn a_read_follows_its_head_at_once_and_the_late_answer_is_ignored() {
    let mut case = Case::new(Some(TWO));
    let [(_, id, _)] = sent(&case.submit(1, &[request("a", false)]))[..] else { panic!() };
    let [(Some(THREE), next, 1)] = sent(&case.step(adopt(dictionary(2, Some(THREE)))))[..] else { panic!() };
    assert_eq!(case.carried(TWO, id, vec![ok()]), []);
    assert_eq!(answers(&case.carried(THREE, next, vec![ok()])).len(), 1);
}

#[test]
fn what_may_be_held_is_bounded() {
    let mut case = Case::new(None);
    let mut large = request("a", true);
    large.words.push(vec![0; 40 << 20].into());
    assert_eq!(case.submit(1, &[large.clone()]), []);
    assert!(said(&case.submit(1, &[large])).starts_with("TRYAGAIN too many commands"));
    let small: Vec<Request> = (0..PARKED).map(|_| request("b", true)).collect();
    assert_eq!(answers(&case.submit(2, &small)).len(), 1);
    case.until(ms(10_000));
    assert_eq!((case.door.parked_bytes, case.door.parked.len(), case.door.standing.len()), (0, 0, 0));
}

// Links

#[test]
fn a_broken_link_makes_writes_uncertain_and_sends_reads_again() {
    let mut case = Case::new(Some(TWO));
    case.submit(1, &[request("a", true), request("b", false)]);
    let effects = case.step(Input::LinkDown(TWO));
    assert_eq!(answers(&effects), [(1, 0, "UNCERTAIN".into())]);
    assert!(effects.contains(&Effect::Unreachable(TWO)));
    assert_eq!(sent(&case.step(Input::LinkUp(TWO))), [(Some(TWO), 2, 1)]);
}

#[test]
fn what_was_not_sent_is_tried_again_with_growing_pauses() {
    let mut case = Case::new(Some(TWO));
    let mut effects = case.submit(1, &[request("a", true)]);
    let (mut tries, mut told) = (0, 0);
    while let [(Some(TWO), id, 1)] = sent(&effects)[..] {
        tries += 1;
        let refused = case.step(Input::NotSent { peer: TWO, id });
        told += refused.iter().filter(|effect| **effect == Effect::Unreachable(TWO)).count();
        assert_eq!(answers(&refused), []);
        effects = case.until(case.door.deadline().expect("it is parked"));
    }
    assert!(said(&effects).starts_with("TRYAGAIN") && case.now == ms(2_500), "{effects:?}");
    assert!((10..40).contains(&tries) && told <= 16, "{tries} tries, told {told} times");
}

#[test]
fn silence_after_sending_ends_at_the_bound() {
    let mut case = Case::new(Some(TWO));
    case.submit(1, &[request("a", true), request("b", false)]);
    assert_eq!(case.until(ms(3_499)), []);
    let effects = case.until(ms(3_500));
    assert_eq!(answers(&effects), [(1, 0, "UNCERTAIN".into()), (1, 1, "TRYAGAIN".into())]);
    assert!(effects.contains(&Effect::Unreachable(TWO)));
}

#[test]
fn a_life_that_is_known_to_have_ended_is_not_waited_for() {
    let mut case = Case::new(Some(TWO));
    case.submit(1, &[request("a", true), request("b", false)]);
    let mut next = dictionary(2, Some(THREE));
    next.roster.get_mut(&TWO).expect("two").dead = Some(LIFE);
    let effects = case.step(adopt(next));
    assert_eq!(answers(&effects), [(1, 0, "UNCERTAIN".into())]);
    assert_eq!(sent(&effects), [(Some(THREE), 2, 1)]);
}

#[test]
fn the_cluster_door_sends_nobody_to_a_node_whose_link_just_broke() {
    let mut case = Case::new(Some(TWO));
    case.step(Input::LinkDown(TWO));
    assert_eq!(answers(&case.submit_at(1, &[request("foo", true)], false)), []);
    assert_eq!(said(&case.step(adopt(dictionary(2, Some(THREE))))), "MOVED 12182 10.0.0.3:7234");
    // Where nothing settles it, the client is sent where the dictionary says.
    case.step(Input::LinkDown(THREE));
    assert_eq!(answers(&case.submit_at(1, &[request("foo", true)], false)), []);
    assert_eq!(said(&case.until(ms(1_900))), "MOVED 12182 10.0.0.3:7234");
}

// Order

#[test]
fn a_session_does_not_overtake_itself_but_others_go_on() {
    let mut case = Case::new(Some(TWO));
    case.submit(1, &[request("a", true)]);
    case.step(adopt(dictionary(2, Some(THREE))));
    assert_eq!(sent(&case.submit(1, &[request("a", true)])), [], "its first write is still at two");
    assert_eq!(sent(&case.submit(2, &[request("a", true)])), [(Some(THREE), 2, 1)]);
    let effects = case.carried(TWO, 1, vec![ok()]);
    assert_eq!(sent(&effects), [(Some(THREE), 3, 1)]);
}

#[test]
fn what_comes_back_after_a_later_one_was_carried_out_is_refused() {
    let mut case = Case::new(Some(TWO));
    let [(_, id, 2)] = sent(&case.submit(1, &[request("a", true), request("a", true)]))[..] else { panic!() };
    let effects = case.step(Input::Carried { peer: TWO, id, from: 0, outcomes: vec![not_head()] });
    assert_eq!(effects, []);
    assert_eq!(sent(&case.until(ms(1_200))), [], "the second is still at two");
    assert_eq!(sent(&case.submit(1, &[request("a", true)])), [], "a third would keep the first waiting");
    let effects = case.step(Input::Carried { peer: TWO, id, from: 1, outcomes: vec![ok()] });
    assert_eq!(answers(&effects), [(1, 0, "TRYAGAIN".into()), (1, 1, "OK".into())]);
    assert_eq!(sent(&effects), [(Some(TWO), 2, 1)]);
}

// Random worlds

/// What is on its way in a world.
#[derive(Clone, Debug)]
enum News {
    /// Commands reach a node.
    Ask {
        node: usize,
        link: u64,
        id: u64,
        requests: Vec<Request>,
    },
    /// Outcomes reach the door.
    Told {
        node: usize,
        link: u64,
        id: u64,
        from: u32,
        outcomes: Vec<Outcome>,
    },
    NotSent {
        node: usize,
        id: u64,
    },
    Broken(usize),
    Mended(usize),
    Learns {
        node: usize,
        version: usize,
    },
    DoorLearns(usize),
    Submit,
}

#[derive(Clone, Debug, Default)]
struct Node {
    known: usize,
    /// Which connection to it stands; the door hears later that one broke.
    link: u64,
    up: bool,
    /// Nothing leaves it before this instant.
    paused: u64,
    /// The link keeps order.
    last_in: u64,
    last_out: u64,
}

#[derive(Debug)]
struct Asked {
    session: u64,
    range: RangeId,
    write: bool,
    at: Instant,
    word: Option<String>,
    /// When the accepted execution happened, by a counter of all executions.
    serial: Option<u64>,
    executions: Vec<u64>,
}

struct World {
    rng: ChaCha8Rng,
    case: Case,
    nodes: Vec<Node>,
    news: BTreeMap<(u64, u64), News>,
    count: u64,
    /// Dictionaries by version; the heads of all ranges.
    history: Vec<Dictionary>,
    asked: Vec<Asked>,
    names: BTreeMap<(u64, u32), usize>,
    /// Commands that are out, by their number, with whether they may be sent again.
    out: BTreeSet<usize>,
    serial: u64,
}

const NODES: [NodeId; 3] = [ME, TWO, THREE];

impl World {
    fn new(seed: u64) -> Self {
        let mut case = Case::new(Some(ME));
        case.now = ms(1_000);
        let nodes = vec![Node { up: true, ..Node::default() }; 3];
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            case,
            nodes,
            news: BTreeMap::new(),
            count: 0,
            history: vec![dictionary(1, Some(ME))],
            asked: Vec::new(),
            names: BTreeMap::new(),
            out: BTreeSet::new(),
            serial: 0,
        }
    }

    fn later(&mut self, ns: u64, news: News) {
        self.count += 1;
        self.news.insert((self.case.now.0 + ns, self.count), news);
    }

    fn at(&mut self, at: u64, news: News) {
        self.count += 1;
        self.news.insert((at, self.count), news);
    }

    fn span(&mut self, most_ms: u64) -> u64 {
        self.rng.gen_range(1..most_ms * 1_000_000)
    }

    /// Plans faults and batches over ten seconds, and lets them happen.
    fn run(mut self) -> (usize, BTreeMap<String, usize>) {
        for _ in 0..120 {
            let at = self.span(10_000);
            self.later(at, News::Submit);
        }
        for _ in 0..self.rng.gen_range(0..30) {
            self.plan_change();
        }
        for _ in 0..self.rng.gen_range(0..8) {
            let (at, node) = (self.span(10_000), self.rng.gen_range(1..3));
            self.later(at, News::Broken(node));
        }
        for _ in 0..self.rng.gen_range(0..3) {
            let at = 1_000_000_000 + self.span(9_000);
            let until = at + self.span(6_000);
            let node = self.rng.gen_range(0..3);
            self.nodes[node].paused = until;
        }
        self.go();
        self.check()
    }

    /// A new version, which nodes and the door learn in their own time.
    fn plan_change(&mut self) {
        let version = self.history.len() + 1;
        let mut next = self.history.last().expect("one").clone();
        next.version = Version(version as u64);
        for place in 0..RANGES as usize {
            if self.rng.gen_bool(0.4) {
                let head = NODES.get(self.rng.gen_range(0..4)).copied();
                next.chains[place] = chain(head, version as u64);
            }
        }
        self.history.push(next);
        let at = 300_000_000 * version as u64;
        for node in 0..3 {
            let delay = self.span(400);
            self.later(at + delay, News::Learns { node, version });
        }
        let delay = self.span(400);
        self.later(at + delay, News::DoorLearns(version));
    }

    fn go(&mut self) {
        loop {
            let next = self.news.first_key_value().map(|((at, _), _)| Instant(*at));
            let timer = self.case.door.deadline();
            match (next, timer) {
                (None, None) => return,
                (next, Some(at)) if next.is_none_or(|next| at <= next) => {
                    self.case.now = at.max(self.case.now);
                    self.tell(Input::Timer);
                }
                _ => {
                    let ((at, _), news) = self.news.pop_first().expect("just seen");
                    self.case.now = Instant(at).max(self.case.now);
                    self.on_news(news);
                }
            }
        }
    }

    fn on_news(&mut self, news: News) {
        match news {
            News::Submit => self.submit(),
            News::Ask { node, link, id, requests } => self.on_ask(node, link, id, &requests),
            News::Told { node, link, id, from, outcomes } => self.on_told(node, link, id, from, outcomes),
            News::NotSent { node, id } => {
                self.tell(Input::NotSent { peer: NODES[node], id });
            }
            News::Broken(node) => self.on_broken(node),
            News::Mended(node) => {
                self.nodes[node].up = true;
                self.tell(Input::LinkUp(NODES[node]));
            }
            News::Learns { node, version } => self.nodes[node].known = self.nodes[node].known.max(version - 1),
            News::DoorLearns(version) => {
                let known = self.case.door.adoption.as_ref().expect("one").published.dictionary.version.0;
                if known < version as u64 {
                    let dictionary = self.history[version - 1].clone();
                    self.tell(adopt(dictionary));
                }
            }
        }
    }

    fn submit(&mut self) {
        let session = self.rng.gen_range(0..4);
        let ticket = self.case.ticket + 1;
        let mut requests = Vec::new();
        for place in 0..self.rng.gen_range(1..8) {
            let key = ["a", "b", "foo", "bar"][self.rng.gen_range(0..4)];
            let mut request = request(key, self.rng.gen_bool(0.6));
            let number = self.asked.len();
            request.words.push(number.to_string().into_bytes().into());
            let (range, write, at) = (request.range, request.write, self.case.now);
            self.asked.push(Asked { session, range, write, at, word: None, serial: None, executions: Vec::new() });
            self.names.insert((ticket, place), number);
            requests.push(request);
        }
        let effects = self.case.submit(session, &requests);
        self.perform(effects);
    }

    fn on_ask(&mut self, node: usize, link: u64, id: u64, requests: &[Request]) {
        if link != self.nodes[node].link {
            return;
        }
        let mut outcomes = Vec::new();
        // A store answers whole messages alike for a range, as it stands at one instant; now and then it is full.
        let busy = self.rng.gen_bool(0.03);
        for request in requests {
            let head = self.history[self.nodes[node].known].chain(request.range).head().map(|head| head.node);
            if busy {
                outcomes.push(Outcome::NotApplied(NotApplied::Busy));
            } else if head != Some(NODES[node]) {
                outcomes.push(not_head());
            } else if self.rng.gen_bool(0.02) && request.write {
                self.execute(request);
                outcomes.push(Outcome::Uncertain);
            } else {
                let serial = self.execute(request);
                outcomes.push(Outcome::Replied(Reply::Integer(serial as i64)));
            }
        }
        let cut = self.rng.gen_range(0..=outcomes.len());
        let rest = outcomes.split_off(cut);
        for (from, outcomes) in [(0, outcomes), (cut as u32, rest)] {
            let delay = self.span(20);
            let out = &mut self.nodes[node];
            out.last_out = out.last_out.max(self.case.now.0 + delay).max(out.paused);
            let at = out.last_out;
            self.at(at, News::Told { node, link, id, from, outcomes });
        }
    }

    fn execute(&mut self, request: &Request) -> u64 {
        self.serial += 1;
        let asked = &mut self.asked[number_of(request)];
        asked.executions.push(self.serial);
        self.serial
    }

    fn on_told(&mut self, node: usize, link: u64, id: u64, from: u32, outcomes: Vec<Outcome>) {
        if link != self.nodes[node].link {
            return;
        }
        // What was said not to have happened may be sent again.
        if let Some(sent) = self.case.door.sent.get(&id) {
            let slots = sent.slots[from as usize..].iter().zip(&outcomes);
            let no: Vec<Which> = slots
                .filter(|(_, outcome)| matches!(outcome, Outcome::NotApplied(_)))
                .filter_map(|(slot, _)| *slot)
                .collect();
            for which in no {
                self.may_leave_again(which);
            }
        }
        let peer = NODES[node];
        self.tell(if node == 0 {
            Input::Outcomes { ticket: id, from, outcomes }
        } else {
            Input::Carried { peer, id, from, outcomes }
        });
    }

    fn may_leave_again(&mut self, which: Which) {
        let request = self.case.door.batches[&which.batch].commands[which.place as usize].request.as_ref();
        self.out.remove(&number_of(request.expect("open")));
    }

    fn on_broken(&mut self, node: usize) {
        if !self.nodes[node].up {
            return;
        }
        self.nodes[node].up = false;
        self.nodes[node].link += 1;
        self.tell(Input::LinkDown(NODES[node]));
        let delay = self.span(2_500);
        self.later(delay, News::Mended(node));
    }

    fn tell(&mut self, input: Input) {
        let effects = self.case.step(input);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Local { ticket, requests } => self.leave(0, ticket, requests),
                Effect::Carry { to, id, requests } => self.leave(to.0 as usize - 1, id, requests),
                Effect::Answer { ticket, place, reply } => self.on_answer(ticket, place, &reply),
                Effect::Unreachable(_) => {}
            }
        }
    }

    fn leave(&mut self, node: usize, id: u64, requests: Vec<Request>) {
        for request in requests.iter().filter(|request| request.write) {
            let number = number_of(request);
            assert!(self.out.insert(number), "write {number} is sent again though its fate is unknown");
        }
        let refused = node > 0 && (!self.nodes[node].up || self.rng.gen_bool(0.05));
        if refused {
            for request in &requests {
                self.out.remove(&number_of(request));
            }
            let delay = self.span(5);
            return self.later(delay, News::NotSent { node, id });
        }
        let delay = self.span(20);
        let to = &mut self.nodes[node];
        to.last_in = to.last_in.max(self.case.now.0 + delay).max(to.paused);
        let (at, link) = (to.last_in, to.link);
        self.at(at, News::Ask { node, link, id, requests });
    }

    fn on_answer(&mut self, ticket: u64, place: u32, reply: &Reply) {
        let asked = &mut self.asked[self.names[&(ticket, place)]];
        assert!(asked.word.is_none(), "answered twice");
        let within = PARK + PARK + GRACE;
        assert!(self.case.now <= asked.at + within, "answered {:?} after it was asked", self.case.now.since(asked.at));
        match reply {
            Reply::Integer(serial) => {
                asked.serial = Some(*serial as u64);
                asked.word = Some("OK".into());
            }
            other => asked.word = text(other).split(' ').next().map(str::to_owned),
        }
    }

    fn check(self) -> (usize, BTreeMap<String, usize>) {
        let mut words = BTreeMap::new();
        let mut last: BTreeMap<(u64, RangeId), u64> = BTreeMap::new();
        for (number, asked) in self.asked.iter().enumerate() {
            let word = asked.word.clone().unwrap_or_else(|| panic!("command {number} was never answered: {asked:?}"));
            match word.as_str() {
                "OK" => assert!(!asked.write || asked.executions.len() == 1, "{asked:?}"),
                "UNCERTAIN" => assert!(asked.write && asked.executions.len() <= 1, "{asked:?}"),
                _ => assert!(!asked.write || asked.executions.is_empty(), "refused, and yet carried out: {asked:?}"),
            }
            // One of unknown fate may yet happen at any time; the answered ones are in order.
            if let Some(serial) = asked.serial {
                let before = last.insert((asked.session, asked.range), serial);
                assert!(before.is_none_or(|before| before < serial), "command {number} was overtaken: {asked:?}");
            }
            *words.entry(word).or_default() += 1;
        }
        let door = &self.case.door;
        assert!(door.batches.is_empty() && door.sent.is_empty() && door.parked.is_empty());
        assert!(door.traffic.iter().all(|traffic| traffic.flying.is_empty() && traffic.parked.is_empty()));
        assert_eq!((door.parked_bytes, door.standing.len()), (0, 0));
        (self.asked.len(), words)
    }
}

fn number_of(request: &Request) -> usize {
    std::str::from_utf8(&request.words[2]).expect("digits").parse().expect("a number")
}

#[test]
fn in_random_worlds_every_command_has_one_fate_in_time_and_order() {
    let mut words: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = 0;
    for seed in 0..300 {
        let (count, said) = World::new(seed).run();
        all += count;
        said.into_iter().for_each(|(word, times)| *words.entry(word).or_default() += times);
    }
    for word in ["OK", "TRYAGAIN", "CLUSTERDOWN", "UNCERTAIN"] {
        assert!(words.get(word).is_some_and(|times| *times > 100), "{word} is too rare: {words:?}");
    }
    assert!(words["OK"] * 2 > all, "{words:?}");
}
