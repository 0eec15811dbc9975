//! (story to be written by its owner)

use crate::messages::ownership::{JoinAnswer, MeshSettings};
use crate::types::MeshId;

/// What the joining machine can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timer,
    /// What came of asking at an address; an error in words if nobody answered there.
    Answered {
        /// Where.
        address: String,
        /// What.
        answer: Result<JoinAnswer, String>,
    },
}

/// What the joining machine can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask at this address (a name may stand for many: the postman asks at each and reports each by its own name).
    Ask(String),
    /// Found a mesh.
    Found,
    /// Admitted: keep the mesh id, and wait for the log.
    Joined {
        /// Which mesh.
        mesh: MeshId,
        /// Its settings.
        settings: MeshSettings,
    },
    /// Say this to the operator.
    Note(String),
    /// Give up: refused for good, and why.
    End(String),
}
