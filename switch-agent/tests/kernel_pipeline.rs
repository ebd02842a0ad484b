//! The kernel programs alone, by `BPF_PROG_TEST_RUN`: map entries in, a frame in, verdict and frame and counters out. Each
//! case runs as XDP and as TC where both can; every counter that did not have to move must not have moved. Needs root.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

mod kernel;
