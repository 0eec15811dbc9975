//! Clients that work on a mesh while it is harmed, what harms it, and how their history is judged.

pub mod account;
pub mod hand;
pub mod harm;
pub mod proxy;
pub mod route;
pub mod siege;
pub mod verdict;
