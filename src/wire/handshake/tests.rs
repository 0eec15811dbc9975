//! Each refusal by name, and the ways that lead to a welcome.

use proptest::prelude::*;

use super::*;
use crate::messages::heartbeat::HeartbeatMessage;
use crate::messages::ownership::JoinMessage;
use crate::messages::peer::{PROTOCOL, PeerMessage};

const MESH: MeshId = MeshId(u128::MAX - 77);
const A: NodeId = NodeId(0xa);
const B: NodeId = NodeId(0xb);

fn known(node: NodeId) -> Known {
    Known {
        versions: PROTOCOL,
        mesh: Some(MESH),
        node,
        incarnation: Incarnation(5),
        secret: b"hush".to_vec(),
        version: Version(9),
        roster: Some(BTreeMap::from([(A, Incarnation(5)), (B, Incarnation(5))])),
        gone: BTreeSet::new(),
        living: BTreeMap::new(),
    }
}

fn stranger(node: NodeId) -> Known {
    Known { mesh: None, roster: None, version: Version(0), ..known(node) }
}

type Heard = Result<Option<Peer>, Refused>;

struct Talk {
    caller: Heard,
    called: Heard,
}

/// Carries bytes between the two until both have finished or neither says more.
fn talk(caller: &Known, called: &Known, to: Option<NodeId>, lane: Lane) -> Talk {
    let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
    let mut calling = Caller::new(caller, to, lane, [1; 16], &mut there);
    let mut answering = Called::new([2; 16]);
    let mut talk = Talk { caller: Ok(None), called: Ok(None) };
    for _ in 0..4 {
        if talk.called == Ok(None) {
            talk.called = answering.hear(called, &mut there, &mut back);
        }
        if talk.caller == Ok(None) {
            talk.caller = calling.hear(caller, &mut back, &mut there);
        }
    }
    talk
}

/// The called side refuses with this, and the caller is told.
fn refused_by_called(talk: Talk) -> PeerRefusal {
    let why = talk.called.expect_err("the called side refuses").why;
    assert_eq!(talk.caller, Err(Refused { by: Side::Theirs, why: why.clone() }));
    why
}

fn refused_by_caller(talk: Talk) -> PeerRefusal {
    let refused = talk.caller.expect_err("the caller refuses");
    assert_eq!((refused.by, talk.called), (Side::Ours, Ok(None)));
    refused.why
}

fn answer_to(bytes: &[u8]) -> (Heard, BytesMut) {
    let (mut input, mut output) = (BytesMut::from(bytes), BytesMut::new());
    let heard = Called::new([2; 16]).hear(&known(B), &mut input, &mut output);
    (heard, output)
}

fn greeting() -> Greeting {
    let Known { mesh, node, incarnation, version, .. } = known(A);
    Greeting { versions: PROTOCOL, mesh, node, incarnation, to: Some(B), lane: Lane::Control, nonce: [1; 16], version }
}

fn after_magic<T: serde::Serialize>(value: &T) -> BytesMut {
    let mut bytes = BytesMut::from(&MAGIC[..]);
    say(value, &mut bytes);
    bytes
}

#[test]
fn two_nodes_of_a_roster_know_each_other() {
    for lane in [Lane::Control, Lane::Data, Lane::Bulk] {
        let talk = talk(&known(A), &known(B), Some(B), lane);
        let peer = |node| Peer {
            node,
            incarnation: Incarnation(5),
            mesh: Some(MESH),
            lane,
            version: PROTOCOL.1,
            joining: false,
        };
        assert_eq!(talk.caller, Ok(Some(peer(B))));
        assert_eq!(talk.called, Ok(Some(peer(A))));
    }
}

#[test]
fn without_a_secret_the_flow_is_the_same() {
    let open = |node| Known { secret: Vec::new(), ..known(node) };
    assert!(matches!(talk(&open(A), &open(B), Some(B), Lane::Data).called, Ok(Some(_))));
}

#[test]
fn a_stranger_may_ask_to_join() {
    let heard = talk(&stranger(NodeId(0xc)), &known(B), None, Lane::Control);
    let (caller, called) = (heard.caller.unwrap().unwrap(), heard.called.unwrap().unwrap());
    assert!(caller.joining && called.joining);
    assert_eq!((caller.mesh, called.mesh), (Some(MESH), None));
    // Two that belong to nothing may tell each other so.
    assert!(matches!(talk(&stranger(A), &stranger(B), None, Lane::Control).called, Ok(Some(_))));
}

#[test]
fn bytes_behind_the_welcome_are_kept_for_the_messages() {
    let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
    let mut caller = Caller::new(&known(A), Some(B), Lane::Control, [1; 16], &mut there);
    let mut called = Called::new([2; 16]);
    called.hear(&known(B), &mut there, &mut back).unwrap();
    caller.hear(&known(A), &mut back, &mut there).unwrap();
    called.hear(&known(B), &mut there, &mut back).unwrap().unwrap();
    back.extend_from_slice(b"more");
    assert!(caller.hear(&known(A), &mut back, &mut there).unwrap().is_some());
    assert_eq!(&back[..], b"more");
}

