//! What a node keeps on disk: who it is, its vote, and the log. One file, `node.redb`, in its data directory.
//!
//! One [`Journal::write`] is one transaction, stable when it returns. The store commits in two phases: its quicker way
//! mends a damaged last commit by going back to the one before, and a voter must never take back what it said. Every
//! record carries a checksum of its own over its name and its bytes, so that a flipped byte names the record.
//!
//! Whatever is wrong is said in one message with the path and what to try, and nothing is touched: a damaged journal is
//! never mended by guessing. A directory that has no file yet gets one with a new node id; so a node that lost its disk
//! comes back as another node, and never votes twice.
//!
//! The journal has no thread: the election actor gives it one. Not here: what the records mean (`messages::election`).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISO_HDLC, Crc};
use rand::RngCore;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clock;
use crate::messages::election::{Entry, Recovered, Save};
use crate::types::{Incarnation, MeshId, NodeId};
use crate::wire::codec;

/// The file in the data directory.
pub const FILE: &str = "node.redb";

/// The form of what is written here. A file of another form is refused: its log has records that cannot be read here.
const FORMAT: u32 = 2;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// The log is read once and lives in memory: the store needs little.
const CACHE_BYTES: usize = 1 << 20;

/// Who a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Made when the data directory was first used, kept for life.
    pub node: NodeId,
    /// This start; higher than at every start before.
    pub incarnation: Incarnation,
}

/// What is wrong with a data directory. Each message names the path and what to try.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum JournalError {
    #[error("DataDirInUse: the data directory {path} is in use by another keyval process; give each node its own node.data_dir", path = path.display())]
    InUse { path: PathBuf },
    #[error("DataDirNotADirectory: {path} is no directory; set node.data_dir to a directory, or to a path where one can be made", path = path.display())]
    NotADirectory { path: PathBuf },
    #[error("DataDirPermission: may not use {path}: {cause}; let the user who runs keyval own it, or set another node.data_dir", path = path.display())]
    Permission { path: PathBuf, cause: String },
    #[error("DiskFull: the disk under {path} is full; free some space and start again: nothing that was promised is lost", path = path.display())]
    Full { path: PathBuf },
    #[error("JournalDamaged: {path} is damaged: {what}; nothing was changed. move the data directory away and start again, to join as a new node", path = path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("JournalNewer: {path} was written by a later version of keyval (form {found}, this one knows {FORMAT}); start that version", path = path.display())]
    Newer { path: PathBuf, found: u32 },
    #[error("JournalOlder: {path} was written by an earlier version of keyval (form {found}, this one knows {FORMAT}); start that version, or move the data directory away to join as a new node", path = path.display())]
    Older { path: PathBuf, found: u32 },
    #[error("DataDirOfOtherMesh: {path} belongs to mesh {found}, not to {wanted}; use another node.data_dir", path = path.display())]
    OtherMesh { path: PathBuf, found: MeshId, wanted: MeshId },
    #[error("DiskFailed: {path}: {cause}; see to the disk and start again", path = path.display())]
    Io { path: PathBuf, cause: String },
}

impl JournalError {
    /// The stable name, as logs and docs/errors.md have it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "DataDirInUse",
            Self::NotADirectory { .. } => "DataDirNotADirectory",
            Self::Permission { .. } => "DataDirPermission",
            Self::Full { .. } => "DiskFull",
            Self::Damaged { .. } => "JournalDamaged",
            Self::Newer { .. } => "JournalNewer",
            Self::Older { .. } => "JournalOlder",
            Self::OtherMesh { .. } => "DataDirOfOtherMesh",
            Self::Io { .. } => "DiskFailed",
        }
    }
}

type Outcome<T> = Result<T, JournalError>;

