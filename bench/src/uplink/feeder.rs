//! Feeds an uplink's far end with frames as fast as it takes them.

use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{Array, ProgramArray};
use aya::programs::{Program, TestRun, TestRunAttrs, TestRunOptions};
use lime_tests::lab::Netns;
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::Pid;
use switch_agent::objects;

use crate::programs::{Flows, load, redirect, stay_on};
use crate::ruleset;
use crate::site::{Station, ifindex, inside};

/// Where frames seem to come from that are made up: the loopback device, which is the first of every namespace.
const LOOPBACK: u32 = 1;
/// Frames per system call: seconds of them, since each call begins and ends with milliseconds of rest. A signal ends it.
const FRAMES: u32 = 1 << 26;
const WAKE: Signal = Signal::SIGUSR1;
/// Frames that are handed to the device together: a NAPI budget.
const BATCH: u32 = 64;

/// The program that makes frames, ready to run.
pub struct Feeder {
    ns: Netns,
    object: Arc<Ebpf>,
    // Holds the program that follows.
    _after: ProgramArray<aya::maps::MapData>,
}

impl Feeder {
    /// Sends frames of `flows` by the device of a station.
    pub fn load(station: &Station, flows: Flows) -> Result<Self> {
        let device = ifindex(&station.ns, crate::site::DEVICE)?;
        let mut object = Ebpf::load(objects::LAB).context("cannot load the feeding program")?;
        redirect(&mut object, LOOPBACK, device)?;
        let map = object
            .map_mut(objects::LAB_FLOWS_MAP)
            .context("no map of flows")?;
        let entry = flows.entry(&ruleset::frame(0), 1);
        Array::<_, [u32; 6]>::try_from(map)
            .and_then(|mut map| map.set(0, entry, 0))
            .context("cannot write the map of flows")?;
        let fd = match load(&mut object, objects::LAB_XDP_REDIRECT)? {
            Program::Xdp(program) => program.fd()?.try_clone()?,
            _ => anyhow::bail!("the feeding program is no XDP program"),
        };
        load(&mut object, objects::LAB_XDP_FLOWS)?;
        let after = object
            .take_map(objects::LAB_AFTER_XDP_MAP)
            .context("no map of what follows flows")?;
        let mut after = ProgramArray::try_from(after).context("no map of programs")?;
        after.set(0, &fd, 0).context("cannot chain the programs")?;
        Ok(Self {
            ns: station.ns.clone(),
            object: Arc::new(object),
            _after: after,
        })
    }

    /// Starts a thread on `cpu` that sends until it is stopped.
    pub fn start(&self, cpu: usize) -> Result<Feed> {
        // Once here, so that an error is told before anything is measured.
        inside(&self.ns, || send(&self.object, 1))??;
        let act = SigAction::new(
            SigHandler::Handler(nothing),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing.
        unsafe { sigaction(WAKE, &act) }.context("cannot handle a signal")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (object, stopped) = (Arc::clone(&self.object), Arc::clone(&stop));
        let thread = self.ns.spawn("feeder", move || {
            stay_on(Pid::from_raw(0), cpu)?;
            while !stopped.load(Ordering::Relaxed) {
                match send(&object, FRAMES) {
                    Err(_) if stopped.load(Ordering::Relaxed) => {}
                    sent => sent?,
                }
            }
            Ok(())
        });
        Ok(Feed {
            stop,
            thread: Some(thread.context("cannot start a thread")?),
        })
    }
}

extern "C" fn nothing(_signal: libc::c_int) {}

fn send(object: &Ebpf, frames: u32) -> Result<()> {
    let Some(Program::Xdp(program)) = object.program(objects::LAB_XDP_FLOWS) else {
        anyhow::bail!("the feeding program is not loaded");
    };
    let options = TestRunOptions {
        data_in: Some(&ruleset::frame(0)),
        repeat: frames,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH.min(frames)),
        ..TestRunOptions::new()
    };
    program
        .test_run(options)
        .context("BPF_PROG_TEST_RUN in live-frames mode failed (Linux 5.18 has it)")?;
    Ok(())
}

/// Frames on their way. Stops when dropped.
pub struct Feed {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Feed {
    /// Stops; an error if it has stopped before.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            // Again, for the case that it was just about to send.
            while !thread.is_finished() {
                let _ = pthread_kill(thread.as_pthread_t(), WAKE);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
