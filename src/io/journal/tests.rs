//! What the journal keeps, and what it says when it cannot.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::messages::election::{HardState, Payload, Seats, SeatsChange, Snapshot};
use crate::types::Term;

fn entry(index: u64, term: u64) -> Entry {
    let payload = match index % 3 {
        0 => Payload::Empty,
        1 => Payload::Command(vec![index as u8; 40]),
        _ => Payload::Seats(SeatsChange { voters: vec![NodeId(index)], ..SeatsChange::default() }),
    };
    Entry { index, term: Term(term), payload }
}

fn snapshot(index: u64, term: u64) -> Snapshot {
    let seats = Seats { voters: vec![NodeId(1)], ..Seats::default() };
    Snapshot { index, term: Term(term), seats, data: vec![7; 100] }
}

fn entries(indices: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    indices.map(|index| entry(index, term)).collect()
}

fn hard(term: u64) -> Option<HardState> {
    Some(HardState { term: Term(term), vote: Some(NodeId(3)), commit: 2 })
}

#[test]
fn a_node_keeps_its_id_and_each_life_is_a_later_one() {
    let directory = tempfile::tempdir().unwrap();
    let first = Journal::open(&directory.path().join("made/below")).unwrap();
    let (identity, mesh) = (first.identity(), first.mesh());
    assert!(identity.node.0 != 0 && identity.incarnation.0 > 1_600_000_000_000 && mesh.is_none());
    assert_eq!(first.recover().unwrap(), Recovered::default());
    drop(first);
    let mut again = Journal::open(&directory.path().join("made/below")).unwrap();
    assert_eq!(again.identity().node, identity.node);
    assert!(again.identity().incarnation > identity.incarnation);
    again.set_mesh(MeshId(u128::MAX - 5)).unwrap();
    drop(again);
    let mut again = Journal::open(&directory.path().join("made/below")).unwrap();
    assert_eq!(again.mesh(), Some(MeshId(u128::MAX - 5)));
    assert!(matches!(again.set_mesh(MeshId(4)), Err(JournalError::OtherMesh { .. })));
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    let first = Save { number: 0, hard: hard(1), snapshot: Some(snapshot(1, 1)), entries: vec![] };
    let second = Save { number: 1, hard: None, snapshot: None, entries: entries(2..=9, 1) };
    journal.write(&[first, second]).unwrap();
    let third = Save { number: 2, hard: hard(2), snapshot: None, entries: entries(7..=8, 2) };
    journal.write(&[third]).unwrap();
    drop(journal);
    let recovered = Journal::open(directory.path()).unwrap().recover().unwrap();
    let mut expected = entries(2..=6, 1);
    expected.extend(entries(7..=8, 2));
    let expected = Recovered { hard: hard(2).unwrap(), snapshot: Some(snapshot(1, 1)), entries: expected };
    assert_eq!(recovered, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is written, in whatever batches: the journal and the meaning of a save agree.
    #[test]
    fn the_journal_agrees_with_what_saves_mean(steps in prop::collection::vec((0u8..4, 1u64..12, 1u64..4, 1u64..5), 1..12)) {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        let mut expected = Recovered::default();
        let mut batch = Vec::new();
        for (number, (kind, at, term, count)) in steps.into_iter().enumerate() {
            let mut save = Save { number: number as u64, ..Save::default() };
            match kind {
                0 => save.hard = hard(term),
                1 => save.snapshot = Some(snapshot(at, term)),
                2 => save.entries = entries(at..=at + count, term),
                _ => (save.hard, save.snapshot, save.entries) = (hard(term), Some(snapshot(at, term)), entries(at + 1..=at + count, term)),
            }
            expected.absorb(&save);
            batch.push(save);
            if kind == 0 {
                journal.write(&std::mem::take(&mut batch)).unwrap();
            }
        }
        journal.write(&batch).unwrap();
        prop_assert_eq!(journal.recover().unwrap(), expected);
    }
}

#[test]
fn a_directory_in_use_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    let error = Journal::open(directory.path()).unwrap_err();
    assert!(matches!(error, JournalError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("node.data_dir") && error.to_string().starts_with(error.code()));
    drop(journal);
    Journal::open(directory.path()).unwrap();
}

#[test]
fn what_is_no_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a file");
    fs::write(&path, "mine").unwrap();
    for wrong in [path.clone(), path.join("below")] {
        let error = Journal::open(&wrong).unwrap_err();
        assert!(matches!(error, JournalError::NotADirectory { .. }), "{error:?}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn another_form_is_refused() {
    for other in [FORMAT - 1, FORMAT + 1] {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        journal.change(|transaction| put_meta(transaction, "format", &other)).unwrap();
        drop(journal);
        match Journal::open(directory.path()).unwrap_err() {
            JournalError::Newer { found, .. } => assert!(found == other && found > FORMAT),
            JournalError::Older { found, .. } => assert!(found == other && found < FORMAT),
            error => panic!("{error:?}"),
        }
    }
}

#[test]
fn a_flipped_byte_names_the_record() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    journal.write(&[Save { hard: hard(1), entries: entries(1..=20, 1), ..Save::default() }]).unwrap();
    let flip = |transaction: &WriteTransaction| {
        let mut log = transaction.open_table(LOG)?;
        let mut sealed = log.get(13)?.expect("record 13").value().to_vec();
        sealed[9] ^= 0x10;
        log.insert(13, sealed.as_slice())?;
        Ok(())
    };
    journal.change(flip).unwrap();
    let error = journal.recover().unwrap_err();
    assert!(error.to_string().contains("record 13 of the log"), "{error}");
}

/// Whichever byte of the file is flipped: a clear error, or all that was written, never something else.
#[test]
fn a_flipped_byte_of_the_file_is_found_or_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    let whole = Save { hard: hard(1), snapshot: Some(snapshot(1, 1)), entries: entries(2..=40, 1), ..Save::default() };
    journal.write(&[whole]).unwrap();
    let expected = journal.recover().unwrap();
    let node = journal.identity().node;
    drop(journal);
    let path = directory.path().join(FILE);
    let bytes = fs::read(&path).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place] != 0).collect();
    let mut found = 0;
    for place in used.iter().step_by(used.len() / 60 + 1) {
        let mut flipped = bytes.clone();
        flipped[*place] ^= 0x04;
        fs::write(&path, &flipped).unwrap();
        let recovered = Journal::open(directory.path()).and_then(|journal| {
            assert_eq!(journal.identity().node, node, "another node at byte {place}");
            journal.recover()
        });
        match recovered {
            Ok(recovered) => assert_eq!(recovered, expected, "another log at byte {place}"),
            Err(JournalError::Damaged { .. }) => found += 1,
            Err(other) => panic!("byte {place}: {other:?}"),
        }
    }
    assert!(found > 10, "{found}");
}

#[test]
fn garbage_and_cut_files_are_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    fs::write(&path, b"this was once something else").unwrap();
    let error = Journal::open(directory.path()).unwrap_err();
    assert!(matches!(error, JournalError::Damaged { .. }), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), b"this was once something else");
}
