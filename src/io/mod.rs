//! (story to be written by its owner)
pub mod sockets;
