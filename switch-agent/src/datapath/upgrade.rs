//! A newer agent's programs in place of the pinned ones, on the same maps and without taking anything off a device.
//!
//! New programs are loaded against the pinned maps; then every link is switched over, which the kernel does in one step per link, and last
//! the pins are. An upgrade that is interrupted is done again by the next agent.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use aya::maps::{Array, Map, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::SchedClassifierLink;
use aya::programs::xdp::XdpLink;
use aya::programs::{Program, loaded_programs};
use switch_abi::maps;

use super::clsact::Filters;
use super::pins::{
    LINKS, MAPS, PROGRAMS, Pins, cache_entries, load_object, load_program, meta_map,
};
use super::{DatapathError, Result};

/// Name of the map that holds the digest of the kernel object that the pinned programs are of.
pub(crate) const DIGEST: &str = "OBJECT";

/// Ending of a pin that is about to replace another.
pub(crate) const NEW: &str = "_new";

/// What the kernel keeps of a program's name (BPF_OBJ_NAME_LEN, less the final zero); the names differ within it.
pub(crate) const KERNEL_NAME_LEN: usize = 15;

impl Pins {
    /// Notes which object the pinned programs are of.
    pub(crate) fn write_digest(&self, object: &[u8]) -> Result<()> {
        let failed = |e| DatapathError::kernel("note which kernel object is loaded", e);
        let mut map: Array<MapData, u64> = Array::create(1, 0).map_err(failed)?;
        map.set(0, digest(object), 0).map_err(failed)?;
        let _ = fs::remove_file(self.path(DIGEST));
        self.pin(DIGEST, |path| map.pin(path))
    }

    fn read_digest(&self) -> Option<u64> {
        let map: Array<_, u64> = Array::try_from(Map::Array(self.open(DIGEST).ok()?)).ok()?;
        map.get(&0, 0).ok()
    }

    /// Replaces the pinned programs, unless they are of this object.
    pub(crate) fn upgrade(&self, object: &[u8], flow_cache: u32) -> Result<()> {
        if self.read_digest() == Some(digest(object)) {
            return Ok(());
        }
        tracing::info!("replacing the pinned programs by this agent's");
        let meta = meta_map(self.open(maps::META)?)?
            .get(&0, 0)
            .map_err(|e| DatapathError::kernel("read the META map", e))?;
        let pinned = MAPS.map(|name| (name, self.path(name)));
        // Of no use to others than the programs, which begin with empty ones.
        let own = [
            (maps::CACHE, cache_entries(flow_cache, meta.cpus)),
            (maps::WHOLE, meta.cpus),
        ];
        let mut ebpf = load_object(object, &meta, &own, &pinned, flow_cache)?;
        for name in PROGRAMS {
            load_program(&mut ebpf, name)?;
        }
        let names: HashMap<u32, String> = loaded_programs()
            .flatten()
            .filter_map(|info| Some((info.id(), info.name_as_str()?.to_owned())))
            .collect();
        for name in PROGRAMS {
            let program = loaded_program(&mut ebpf, name)?;
            self.switch_links(&names, name, program)?;
            let new = self.path(&format!("{name}{NEW}"));
            let _ = fs::remove_file(&new);
            program
                .pin(&new)
                .map_err(|e| DatapathError::kernel(format!("pin {}", new.display()), e))?;
            fs::rename(&new, self.path(name))
                .map_err(|e| DatapathError::kernel(format!("replace the pin of {name}"), e))?;
        }
        self.write_digest(object)
    }

    /// Switches all links whose program has this name (by its id, in `names`) to `program`. Not only those of the pinned program: an
    /// interrupted upgrade leaves links that are of neither.
    fn switch_links(
        &self,
        names: &HashMap<u32, String>,
        name: &str,
        program: &mut Program,
    ) -> Result<()> {
        let dir = self.path(LINKS);
        let entries = fs::read_dir(&dir)
            .map_err(|e| DatapathError::kernel(format!("list {}", dir.display()), e))?;
        let short = &name[..name.len().min(KERNEL_NAME_LEN)];
        for entry in entries.flatten() {
            let of_it = |id| names.get(&id).is_some_and(|found| found == short);
            if let Err(e) = switch_link(&entry.path(), of_it, program) {
                // A link whose device has gone; it is replaced when the device is attached again.
                let e: &dyn std::error::Error = &e;
                tracing::debug!(link = %entry.path().display(), error = e, "not switched");
            }
        }
        if let Program::SchedClassifier(program) = program {
            Filters(self.dir()).switch(short, program)?;
        }
        Ok(())
    }
}

fn switch_link(path: &Path, of_it: impl Fn(u32) -> bool, program: &mut Program) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| {
        DatapathError::kernel(format!("switch the link {}", path.display()), e.to_string())
    };
    let link = PinnedLink::from_pin(path).map_err(|e| failed(&e))?;
    let link = FdLink::from(link);
    if !of_it(link.info().map_err(|e| failed(&e))?.program_id()) {
        return Ok(());
    }
    // Taken back from the program at once: the pin keeps it.
    match program {
        Program::Xdp(program) => {
            let link = XdpLink::try_from(link).map_err(|e| failed(&e))?;
            let link = program.attach_to_link(link).map_err(|e| failed(&e))?;
            program.take_link(link).map_err(|e| failed(&e))?;
        }
        Program::SchedClassifier(program) => {
            let link = SchedClassifierLink::try_from(link).map_err(|e| failed(&e))?;
            let link = program.attach_to_link(link).map_err(|e| failed(&e))?;
            program.take_link(link).map_err(|e| failed(&e))?;
        }
        _ => {}
    }
    Ok(())
}

fn loaded_program<'e>(ebpf: &'e mut aya::Ebpf, name: &str) -> Result<&'e mut Program> {
    ebpf.program_mut(name)
        .ok_or_else(|| DatapathError::not_found(format!("program {name} in the kernel object")))
}

/// FNV-1a, 64 bits: tells builds apart, and is no protection against forgery (who can write the pins is root).
fn digest(object: &[u8]) -> u64 {
    object.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