#[test]
fn bad_magic() {
    let (heard, output) = answer_to(b"PING\r\n");
    assert_eq!(heard, Err(PeerRefusal::BadMagic.into()));
    // Told in a line, since whoever this is reads no frames.
    assert!(output.starts_with(b"-ERR BadMagic: ") && output.ends_with(b"\r\n"));
    // The caller, too, refuses what answers in another tongue, by the first byte that differs.
    let mut caller = Caller::new(&known(A), Some(B), Lane::Control, [1; 16], &mut BytesMut::new());
    let heard = caller.hear(&known(A), &mut BytesMut::from("H"), &mut BytesMut::new());
    assert_eq!(heard, Err(PeerRefusal::BadMagic.into()));
}

#[test]
fn bad_version() {
    let newer = Greeting { versions: (PROTOCOL.1 + 1, PROTOCOL.1 + 3), ..greeting() };
    assert_eq!(answer_to(&after_magic(&newer)).0, Err(PeerRefusal::BadVersion { mine: PROTOCOL }.into()));
    assert_eq!(common((1, 3), (2, 4)), Some(3));
    assert_eq!(common((1, 1), (2, 3)), None);
}

#[test]
fn wrong_mesh() {
    let other = Known { mesh: Some(MeshId(1)), ..known(B) };
    let why = refused_by_called(talk(&known(A), &other, Some(B), Lane::Control));
    assert_eq!(why, PeerRefusal::WrongMesh { mine: Some(MeshId(1)) });
    // A node that has no mesh yet knows no member either.
    let why = refused_by_called(talk(&known(A), &stranger(B), Some(B), Lane::Control));
    assert_eq!(why, PeerRefusal::WrongMesh { mine: None });
}

#[test]
fn wrong_node() {
    let why = refused_by_called(talk(&known(A), &known(B), Some(NodeId(0xc)), Lane::Control));
    assert_eq!(why, PeerRefusal::WrongNode { mine: B });
    // A node that calls itself learns so by its own name.
    let why = refused_by_called(talk(&stranger(B), &stranger(B), None, Lane::Control));
    assert_eq!(why, PeerRefusal::WrongNode { mine: B });
}

#[test]
fn node_id_in_use() {
    let in_use = |caller: Known, called: Known| {
        assert_eq!(refused_by_called(talk(&caller, &called, Some(B), Lane::Control)), PeerRefusal::NodeIdInUse);
    };
    let older = Known { incarnation: Incarnation(4), ..known(A) };
    let newer = Known { incarnation: Incarnation(6), ..known(A) };
    // The roster lists a later life.
    in_use(older, known(B));
    // Another life of it is heard this instant; without that, it has been started again.
    in_use(newer.clone(), Known { living: BTreeMap::from([(A, Incarnation(5))]), ..known(B) });
    assert!(matches!(talk(&newer, &known(B), Some(B), Lane::Control).called, Ok(Some(_))));
    // Our own name in another life.
    in_use(Known { incarnation: Incarnation(6), ..known(B) }, known(B));
    // The caller finds an outlived process at the address of a node that has been started again elsewhere.
    let outlived = Known { incarnation: Incarnation(4), ..known(B) };
    assert_eq!(refused_by_caller(talk(&known(A), &outlived, Some(B), Lane::Control)), PeerRefusal::NodeIdInUse);
}

#[test]
fn not_on_roster() {
    let c = NodeId(0xc);
    let why = refused_by_called(talk(&known(c), &known(B), Some(B), Lane::Data));
    assert_eq!(why, PeerRefusal::NotOnRoster { version: Version(9), removed: false });
    let after_drop = Known { gone: BTreeSet::from([c]), ..known(B) };
    let removed = PeerRefusal::NotOnRoster { version: Version(9), removed: true };
    assert_eq!(refused_by_called(talk(&known(c), &after_drop, Some(B), Lane::Data)), removed);
    // Nor by one that it takes for another: it may know nobody who is still there.
    assert_eq!(refused_by_called(talk(&known(c), &after_drop, Some(A), Lane::Control)), removed);
    let elsewhere = Known { mesh: Some(MeshId(1)), ..known(c) };
    let why = refused_by_called(talk(&elsewhere, &after_drop, Some(A), Lane::Control));
    assert_eq!(why, PeerRefusal::WrongNode { mine: B }, "an id of another mesh");
    // Nor under the same id as a stranger.
    assert_eq!(refused_by_called(talk(&stranger(c), &after_drop, None, Lane::Control)), removed);
    // Who knows a newer dictionary may have been admitted by it.
    let newer = Known { version: Version(10), ..known(c) };
    assert!(matches!(talk(&newer, &known(B), Some(B), Lane::Data).called, Ok(Some(_))));
    // A node without a dictionary hears whoever is of its mesh.
    let empty = Known { roster: None, version: Version(0), ..known(B) };
    assert!(matches!(talk(&known(c), &empty, Some(B), Lane::Data).called, Ok(Some(_))));
}

