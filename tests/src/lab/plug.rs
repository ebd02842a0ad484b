//! Plugs end hosts into ports of hosts: what a hypervisor's tap is to a virtual machine.
//!
//! In the core namespace lie the outer end of each end host's device and, for each host, the far end of the port the end host has there.
//! A tiny TC program on all of them redirects what comes in by one device to the device that the map `REDIRECT` names: far ends always to
//! the end host, the end host to the one far end where it is plugged. Moving an end host is one store into that map.

use std::path::{Path, PathBuf};

use aya::maps::{Array, MapData};
use aya::programs::{SchedClassifier, TcAttachType};

use super::error::LabError;
use super::netns::Netns;

/// The lab's kernel object.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../switch-ebpf/prebuilt/lime-lab.bpf.o"
));
const LAB_REDIRECT_MAP: &str = "REDIRECT";
const LAB_TC_REDIRECT: &str = "lab_tc_redirect";

/// The loaded program, attached to any number of devices. Detached when dropped; the pinned map is removed with the lab.
pub struct Plug {
    object: aya::Ebpf,
    redirect: Array<MapData, u32>,
    pin: PathBuf,
    core: Netns,
}

impl std::fmt::Debug for Plug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plug").field("pin", &self.pin).finish()
    }
}

impl Plug {
    /// Loads the program and pins its map in `directory`.
    pub fn load(object: &[u8], core: &Netns, directory: &Path) -> Result<Self, LabError> {
        let mut object = aya::Ebpf::load(object).map_err(refused("load the plug program"))?;
        let pin = directory.join(LAB_REDIRECT_MAP);
        let map = object.take_map(LAB_REDIRECT_MAP).ok_or_else(|| {
            LabError::Plug(format!("the lab's object has no map {LAB_REDIRECT_MAP}"))
        })?;
        map.pin(&pin).map_err(refused("pin its map"))?;
        let redirect = Array::try_from(map).map_err(refused("use its map"))?;
        program(&mut object)?
            .load()
            .map_err(refused("load the plug program"))?;
        Ok(Self {
            object,
            redirect,
            pin,
            core: core.clone(),
        })
    }

    /// Attaches the program to a device of the core namespace.
    pub fn attach(&mut self, device: &str) -> Result<(), LabError> {
        let core = self.core.clone();
        let program = program(&mut self.object)?;
        core.run(|| {
            // Where there is no TCX (before Linux 6.6), the program becomes a filter on this qdisc.
            let _ = aya::programs::tc::qdisc_add_clsact(device);
            program.attach(device, TcAttachType::Ingress)
        })
        .map_err(|e| LabError::Plug(format!("enter the core namespace: {e}")))?
        .map_err(refused("attach the plug program"))?;
        Ok(())
    }

    /// From now on, what comes in by `from` goes out by `to` (ifindexes in the core namespace).
    pub fn redirect(&mut self, from: u32, to: u32) -> Result<(), LabError> {
        self.redirect
            .set(from, to, 0)
            .map_err(refused("write its map"))
    }

    /// Where `from` is redirected to; 0: nowhere.
    pub fn target(&self, from: u32) -> Result<u32, LabError> {
        self.redirect.get(&from, 0).map_err(refused("read its map"))
    }

    /// The port driver for the end host whose outer end is `outer`: the far end of whichever port has it.
    pub fn driver(&self, outer: u32) -> String {
        format!("plug:{}:{outer}:peer", self.pin.display())
    }
}

fn program(object: &mut aya::Ebpf) -> Result<&mut SchedClassifier, LabError> {
    object
        .program_mut(LAB_TC_REDIRECT)
        .and_then(|p| p.try_into().ok())
        .ok_or_else(|| {
            LabError::Plug(format!(
                "the lab's object has no TC program {LAB_TC_REDIRECT}"
            ))
        })
}

fn refused<E: std::error::Error>(what: &'static str) -> impl Fn(E) -> LabError {
    move |e| {
        let mut text = format!("{what}: {e}");
        let mut source = e.source();
        while let Some(s) = source {
            text.push_str(&format!(": {s}"));
            source = s.source();
        }
        LabError::Plug(text)
    }
}
