//! Our words for votes and log records to the library's, and back: the one place where both are known.
//!
//! Wire and disk carry our plain types (`messages::election`), so the library's encoding (protobuf) reads no byte that
//! came from a socket or a file. A change of seats travels in the `context` of its record, in our encoding; the library
//! looks at its own encoding of it (`data`) once, when the change is proposed, and never again.

use raft::eraftpb as lib;
use raft::prelude::ConfChangeV2;

use crate::messages::election::{
    ElectionMessage, Entry, HardState, MessageKind, Payload, Seats, SeatsChange, Snapshot,
};
use crate::types::{NodeId, Term};
use crate::wire::codec;

/// Our message, as the library hears it.
pub(super) fn message_in(from: NodeId, to: NodeId, message: ElectionMessage) -> lib::Message {
    let mut heard = lib::Message::default();
    heard.set_msg_type(kind_in(message.kind));
    heard.from = from.0;
    heard.to = to.0;
    heard.term = message.term.0;
    heard.log_term = message.log_term;
    heard.index = message.index;
    heard.set_entries(message.entries.into_iter().map(entry_in).collect::<Vec<_>>().into());
    heard.commit = message.commit;
    heard.commit_term = message.commit_term;
    heard.reject = message.reject;
    heard.reject_hint = message.reject_hint;
    heard.context = message.context.into();
    heard.priority = message.priority;
    if let Some(snapshot) = message.snapshot {
        heard.set_snapshot(snapshot_in(*snapshot));
    }
    heard
}

/// What the library says, in our words, and to whom. None for kinds that never travel.
pub(super) fn message_out(mut said: lib::Message) -> Option<(NodeId, ElectionMessage)> {
    let kind = kind_out(said.get_msg_type())?;
    let snapshot = (kind == MessageKind::Snapshot).then(|| Box::new(snapshot_out(&said.take_snapshot())));
    let message = ElectionMessage {
        kind,
        term: Term(said.term),
        log_term: said.log_term,
        index: said.index,
        entries: said.take_entries().into_iter().map(|entry| entry_out(&entry)).collect(),
        commit: said.commit,
        commit_term: said.commit_term,
        snapshot,
        reject: said.reject,
        reject_hint: said.reject_hint,
        context: said.context.to_vec(),
        priority: said.priority,
    };
    Some((NodeId(said.to), message))
}

/// A record of the log, as the library keeps it.
pub(super) fn entry_in(entry: Entry) -> lib::Entry {
    let mut kept = lib::Entry { index: entry.index, term: entry.term.0, ..Default::default() };
    match entry.payload {
        Payload::Empty => {}
        Payload::Command(data) => kept.data = data.into(),
        Payload::Seats(change) => {
            kept.set_entry_type(lib::EntryType::EntryConfChangeV2);
            kept.context = change_bytes(&change).into();
        }
    }
    kept
}

/// A record of the log in our words.
pub(super) fn entry_out(kept: &lib::Entry) -> Entry {
    let payload = match kept.get_entry_type() {
        lib::EntryType::EntryNormal if kept.data.is_empty() => Payload::Empty,
        lib::EntryType::EntryNormal => Payload::Command(kept.data.to_vec()),
        _ => Payload::Seats(change_of(kept)),
    };
    Entry { index: kept.index, term: Term(kept.term), payload }
}

/// The change of seats in a record. Where the library itself proposed to complete one, the record is empty, and so is the
/// change: no bytes are the default.
pub(super) fn change_of(kept: &lib::Entry) -> SeatsChange {
    if kept.context.is_empty() {
        return SeatsChange::default();
    }
    codec::decode(&kept.context).expect("written by change_bytes, in this process")
}

/// A change of seats as it lies in a record's context.
pub(super) fn change_bytes(change: &SeatsChange) -> Vec<u8> {
    if change.completes() { Vec::new() } else { codec::encode(change) }
}

/// A change of seats, as the library carries it out.
pub(super) fn change_in(change: &SeatsChange) -> ConfChangeV2 {
    let mut change_in = ConfChangeV2::default();
    let of = |nodes: &[NodeId], kind| {
        nodes.iter().map(|node| raft_single(*node, kind)).collect::<Vec<lib::ConfChangeSingle>>()
    };
    let mut changes = of(&change.voters, lib::ConfChangeType::AddNode);
    changes.extend(of(&change.learners, lib::ConfChangeType::AddLearnerNode));
    changes.extend(of(&change.gone, lib::ConfChangeType::RemoveNode));
    change_in.set_changes(changes.into());
    change_in
}

fn raft_single(node: NodeId, kind: lib::ConfChangeType) -> lib::ConfChangeSingle {
    let mut single = lib::ConfChangeSingle { node_id: node.0, ..Default::default() };
    single.set_change_type(kind);
    single
}

/// Who counts, as the library has it.
pub(super) fn seats_in(seats: &Seats) -> lib::ConfState {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<u64>>();
    let mut state = lib::ConfState::default();
    state.set_voters(ids(&seats.voters));
    state.set_learners(ids(&seats.learners));
    state.set_voters_outgoing(ids(&seats.outgoing));
    state.set_learners_next(ids(&seats.learners_next));
    state.auto_leave = seats.auto_leave;
    state
}

/// Who counts, in our words and in the order of ids.
pub(super) fn seats_out(state: &lib::ConfState) -> Seats {
    let nodes = |ids: &[u64]| {
        let mut nodes: Vec<NodeId> = ids.iter().map(|id| NodeId(*id)).collect();
        nodes.sort();
        nodes
    };
    Seats {
        voters: nodes(&state.voters),
        learners: nodes(&state.learners),
        outgoing: nodes(&state.voters_outgoing),
        learners_next: nodes(&state.learners_next),
        auto_leave: state.auto_leave,
    }
}