/// Removes the journal of a data directory, after its node has left the mesh: its id will never be admitted again.
///
/// # Errors
/// When that cannot be done.
pub fn forget(directory: &Path) -> Result<(), JournalError> {
    let path = directory.join(FILE);
    fs::remove_file(&path)
        .and_then(|()| File::open(directory))
        .and_then(|directory| directory.sync_all())
        .map_err(|error| io_error(&path, &error))
}

/// The open journal of one node. No other process can open it meanwhile.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    store: Database,
    identity: Identity,
    mesh: Option<MeshId>,
}

impl Journal {
    /// Opens the journal of a data directory, or makes both. Begins a new life: the incarnation is on disk when this
    /// returns.
    ///
    /// # Errors
    /// When the directory cannot be used, or what it holds cannot be believed.
    pub fn open(directory: &Path) -> Outcome<Self> {
        let path = directory.join(FILE);
        make_directory(directory)?;
        let known = path.metadata().is_ok_and(|file| file.len() > 0);
        let store = doubting(&path, || open_store(&path, known))?;
        if !known {
            // The file's name must be as lasting as its content.
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .map_err(|error| io_error(&path, &error))?;
        }
        Self::begin(path, store, new_node_id(), clock::wall_ms())
    }

    /// Opens the journal of a disk that is made up; its id, if it has none yet, and its wall clock are made up as well.
    ///
    /// # Errors
    /// When what it holds cannot be believed.
    #[cfg(test)]
    pub fn open_made_up(disk: impl redb::StorageBackend, new: NodeId, wall_ms: u64) -> Outcome<Self> {
        let path = PathBuf::from("made up");
        let store = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(disk);
        Self::begin(path.clone(), store.map_err(|error| open_error(&path, error))?, new, wall_ms)
    }

    fn begin(path: PathBuf, store: Database, new: NodeId, wall_ms: u64) -> Outcome<Self> {
        let nobody = Identity { node: NodeId(0), incarnation: Incarnation(0) };
        let mut journal = Self { path, store, identity: nobody, mesh: None };
        journal.begin_life(new, wall_ms)?;
        Ok(journal)
    }

    /// Who this node is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The mesh it belongs to, once it belongs to one.
    pub fn mesh(&self) -> Option<MeshId> {
        self.mesh
    }

    /// Remembers the mesh this node belongs to, for ever.
    ///
    /// # Errors
    /// When it belongs to another one, or the disk fails.
    pub fn set_mesh(&mut self, mesh: MeshId) -> Outcome<()> {
        if let Some(found) = self.mesh.filter(|found| *found != mesh) {
            return Err(JournalError::OtherMesh { path: self.path.clone(), found, wanted: mesh });
        }
        self.change(|transaction| put_meta(transaction, "mesh", &mesh))?;
        self.mesh = Some(mesh);
        Ok(())
    }

    /// What is kept: term and vote, the newest snapshot, and the log after it.
    ///
    /// # Errors
    /// When a record is damaged, or missing.
    pub fn recover(&self) -> Outcome<Recovered> {
        let hard = self.meta("hard")?.unwrap_or_default();
        let snapshot = self.meta("snapshot")?;
        let entries = self.log()?;
        Ok(Recovered { hard, snapshot, entries })
    }

    /// Makes these stable, in one transaction and all or none of them, in their order.
    ///
    /// # Errors
    /// When the disk does not take them. What was written before still holds; this journal must not be used on.
    pub fn write(&mut self, saves: &[Save]) -> Outcome<()> {
        self.change(|transaction| saves.iter().try_for_each(|save| put(transaction, save)))
    }

