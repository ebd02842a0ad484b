//! LIME's gRPC API (package `lime.v1`), generated at build time, and its conversions to the domain types of `lime-core`.
//!
//! Wire types become domain types once, at the edge of each process, by `TryFrom`.

/// The generated messages, clients and servers.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("lime.v1");
}

pub mod convert;

pub use convert::ConvertError;

/// Largest message that clients and servers take and send, bytes: an update of 500,000 rules fits. tonic's own default is 4 MiB, so
/// set it on both sides (`max_decoding_message_size`, `max_encoding_message_size`).
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
