//! Proofs that a side knows the mesh secret.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::Nonce;
use crate::messages::peer::{Greeting, Lane};
use crate::types::{Incarnation, MeshId, NodeId};

/// Who proves. Each direction signs under a name of its own, so that a proof is worth nothing to the side that receives it.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    FromCalled,
    FromCaller,
}

/// All that both sides have said and that the proofs bind together.
pub(super) struct Said<'a> {
    pub greeting: &'a Greeting,
    pub version: u16,
    /// The called side's mesh, node, life and nonce.
    pub mesh: Option<MeshId>,
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub nonce: Nonce,
}

impl Said<'_> {
    pub(super) fn proof(&self, secret: &[u8], direction: Direction) -> [u8; 32] {
        self.mac(secret, direction).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub(super) fn proves(&self, secret: &[u8], direction: Direction, proof: &[u8; 32]) -> bool {
        self.mac(secret, direction).verify_slice(proof).is_ok()
    }

    // Every part has a fixed length, so no two sets of parts run together to the same bytes.
    fn mac(&self, secret: &[u8], direction: Direction) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length will do");
        mac.update(match direction {
            Direction::FromCalled => b"keyval peer handshake: from called",
            Direction::FromCaller => b"keyval peer handshake: from caller",
        });
        let greeting = self.greeting;
        mac.update(&greeting.versions.0.to_be_bytes());
        mac.update(&greeting.versions.1.to_be_bytes());
        mac.update(&self.version.to_be_bytes());
        mac.update(&[match greeting.lane {
            Lane::Control => 0,
            Lane::Data => 1,
            Lane::Bulk => 2,
        }]);
        mac.update(&optional(greeting.to.map(|to| u128::from(to.0))));
        mac.update(&greeting.version.0.to_be_bytes());
        for (mesh, node, incarnation, nonce) in [
            (greeting.mesh, greeting.node, greeting.incarnation, greeting.nonce),
            (self.mesh, self.node, self.incarnation, self.nonce),
        ] {
            mac.update(&optional(mesh.map(|mesh| mesh.0)));
            mac.update(&node.0.to_be_bytes());
            mac.update(&incarnation.0.to_be_bytes());
            mac.update(&nonce);
        }
        mac
    }
}

fn optional(number: Option<u128>) -> [u8; 17] {
    let mut bytes = [0; 17];
    if let Some(number) = number {
        bytes[0] = 1;
        bytes[1..].copy_from_slice(&number.to_be_bytes());
    }
    bytes
}
