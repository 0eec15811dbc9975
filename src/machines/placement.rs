//! (story to be written by its owner)
