//! Kernel programs that are run on a made-up packet by `BPF_PROG_TEST_RUN`, and how long that takes.

mod references;

use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::{
    ProgramError, ProgramFd, SchedClassifier, TestRun, TestRunOptions, TestRunResult, Xdp,
};
use aya_obj::programs::XdpAttachType;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::busy::Busy;
pub use references::{Flows, HASH_NAME, Reference, References, load, redirect};

/// Which of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// At XDP.
    Xdp,
    /// At TC ingress.
    Tc,
}

impl Attach {
    /// Both.
    pub const BOTH: [Attach; 2] = [Attach::Xdp, Attach::Tc];

    /// In figures.
    pub fn name(self) -> &'static str {
        match self {
            Attach::Xdp => "xdp",
            Attach::Tc => "tc",
        }
    }

    /// The switch's program on a port.
    pub fn port_program(self) -> &'static str {
        match self {
            Attach::Xdp => switch_abi::programs::XDP_PORT,
            Attach::Tc => switch_abi::programs::TC_PORT,
        }
    }

    /// XDP_REDIRECT or TC_ACT_REDIRECT: what a program returns that hands a frame to a device.
    pub fn redirect(self) -> u32 {
        match self {
            Attach::Xdp => 4,
            Attach::Tc => 7,
        }
    }
}

/// A pinned program.
pub enum Pinned {
    /// For XDP.
    Xdp(Xdp),
    /// For TC.
    Tc(SchedClassifier),
}

impl Pinned {
    /// The program at `path`.
    pub fn open(attach: Attach, path: &Path) -> Result<Self> {
        let what = || format!("cannot open the program {}", path.display());
        Ok(match attach {
            Attach::Xdp => {
                Self::Xdp(Xdp::from_pin(path, XdpAttachType::Interface).with_context(what)?)
            }
            Attach::Tc => Self::Tc(SchedClassifier::from_pin(path).with_context(what)?),
        })
    }

    /// The program's descriptor.
    pub fn fd(&self) -> Result<&ProgramFd> {
        match self {
            Self::Xdp(program) => program.fd(),
            Self::Tc(program) => program.fd(),
        }
        .context("the program is not loaded")
    }
}

/// What a batch of runs gave.
pub struct Runs {
    /// Of the last run.
    pub verdict: u32,
    /// Per run.
    pub nanoseconds: f64,
}

fn run_xdp(program: &Xdp, ifindex: u32, frame: &[u8], repeat: u32) -> Result<Runs> {
    // struct xdp_md of linux/bpf.h: data_end, ingress_ifindex.
    let context = context(24, &[(4, frame.len() as u32), (12, ifindex)]);
    timed(frame, &context, repeat, |options| program.test_run(options))
}

fn run_tc(program: &SchedClassifier, ifindex: u32, frame: &[u8], repeat: u32) -> Result<Runs> {
    // struct __sk_buff of linux/bpf.h: ingress_ifindex, ifindex.
    let context = context(192, &[(36, ifindex), (40, ifindex)]);
    timed(frame, &context, repeat, |options| program.test_run(options))
}

fn context(size: usize, words: &[(usize, u32)]) -> Vec<u8> {
    let mut context = vec![0; size];
    for (at, word) in words {
        context[*at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    context
}

/// Timed by the calling thread's CPU clock rather than by the kernel's own figure, which is in whole nanoseconds and counts the time in
/// which the thread was preempted.
fn timed(
    frame: &[u8],
    context: &[u8],
    repeat: u32,
    run: impl FnOnce(TestRunOptions<'_>) -> Result<TestRunResult, ProgramError>,
) -> Result<Runs> {
    let options = TestRunOptions {
        data_in: Some(frame),
        ctx_in: Some(context),
        repeat,
        ..TestRunOptions::new()
    };
    let start = Busy::start()?;
    let result = run(options).context("BPF_PROG_TEST_RUN failed")?;
    let nanoseconds = start.seconds()? * 1e9 / f64::from(repeat.max(1));
    Ok(Runs {
        verdict: result.return_value,
        nanoseconds,
    })
}

/// Keeps the calling thread on one CPU: per-CPU counters and caches stay the same ones.
pub fn stay_on_this_cpu() -> Result<()> {
    let cpu = sched_getcpu().context("cannot find the CPU that this runs on")?;
    stay_on(Pid::from_raw(0), cpu)
}

/// Keeps a thread (0: the calling one) on one CPU.
pub fn stay_on(thread: Pid, cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)
        .and_then(|()| sched_setaffinity(thread, &cpus))
        .with_context(|| format!("cannot keep a thread on CPU {cpu}"))
}
