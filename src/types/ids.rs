//! Names of things and counters of changes.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A node: one process of the mesh and its data directory. Made once, at random, never zero, kept for life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// A mesh: made once, at random, when it was founded. Nodes of two meshes never speak to each other.
///
/// Encoded as sixteen bytes, since CBOR has no numbers above 64 bits; in text as it is shown, in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshId(pub u128);

macro_rules! counter {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// One life of a node, from start to end of its process. A later life has a higher number.
    Incarnation
);
counter!(
    /// The reign of one commander: at most one rules in a term.
    Term
);
counter!(
    /// How often the dictionary has changed.
    Version
);
counter!(
    /// How often the chain of one range has changed. Fences all its data.
    Epoch
);
counter!(
    /// How often a range was begun anew because all who held it were gone.
    Generation
);
counter!(
    /// The place of a write in its range.
    Sequence
);

/// Which write: the epoch of the head that gave it, and its place. No two writes of a range have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Epoch of the head that numbered the write.
    pub epoch: Epoch,
    /// The number it gave.
    pub sequence: Sequence,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{:x}", self.0)
    }
}

impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for MeshId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0.to_be_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for MeshId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(MeshIdVisitor)
        } else {
            deserializer.deserialize_bytes(MeshIdVisitor)
        }
    }
}

struct MeshIdVisitor;

impl Visitor<'_> for MeshIdVisitor {
    type Value = MeshId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mesh id: sixteen bytes, or hexadecimal text")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<MeshId, E> {
        let bytes = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
        Ok(MeshId(u128::from_be_bytes(bytes)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<MeshId, E> {
        u128::from_str_radix(text, 16).map(MeshId).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

impl fmt::Debug for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{:x}", self.0)
    }
}
