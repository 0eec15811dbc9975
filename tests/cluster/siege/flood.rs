//! As many writes as a mesh takes: long pipelines at the cluster doors, a fresh key for each write, and a list of those that were
//! acknowledged.
//!
//! Nothing is written twice, so what was acknowledged must be there, whatever became of the others.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use keyval::cli::chaos::route::Route;
use keyval::types::Slot;

use super::{PATIENCE, route};
use crate::client::{Client, Reply};
use crate::mesh::{Mesh, until};

/// Writes that leave before the first reply is read.
const PIPELINE: u64 = 300;

/// How many write at once.
const WRITERS: u64 = 3;

/// Keys read at once afterwards.
const READ: usize = 500;

/// Writers at work.
pub struct Flood {
    over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Vec<u64>>>,
}

impl Flood {
    /// Begins.
    pub fn begin(mesh: &Mesh) -> Self {
        let route = Arc::new(route(mesh));
        let over = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let writers = (0..WRITERS).map(|writer| {
            let (route, over, acknowledged) = (Arc::clone(&route), Arc::clone(&over), Arc::clone(&acknowledged));
            thread::spawn(move || {
                let mut spout = Spout { route, lines: BTreeMap::new(), kept: Vec::new() };
                let mut next = writer << 32;
                while !over.load(Ordering::Relaxed) {
                    let before = spout.kept.len();
                    spout.pour(next..next + PIPELINE);
                    next += PIPELINE;
                    acknowledged.fetch_add((spout.kept.len() - before) as u64, Ordering::Relaxed);
                }
                spout.kept
            })
        });
        let writers = writers.collect();
        Self { over, acknowledged, writers }
    }

    /// Waits until so many more writes have been acknowledged.
    pub fn until_more(&self, more: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + more;
        until("the mesh takes writes", Duration::from_secs(60), || self.acknowledged.load(Ordering::Relaxed) >= goal);
    }

    /// Ends. Returns the numbers of the writes that were acknowledged.
    pub fn end(self) -> Vec<u64> {
        self.over.store(true, Ordering::Relaxed);
        self.writers.into_iter().flat_map(|writer| writer.join().expect("a writer does not panic")).collect()
    }
}

/// Which of these writes are not there, read through the plain door of a node.
pub fn missing(mesh: &Mesh, at: usize, writes: &[u64]) -> Vec<u64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut missing = Vec::new();
    for some in writes.chunks(READ) {
        let values = loop {
            match read(&mesh.nodes[at].client, some) {
                Ok(values) => break values,
                Err(error) => assert!(Instant::now() < deadline, "nobody tells what is there: {error}"),
            }
        };
        let is_lost = |(number, value): &(&u64, Reply)| *value != Reply::Bulk(number.to_string());
        missing.extend(some.iter().zip(values).filter(is_lost).map(|(number, _)| *number));
    }
    missing
}

fn read(door: &str, numbers: &[u64]) -> io::Result<Vec<Reply>> {
    let mut client = Client::connect(door, Duration::from_secs(5))?;
    numbers.iter().try_for_each(|number| client.send(&["GET", &name(*number)]))?;
    let values = numbers.iter().map(|_| match client.reply()? {
        Reply::Error(text) => Err(io::Error::other(text)),
        value => Ok(value),
    });
    values.collect()
}

fn name(number: u64) -> String {
    format!("flood:{number}")
}

/// One writer.
struct Spout {
    route: Arc<Route>,
    lines: BTreeMap<String, Client>,
    kept: Vec<u64>,
}

impl Spout {
    /// One pipeline for each door, all sent before the first reply is read.
    fn pour(&mut self, numbers: std::ops::Range<u64>) {
        let mut shares: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut edition = 0;
        for number in numbers {
            let (known, door) = self.route.door(Slot::of_key(name(number).as_bytes()).0);
            edition = known;
            if let Some(door) = door {
                shares.entry(door).or_default().push(number);
            }
        }
        if shares.is_empty() {
            return self.route.refresh(edition, None);
        }
        let mut sent: Vec<(String, Client, Vec<u64>)> = Vec::new();
        for (door, share) in shares {
            match self.send(&door, &share) {
                Ok(line) => sent.push((door, line, share)),
                Err(_) => self.route.refresh(edition, Some(&door)),
            }
        }
        for (door, mut line, share) in sent {
            match self.hear(&mut line, &share) {
                Ok(true) => drop(self.lines.insert(door, line)),
                Ok(false) => {
                    self.lines.insert(door, line);
                    self.route.refresh(edition, None);
                }
                Err(_) => self.route.refresh(edition, Some(&door)),
            }
        }
    }

    fn send(&mut self, door: &str, share: &[u64]) -> io::Result<Client> {
        let mut line = match self.lines.remove(door) {
            Some(line) => line,
            None => Client::connect(door, PATIENCE)?,
        };
        let mut bytes = Vec::new();
        for number in share {
            let (name, value) = (name(*number), number.to_string());
            let (long, wide) = (name.len(), value.len());
            bytes.extend_from_slice(
                format!("*3\r\n$3\r\nSET\r\n${long}\r\n{name}\r\n${wide}\r\n{value}\r\n").as_bytes(),
            );
        }
        line.raw(&bytes)?;
        Ok(line)
    }

    /// False: not all were taken.
    fn hear(&mut self, line: &mut Client, share: &[u64]) -> io::Result<bool> {
        let mut all = true;
        for number in share {
            match line.reply()? {
                Reply::Simple(_) => self.kept.push(*number),
                _ => all = false,
            }
        }
        Ok(all)
    }
}