#[test]
fn bad_secret() {
    let guess = Known { secret: b"guess".to_vec(), ..known(A) };
    assert_eq!(refused_by_caller(talk(&guess, &known(B), Some(B), Lane::Control)), PeerRefusal::BadSecret);
    // A caller that does not care what the called side proved is refused all the same, also with that side's own proof.
    let (mut input, mut output) = (after_magic(&greeting()), BytesMut::new());
    let mut called = Called::new([2; 16]);
    assert_eq!(called.hear(&known(B), &mut input, &mut output), Ok(None));
    output.advance(MAGIC.len());
    let Ok(Some(Answer::Challenge { proof, .. })) = take(&mut output) else { panic!("challenged") };
    say(&Proof(proof), &mut input);
    assert_eq!(called.hear(&known(B), &mut input, &mut output), Err(PeerRefusal::BadSecret.into()));
    assert_eq!(take::<Answer>(&mut output), Ok(Some(Answer::Refused(PeerRefusal::BadSecret))));
}

#[test]
fn malformed() {
    let is_malformed = |bytes: &[u8]| {
        let (heard, mut output) = answer_to(&[&MAGIC[..], bytes].concat());
        assert!(matches!(heard, Err(Refused { by: Side::Ours, why: PeerRefusal::Malformed(_) })), "{heard:?}");
        output.advance(MAGIC.len());
        assert!(matches!(take(&mut output), Ok(Some(Answer::Refused(PeerRefusal::Malformed(_))))));
    };
    is_malformed(&[0, 0, 0, 2, 0xff, 0xff]);
    is_malformed(&[0, 0, 0, 0]);
    is_malformed(&[0x7f, 0, 0, 0]);
}

#[test]
fn unexpected() {
    let unexpected = Err(PeerRefusal::Unexpected.into());
    let probe = PeerMessage::Heartbeat(HeartbeatMessage::Probe(1));
    assert_eq!(answer_to(&after_magic(&probe)).0, unexpected);
    let answer = JoinMessage::Answer(crate::messages::ownership::JoinAnswer::NoMesh);
    assert_eq!(answer_to(&after_magic(&answer)).0, unexpected);
    assert_eq!(answer_to(&after_magic(&Answer::Welcome)).0, unexpected);
    // After the greeting only the proof.
    let mut bytes = after_magic(&greeting());
    say(&probe, &mut bytes);
    assert_eq!(answer_to(&bytes).0, unexpected);
    // A node without a mesh has nothing to say on other lanes.
    let why = refused_by_called(talk(&stranger(A), &known(B), None, Lane::Data));
    assert_eq!(why, PeerRefusal::Unexpected);
}

#[test]
fn secrets_stay_out_of_logs() {
    assert!(!format!("{:?}", known(A)).contains("hush") && !format!("{:?}", known(A)).contains("104"));
}

proptest! {
    #[test]
    fn any_bytes_are_waited_for_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in any::<bool>()) {
        let bytes = if magic { [&MAGIC[..], &bytes].concat() } else { bytes };
        prop_assert!(!matches!(answer_to(&bytes).0, Ok(Some(_))));
        let mut caller = Caller::new(&known(A), Some(B), Lane::Data, [1; 16], &mut BytesMut::new());
        let heard = caller.hear(&known(A), &mut BytesMut::from(&bytes[..]), &mut BytesMut::new());
        prop_assert!(!matches!(heard, Ok(Some(_))));
    }

    #[test]
    fn a_handshake_may_come_byte_by_byte(cut in 1usize..40) {
        let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
        let (mut to_called, mut to_caller) = (BytesMut::new(), BytesMut::new());
        let mut caller = Caller::new(&known(A), Some(B), Lane::Data, [1; 16], &mut there);
        let mut called = Called::new([2; 16]);
        let mut welcomed = (None, None);
        for _ in 0..1000 {
            to_called.unsplit(there.split_to(cut.min(there.len())));
            to_caller.unsplit(back.split_to(cut.min(back.len())));
            welcomed.0 = welcomed.0.or(called.hear(&known(B), &mut to_called, &mut back).unwrap_or(None));
            if welcomed.1.is_none() {
                welcomed.1 = caller.hear(&known(A), &mut to_caller, &mut there).unwrap();
            }
        }
        prop_assert!(welcomed.0.is_some() && welcomed.1.is_some());
    }
}
