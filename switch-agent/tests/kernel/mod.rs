//! See `kernel_pipeline.rs`.

mod actions;
mod classify;
mod drops;
mod events;
mod frames;
mod parse;
mod tunnel;
mod world;