/// A snapshot, as the library has it.
pub(super) fn snapshot_in(snapshot: Snapshot) -> lib::Snapshot {
    let mut taken = lib::Snapshot::default();
    let about = taken.mut_metadata();
    about.index = snapshot.index;
    about.term = snapshot.term.0;
    about.set_conf_state(seats_in(&snapshot.seats));
    taken.data = snapshot.data.into();
    taken
}

/// A snapshot in our words.
pub(super) fn snapshot_out(taken: &lib::Snapshot) -> Snapshot {
    let about = taken.get_metadata();
    Snapshot {
        index: about.index,
        term: Term(about.term),
        seats: seats_out(about.get_conf_state()),
        data: taken.data.to_vec(),
    }
}

/// Term, vote and commit, as the library has them.
pub(super) fn hard_in(hard: HardState) -> lib::HardState {
    let vote = hard.vote.map_or(raft::INVALID_ID, |node| node.0);
    lib::HardState { term: hard.term.0, vote, commit: hard.commit, ..Default::default() }
}

/// Term, vote and commit in our words.
pub(super) fn hard_out(hard: &lib::HardState) -> HardState {
    HardState { term: Term(hard.term), vote: node(hard.vote), commit: hard.commit }
}

/// The library says 0 for nobody.
pub(super) fn node(id: u64) -> Option<NodeId> {
    (id != raft::INVALID_ID).then_some(NodeId(id))
}

fn kind_in(kind: MessageKind) -> lib::MessageType {
    use lib::MessageType as Lib;
    match kind {
        MessageKind::Append => Lib::MsgAppend,
        MessageKind::AppendResponse => Lib::MsgAppendResponse,
        MessageKind::RequestVote => Lib::MsgRequestVote,
        MessageKind::RequestVoteResponse => Lib::MsgRequestVoteResponse,
        MessageKind::RequestPreVote => Lib::MsgRequestPreVote,
        MessageKind::RequestPreVoteResponse => Lib::MsgRequestPreVoteResponse,
        MessageKind::Snapshot => Lib::MsgSnapshot,
        MessageKind::Heartbeat => Lib::MsgHeartbeat,
        MessageKind::HeartbeatResponse => Lib::MsgHeartbeatResponse,
        MessageKind::TimeoutNow => Lib::MsgTimeoutNow,
    }
}

fn kind_out(kind: lib::MessageType) -> Option<MessageKind> {
    use lib::MessageType as Lib;
    Some(match kind {
        Lib::MsgAppend => MessageKind::Append,
        Lib::MsgAppendResponse => MessageKind::AppendResponse,
        Lib::MsgRequestVote => MessageKind::RequestVote,
        Lib::MsgRequestVoteResponse => MessageKind::RequestVoteResponse,
        Lib::MsgRequestPreVote => MessageKind::RequestPreVote,
        Lib::MsgRequestPreVoteResponse => MessageKind::RequestPreVoteResponse,
        Lib::MsgSnapshot => MessageKind::Snapshot,
        Lib::MsgHeartbeat => MessageKind::Heartbeat,
        Lib::MsgHeartbeatResponse => MessageKind::HeartbeatResponse,
        Lib::MsgTimeoutNow => MessageKind::TimeoutNow,
        // Local ones, and those by which a follower would pass on a request: nobody asks the library for that.
        Lib::MsgHup
        | Lib::MsgBeat
        | Lib::MsgPropose
        | Lib::MsgUnreachable
        | Lib::MsgSnapStatus
        | Lib::MsgCheckQuorum
        | Lib::MsgTransferLeader
        | Lib::MsgReadIndex
        | Lib::MsgReadIndexResp => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule of the library: it completes a joint change by an empty record, which must mean the empty change.
    #[test]
    fn leaving_joint_mode_is_an_empty_record() {
        let mut proposed_by_the_library = lib::Entry::default();
        proposed_by_the_library.set_entry_type(lib::EntryType::EntryConfChangeV2);
        let ours = entry_out(&proposed_by_the_library);
        assert_eq!(ours.payload, Payload::Seats(SeatsChange::default()));
        // And through wire and disk, and back into the library.
        let carried: Entry = codec::decode(&codec::encode(&ours)).unwrap();
        let back = entry_in(carried);
        assert_eq!(back.get_entry_type(), lib::EntryType::EntryConfChangeV2);
        assert!(change_in(&change_of(&back)).leave_joint());
    }

    #[test]
    fn records_and_messages_survive_the_way_through_the_library() {
        let change = SeatsChange { voters: vec![NodeId(7)], learners: vec![NodeId(3)], ..Default::default() };
        let entries = vec![
            Entry { index: 4, term: Term(2), payload: Payload::Empty },
            Entry { index: 5, term: Term(2), payload: Payload::Command(vec![1, 2, 3]) },
            Entry { index: 6, term: Term(3), payload: Payload::Seats(change) },
        ];
        let seats = Seats { voters: vec![NodeId(1), NodeId(2)], learners: vec![NodeId(3)], ..Default::default() };
        let message = ElectionMessage {
            kind: MessageKind::Append,
            term: Term(3),
            log_term: 2,
            index: 3,
            entries,
            commit: 5,
            commit_term: 2,
            snapshot: None,
            reject: true,
            reject_hint: 9,
            context: vec![1],
            priority: 4,
        };
        let through = message_out(message_in(NodeId(1), NodeId(2), message.clone()));
        assert_eq!(through, Some((NodeId(2), message)));
        let snapshot = Snapshot { index: 9, term: Term(3), seats, data: vec![5; 10] };
        assert_eq!(snapshot_out(&snapshot_in(snapshot.clone())), snapshot);
    }
}
