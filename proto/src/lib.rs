//! LIME's gRPC API (package `lime.v1`), generated at build time, and its conversions to the domain types of `lime-core`.
//!
//! Wire types become domain types once, at the edge of each process, by `TryFrom`.

/// The generated messages, clients and servers.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("lime.v1");
}
