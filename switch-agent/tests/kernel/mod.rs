//! See `kernel_pipeline.rs`.

mod actions;
mod cache;
mod classify;
mod drops;
mod events;
mod frames;
mod groups;
mod headers;
mod hold;
mod meters;
mod parse;
mod queues;
mod sets;
mod tunnel;
mod verifier;
mod wait;
#[allow(dead_code, reason = "shared with the tests under traffic")]
mod world;
