//! The operating system, ignorant of every protocol: the clock, sockets, the journal.

pub mod clock;
pub mod sockets;
