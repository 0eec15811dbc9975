//! Commands and answers that have to wait, and for how long.
