//! The operating system, ignorant of every protocol: the clock, sockets, and the journal on disk.

pub mod clock;
pub mod journal;
pub mod sockets;
pub mod streams;
