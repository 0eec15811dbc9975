//! CBOR, the one encoding of everything that leaves a process but clients' bytes.
//!
//! serde_cbor is archived upstream (RUSTSEC-2021-0127), so nothing outside this file names it. The packed form is used:
//! fields and variants are numbers, so both are only ever added at the end.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What could not be decoded, in words.
#[derive(Debug, thiserror::Error)]
#[error("not what was expected: {0}")]
pub struct CodecError(String);

/// The bytes of a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_cbor::ser::to_vec_packed(value).expect("plain data always has an encoding")
}

/// The value of bytes; all of them must belong to it.
///
/// # Errors
/// When the bytes are not the encoding of a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    serde_cbor::from_slice(bytes).map_err(|error| CodecError(error.to_string()))
}
