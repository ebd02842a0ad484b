//! The reference programs: what the pipeline is measured against, and the one that makes flows.

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, ProgramArray};
use aya::programs::{Program, ProgramFd};
use switch_agent::objects;

use super::{Attach, Pinned, Runs, run_tc, run_xdp};

/// What ratios to [`Reference::Hash`] are of.
pub const HASH_NAME: &str = "64-byte-key BPF hash lookup";

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
    const ALL: [Self; 3] = [Self::Redirect, Self::Floor, Self::Hash];

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

/// Flows to pick from, at random, for every packet anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flows {
    /// First IPv4 source address.
    pub first: u32,
    /// Distance of two addresses.
    pub step: u32,
    /// How many addresses.
    pub addresses: u32,
    /// How many MAC source addresses, which no rule looks at: flows that meet the same rules.
    pub macs: u32,
}

impl Flows {
    /// What the programs are told. `frame`: what they make the flows of; `seed`: of the random numbers.
    pub fn entry(self, frame: &[u8], seed: u32) -> [u32; 6] {
        let Self {
            first,
            step,
            addresses,
            macs,
        } = self;
        let word = |at: usize| u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        let sum = (14..34).step_by(2).filter(|at| !(24..30).contains(at));
        [first, step, addresses, macs, seed, sum.map(word).sum()]
    }
}

/// The reference programs, loaded.
pub struct References {
    object: Ebpf,
    attach: Attach,
    flows: Array<MapData, [u32; 6]>,
    after: ProgramArray<MapData>,
    seed: u32,
}

impl References {
    /// For frames from device `from`, which go to device `to`. `frame`: its first 64 bytes are the key that is found.
    pub fn load(attach: Attach, from: u32, to: u32, frame: &[u8; 64]) -> Result<Self> {
        let mut object = Ebpf::load(objects::LAB).context("cannot load the reference programs")?;
        redirect(&mut object, from, to)?;
        let map = object
            .map_mut(objects::LAB_HASH64_MAP)
            .context("no map of 64-byte keys")?;
        let key: [u64; 8] = std::array::from_fn(|i| {
            let mut word = [0; 8];
            word.copy_from_slice(&frame[i * 8..i * 8 + 8]);
            u64::from_ne_bytes(word)
        });
        HashMap::<_, [u64; 8], u32>::try_from(map)
            .and_then(|mut map| map.insert(key, 1, 0))
            .context("cannot write the map of 64-byte keys")?;
        for reference in Reference::ALL {
            load(&mut object, reference.program(attach))?;
        }
        let (flows, after) = match attach {
            Attach::Xdp => (objects::LAB_XDP_FLOWS, objects::LAB_AFTER_XDP_MAP),
            Attach::Tc => (objects::LAB_TC_FLOWS, objects::LAB_AFTER_TC_MAP),
        };
        load(&mut object, flows)?;
        let after = object
            .take_map(after)
            .context("no map of what follows flows")?;
        let flows = object
            .take_map(objects::LAB_FLOWS_MAP)
            .context("no map of flows")?;
        Ok(Self {
            object,
            attach,
            flows: Array::try_from(flows).context("cannot use the map of flows")?,
            after: ProgramArray::try_from(after).context("cannot use the map of programs")?,
            seed: 0,
        })
    }

    /// Runs a reference `repeat` times on `frame`, as if that came in by the device `ifindex` of the calling thread's namespace.
    pub fn run(&self, which: Reference, ifindex: u32, frame: &[u8], repeat: u32) -> Result<Runs> {
        self.run_program(which.program(self.attach), ifindex, frame, repeat)
    }

    /// As [`References::run`], of the program `target` (`None`: the bare redirect) on frames of `flows`. Making the flows costs a little,
    /// the same for every target.
    pub fn run_flows(
        &mut self,
        target: Option<&Pinned>,
        flows: Flows,
        ifindex: u32,
        frame: &[u8],
        repeat: u32,
    ) -> Result<Runs> {
        let redirect;
        let target = match target {
            Some(program) => program.fd()?,
            None => {
                redirect = self.fd(Reference::Redirect.program(self.attach))?;
                &redirect
            }
        };
        self.after
            .set(0, target, 0)
            .context("the program cannot follow flows")?;
        self.seed = self.seed.wrapping_add(0x9e37_79b9);
        self.flows
            .set(0, flows.entry(frame, self.seed), 0)
            .context("cannot write the map of flows")?;
        let program = match self.attach {
            Attach::Xdp => objects::LAB_XDP_FLOWS,
            Attach::Tc => objects::LAB_TC_FLOWS,
        };
        self.run_program(program, ifindex, frame, repeat)
    }

    fn run_program(&self, name: &str, ifindex: u32, frame: &[u8], repeat: u32) -> Result<Runs> {
        match self.object.program(name) {
            Some(Program::Xdp(program)) => run_xdp(program, ifindex, frame, repeat),
            Some(Program::SchedClassifier(program)) => run_tc(program, ifindex, frame, repeat),
            _ => anyhow::bail!("no program {name}"),
        }
    }

    fn fd(&self, name: &str) -> Result<ProgramFd> {
        let fd = match self.object.program(name) {
            Some(Program::Xdp(program)) => program.fd(),
            Some(Program::SchedClassifier(program)) => program.fd(),
            _ => anyhow::bail!("no program {name}"),
        };
        fd.and_then(|fd| fd.try_clone().map_err(Into::into))
            .with_context(|| format!("the program {name} is not loaded"))
    }
}

/// Has the redirect programs of `object` send frames of device `from` to device `to`.
pub fn redirect(object: &mut Ebpf, from: u32, to: u32) -> Result<()> {
    let map = object
        .map_mut(objects::LAB_REDIRECT_MAP)
        .context("no redirect map")?;
    Array::<_, u32>::try_from(map)
        .and_then(|mut map| map.set(from, to, 0))
        .context("cannot write the redirect map")
}

/// Loads one program of the object into the kernel.
pub fn load<'o>(object: &'o mut Ebpf, name: &str) -> Result<&'o mut Program> {
    let program = object
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    let loaded = match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => anyhow::bail!("the program {name} is of another kind than its name says"),
    };
    loaded.with_context(|| format!("cannot load the program {name}"))?;
    Ok(program)
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
            let mut references = References::load(attach, LOOPBACK, LOOPBACK, &frame).unwrap();
            let verdict = |which, frame: &[u8]| {
                let runs = references.run(which, LOOPBACK, frame, 10).unwrap();
                assert!(runs.nanoseconds > 0.0);
                runs.verdict
            };
            assert_eq!(verdict(Reference::Redirect, &frame), attach.redirect());
            assert_eq!(verdict(Reference::Hash, &frame), found, "the key is found");
            assert_ne!(verdict(Reference::Hash, &ruleset::frame(1)), found);
            assert_ne!(verdict(Reference::Floor, &frame), attach.redirect());
            let flows = Flows {
                first: 1,
                step: 2,
                addresses: 3,
                macs: 4,
            };
            let runs = references.run_flows(None, flows, LOOPBACK, &frame, 10);
            assert_eq!(runs.unwrap().verdict, attach.redirect());
        }
    }
}