    fn begin_life(&mut self, new: NodeId, wall_ms: u64) -> Outcome<()> {
        let found = self.meta::<u32>("format")?;
        let path = self.path.clone();
        match found {
            Some(found) if found > FORMAT => return Err(JournalError::Newer { path, found }),
            Some(found) if found < FORMAT => return Err(JournalError::Older { path, found }),
            _ => {}
        }
        let node = match self.meta("node")? {
            Some(node) => node,
            None if found.is_none() => new,
            None => return Err(self.damaged("the node's id is missing")),
        };
        let last: Option<Incarnation> = self.meta("incarnation")?;
        let incarnation = Incarnation(last.map_or(1, |last| last.next().0).max(wall_ms));
        self.mesh = self.meta("mesh")?;
        self.change(|transaction| {
            put_meta(transaction, "format", &FORMAT)?;
            put_meta(transaction, "node", &node)?;
            put_meta(transaction, "incarnation", &incarnation)?;
            transaction.open_table(LOG).map(|_| ()).map_err(redb::Error::from)
        })?;
        self.identity = Identity { node, incarnation };
        Ok(())
    }

    fn change(&self, work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Outcome<()> {
        let attempt = || {
            let mut transaction = self.store.begin_write()?;
            transaction.set_two_phase_commit(true);
            work(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        attempt().map_err(|error: redb::Error| self.error(error))
    }

    fn meta<T: DeserializeOwned>(&self, name: &str) -> Outcome<Option<T>> {
        let read = || {
            let table = match self.store.begin_read()?.open_table(META) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            Ok(table.get(name)?.map(|sealed| sealed.value().to_vec()))
        };
        let sealed: Option<Vec<u8>> = read().map_err(|error: redb::Error| self.error(error))?;
        sealed.map(|sealed| self.unseal(name.as_bytes(), name, &sealed)).transpose()
    }

    fn log(&self) -> Outcome<Vec<Entry>> {
        let read = || {
            let table = self.store.begin_read()?.open_table(LOG)?;
            let records =
                table.iter()?.map(|record| record.map(|(index, sealed)| (index.value(), sealed.value().to_vec())));
            records.collect::<Result<Vec<_>, _>>().map_err(redb::Error::from)
        };
        let records: Vec<(u64, Vec<u8>)> = read().map_err(|error: redb::Error| self.error(error))?;
        let unseal = |(index, sealed): (u64, Vec<u8>)| {
            let entry: Entry = self.unseal(&index.to_be_bytes(), &format!("record {index} of the log"), &sealed)?;
            if entry.index == index { Ok(entry) } else { Err(self.damaged("a record of the log is out of place")) }
        };
        records.into_iter().map(unseal).collect()
    }

    /// The value of what was sealed under a name.
    fn unseal<T: DeserializeOwned>(&self, name: &[u8], in_words: &str, sealed: &[u8]) -> Outcome<T> {
        let bytes = sealed.split_first_chunk::<4>().filter(|(sum, bytes)| **sum == checksum(name, bytes));
        let Some((_, bytes)) = bytes else {
            return Err(self.damaged(&format!("{in_words} does not match its checksum")));
        };
        codec::decode(bytes).map_err(|error| self.damaged(&format!("{in_words} is {error}")))
    }

    fn damaged(&self, what: &str) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), what: what.into() }
    }

    fn error(&self, error: redb::Error) -> JournalError {
        match error {
            redb::Error::Io(error) => io_error(&self.path, &error),
            redb::Error::Corrupted(what) => self.damaged(&what),
            other => JournalError::Io { path: self.path.clone(), cause: other.to_string() },
        }
    }
}

fn put(transaction: &WriteTransaction, save: &Save) -> Result<(), redb::Error> {
    if let Some(hard) = &save.hard {
        put_meta(transaction, "hard", hard)?;
    }
    let mut log = transaction.open_table(LOG)?;
    if let Some(snapshot) = &save.snapshot {
        put_meta(transaction, "snapshot", snapshot)?;
        // A record that was damaged since reads as another course: then the snapshot replaces everything.
        let reached = log.get(snapshot.index)?.is_some_and(|sealed| {
            let entry = sealed.value().get(4..).map(codec::decode::<Entry>);
            entry.is_some_and(|entry| entry.is_ok_and(|entry| entry.term == snapshot.term))
        });
        let last = if reached { snapshot.index } else { u64::MAX };
        log.retain_in(..=last, |_, _| false)?;
    }
    if let Some(first) = save.entries.first() {
        log.retain_in(first.index.., |_, _| false)?;
    }
    for entry in &save.entries {
        log.insert(entry.index, seal(&entry.index.to_be_bytes(), entry).as_slice())?;
    }
    Ok(())
}

