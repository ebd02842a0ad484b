//! Kernel programs that are run on a made-up packet by `BPF_PROG_TEST_RUN`, and how long that takes.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, HashMap};
use aya::programs::{
    Program, ProgramError, SchedClassifier, TestRun, TestRunOptions, TestRunResult, Xdp,
};
use aya_obj::programs::XdpAttachType;
use switch_agent::objects;

use super::Attach;

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

    /// Runs it `repeat` times on `frame`, as if that came in by the device `ifindex` of the calling thread's namespace.
    pub fn run(&self, ifindex: u32, frame: &[u8], repeat: u32) -> Result<Runs> {
        match self {
            Self::Xdp(program) => run_xdp(program, ifindex, frame, repeat),
            Self::Tc(program) => run_tc(program, ifindex, frame, repeat),
        }
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
    let start = thread_time()?;
    let result = run(options).context("BPF_PROG_TEST_RUN failed")?;
    let nanoseconds = (thread_time()? - start) as f64 / f64::from(repeat.max(1));
    Ok(Runs {
        verdict: result.return_value,
        nanoseconds,
    })
}

/// CPU time of the calling thread, nanoseconds.
fn thread_time() -> Result<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to `time` only.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    ensure!(rc == 0, "the thread's CPU clock cannot be read");
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// What the pipeline is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// Redirects every frame, decided by one array lookup.
    Redirect,
    /// Returns at once.
    Floor,
    /// Looks one key of 64 bytes up in a kernel hash map, and returns.
    Hash,
}

impl Reference {
    fn program(self, attach: Attach) -> &'static str {
        match (self, attach) {
            (Self::Redirect, Attach::Xdp) => objects::LAB_XDP_REDIRECT,
            (Self::Redirect, Attach::Tc) => objects::LAB_TC_REDIRECT,
            (Self::Floor, Attach::Xdp) => objects::LAB_XDP_FLOOR,
            (Self::Floor, Attach::Tc) => objects::LAB_TC_FLOOR,
            (Self::Hash, Attach::Xdp) => objects::LAB_XDP_HASH64,
            (Self::Hash, Attach::Tc) => objects::LAB_TC_HASH64,
        }
    }
}

/// The reference programs, loaded.
pub struct References {
    object: Ebpf,
    attach: Attach,
}

impl References {
    /// For frames from device `from`, which go to device `to`. `frame`: its first 64 bytes are the key that is found.
    pub fn load(attach: Attach, from: u32, to: u32, frame: &[u8; 64]) -> Result<Self> {
        let mut object = Ebpf::load(objects::LAB).context("cannot load the reference programs")?;
        let map = object
            .map_mut(objects::LAB_REDIRECT_MAP)
            .context("no redirect map")?;
        Array::<_, u32>::try_from(map)
            .and_then(|mut map| map.set(from, to, 0))
            .context("cannot write the redirect map")?;
        let map = object
            .map_mut(objects::LAB_HASH64_MAP)
            .context("no hash map")?;
        let mut hash = HashMap::<_, [u64; 8], u32>::try_from(map).context("no hash map")?;
        // As full as half its room, so that the key is not alone in it.
        for i in 0..512 {
            hash.insert([i; 8], 0, 0)
                .context("cannot fill the hash map")?;
        }
        let word = |i: usize| u64::from_ne_bytes(std::array::from_fn(|byte| frame[i * 8 + byte]));
        let key: [u64; 8] = std::array::from_fn(word);
        hash.insert(key, 1, 0).context("cannot fill the hash map")?;
        for reference in [Reference::Redirect, Reference::Floor, Reference::Hash] {
            let name = reference.program(attach);
            let program = object
                .program_mut(name)
                .with_context(|| format!("no program {name}"))?;
            let loaded = match program {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => anyhow::bail!("the program {name} is of another kind than its name says"),
            };
            loaded.with_context(|| format!("cannot load the program {name}"))?;
        }
        Ok(Self { object, attach })
    }

    /// As [`Pinned::run`].
    pub fn run(&self, which: Reference, ifindex: u32, frame: &[u8], repeat: u32) -> Result<Runs> {
        match self.object.program(which.program(self.attach)) {
            Some(Program::Xdp(program)) => run_xdp(program, ifindex, frame, repeat),
            Some(Program::SchedClassifier(program)) => run_tc(program, ifindex, frame, repeat),
            _ => anyhow::bail!("no program {}", which.program(self.attach)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset;

    /// Index of the loopback device, in every namespace.
    const LOOPBACK: u32 = 1;

    #[test]
    fn references_do_what_they_stand_for() {
        let frame = ruleset::frame(0);
        for (attach, found) in [(Attach::Xdp, 3), (Attach::Tc, u32::MAX)] {
            let references = References::load(attach, LOOPBACK, LOOPBACK, &frame).unwrap();
            let verdict = |which, frame: &[u8]| {
                let runs = references.run(which, LOOPBACK, frame, 10).unwrap();
                assert!(runs.nanoseconds > 0.0);
                runs.verdict
            };
            assert_eq!(verdict(Reference::Redirect, &frame), attach.redirect());
            assert_eq!(verdict(Reference::Hash, &frame), found, "the key is found");
            assert_ne!(verdict(Reference::Hash, &ruleset::frame(1)), found);
            assert_ne!(verdict(Reference::Floor, &frame), attach.redirect());
        }
    }
}