fn put_meta<T: Serialize>(transaction: &WriteTransaction, name: &str, value: &T) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(name, seal(name.as_bytes(), value).as_slice())?;
    Ok(())
}

/// A value with the checksum of its bytes and of the name it is kept under: a record moved elsewhere is as bad as one
/// that was changed.
fn seal<T: Serialize>(name: &[u8], value: &T) -> Vec<u8> {
    let mut sealed = vec![0; 4];
    codec::encode_into(value, &mut sealed);
    let sum = checksum(name, &sealed[4..]);
    sealed[..4].copy_from_slice(&sum);
    sealed
}

fn checksum(name: &[u8], bytes: &[u8]) -> [u8; 4] {
    let mut digest = CHECKSUM.digest();
    digest.update(name);
    digest.update(bytes);
    digest.finalize().to_be_bytes()
}

fn new_node_id() -> NodeId {
    loop {
        let id = rand::rngs::OsRng.next_u64();
        if id != 0 {
            return NodeId(id);
        }
    }
}

fn make_directory(directory: &Path) -> Outcome<()> {
    let error = match fs::create_dir_all(directory) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            Err(JournalError::NotADirectory { path: directory.into() })
        }
        _ => Err(io_error(directory, &error)),
    }
}

fn open_store(path: &Path, known: bool) -> Outcome<Database> {
    let error = |error| open_error(path, error);
    let mut store = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(error)?;
    if known {
        // Reads every page: what is damaged is found now, not when a vote depends on it.
        store.check_integrity().map_err(|error| open_error(path, error))?;
    }
    Ok(store)
}

/// Opens a store that may be damaged. The library asserts what it believes of a file: where it is wrong, the file is
/// damaged, and that is what the operator is told, not which line asserted it.
fn doubting<T>(path: &Path, open: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let damaged = |what: String| JournalError::Damaged { path: path.into(), what };
    #[cfg(panic = "abort")]
    {
        // Nothing comes back from a panic here, so the hook says it.
        let before = std::panic::take_hook();
        let error = damaged("its pages contradict each other".into());
        std::panic::set_hook(Box::new(move |panic| tracing::error!("cannot start: {error} ({panic})")));
        let opened = open();
        std::panic::set_hook(before);
        opened
    }
    #[cfg(not(panic = "abort"))]
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(open))
        .unwrap_or_else(|_| Err(damaged("its pages contradict each other".into())))
}

fn open_error(path: &Path, error: DatabaseError) -> JournalError {
    let damaged = |what: String| JournalError::Damaged { path: path.into(), what };
    match error {
        DatabaseError::DatabaseAlreadyOpen => JournalError::InUse { path: path.parent().unwrap_or(path).into() },
        DatabaseError::Storage(StorageError::Io(error)) => match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => damaged(error.to_string()),
            _ => io_error(path, &error),
        },
        DatabaseError::Storage(StorageError::Corrupted(what)) => damaged(what),
        DatabaseError::UpgradeRequired(form) => damaged(format!("the store has the unknown form {form}")),
        DatabaseError::RepairAborted => damaged("it was not closed, and cannot be read".into()),
        other => JournalError::Io { path: path.into(), cause: other.to_string() },
    }
}

fn io_error(path: &Path, error: &io::Error) -> JournalError {
    let path = path.to_path_buf();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => JournalError::Full { path },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            JournalError::Permission { path, cause: error.to_string() }
        }
        _ => JournalError::Io { path, cause: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
