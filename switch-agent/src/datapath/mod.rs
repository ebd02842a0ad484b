//! The data path as the agent sees it: networks, switches, ports, peers and rules by the coordinator's ids, written into the
//! maps that the kernel programs read.
//!
//! [`Datapath`] is synchronous and has one owner (`Send`). Writes are plain stores into mapped memory; only `collect`, `remove_*`, the end
//! of an instance and running out of slots wait for a grace period (some milliseconds to some tens of them).
//!
//! Invariant: what a packet can see changes only by single aligned words, and what it could still see is not reused before a grace period.
//! Invariant: everything here can be rebuilt from the maps.
//!
//! | module | job |
//! | --- | --- |
//! | `mapped`, `maps`, `pins` | memory shared with the kernel: typed arrays, all maps, loading and pinning |
//! | `state`, `slots`, `index`, `grace` | what the agent remembers beside the maps, free slots, grace periods |
//! | `compile`, `classifier`, `chains` | rules: compiled, linked into tables |
//! | `parts`, `groups`, `meters` | what is in tables without being a rule |
//! | `staging`, `snapshots` | rules by epochs: staged, taken back, collected; all of a switch at once |
//! | `networks`, `leases`, `switches`, `ports`, `peers`, `counters` | the rest of the model |
//! | `attach`, `clsact`, `device`, `link`, `events` | programs on devices, the event ring |
//! | `adopt`, `upgrade` | taking up what an earlier agent left, with its programs or newer ones |

mod adopt;
mod attach;
mod batch;
mod chains;
mod classifier;
mod clsact;
mod common;
mod compile;
mod counters;
mod device;
mod error;
mod events;
mod grace;
mod groups;
mod index;
mod leases;
mod link;
mod mapped;
mod maps;
mod meters;
mod networks;
mod parts;
mod peers;
mod pins;
mod ports;
mod promises;
mod relay;
mod rule_index;
mod slots;
mod snapshots;
mod staging;
mod state;
mod switches;
#[cfg(test)]
mod tests;
mod types;
mod upgrade;

use std::path::Path;

use lime_core::{HostId, NetworkId, SwitchId};

use self::attach::Kernel;
use self::classifier::PortNumbers;
use self::index::IdMap;
use self::maps::{Maps, Sizes};
use self::peers::Peer;
use self::pins::Pins;
use self::state::{Limbo, Network, Pools, Store, Switch};

pub use error::*;
pub use events::EventRing;
pub use grace::grace_period;
pub use types::*;

/// The maps and programs of this host, and indices over them.
pub struct Datapath {
    store: Store,
    limits: Limits,
    networks: IdMap<NetworkId, Network>,
    switches: IdMap<SwitchId, Switch>,
    peers: IdMap<HostId, Peer>,
    numbers: PortNumbers,
    /// Outer source address of recirculated frames, and when their header was last switched.
    own_source: Option<[u8; 16]>,
    own_switched_at: Option<u64>,
    /// None for one in ordinary memory.
    kernel: Option<Kernel>,
}

impl Datapath {
    /// Where `pin_dir` is in no bpffs, mounts one on it (it must be empty then; for one under /sys/fs/bpf, there). Then loads the programs and pins everything in `pin_dir`, or adopts what is
    /// pinned there (with the limits that it was made with).
    ///
    /// # Errors
    /// [`DatapathError::InUse`] while another process has this data path open, [`DatapathError::Unsupported`] for pinned maps of another ABI version, [`DatapathError::Kernel`] without the rights
    /// (CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN to mount) or on a kernel that refuses the programs.
    pub fn open(pin_dir: &Path, limits: &Limits) -> Result<(Datapath, Adopted)> {
        let pins = Pins::prepare(pin_dir)?;
        if pins.complete() {
            let flow_cache = limits.flow_cache;
            let (limits, sizes) = pins.read_sizes(flow_cache)?;
            // The programs that run are of the same ABI: better these than none.
            if let Err(e) = pins.upgrade(crate::objects::SWITCH, flow_cache) {
                let e: &dyn std::error::Error = &e;
                tracing::error!(
                    error = e,
                    "the pinned programs could not be replaced by this agent's: they go on"
                );
            }
            let maps = pins.open_maps(&sizes)?;
            let mut datapath = Self::assemble(maps, &limits, &sizes, Some(pins));
            let adopted = datapath.adopt()?;
            return Ok((datapath, adopted));
        }
        let cpus = aya::util::nr_cpus()
            .map_err(|(path, e)| DatapathError::kernel(format!("read {path}"), e))?;
        let sizes = Sizes::of(limits, cpus as u32)?;
        let maps = pins.load(crate::objects::SWITCH, limits, &sizes)?;
        let datapath = Self::assemble(maps, limits, &sizes, Some(pins));
        Ok((datapath, Adopted::default()))
    }

    /// Takes everything off devices (of the calling thread's network namespace) that does not go with the pins: what there is of it on kernels
    /// before 6.6. For removing a data path that is not open.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`]; it can be tried again.
    pub fn detach_unpinned(pin_dir: &Path) -> Result<()> {
        clsact::Filters(pin_dir).detach_all()
    }

    /// Without a kernel: tables in ordinary memory, for one CPU; nothing can be attached. For tests and measurements.
    pub fn in_memory(limits: &Limits) -> Result<Datapath> {
        let sizes = Sizes::of(limits, 1)?;
        Ok(Self::assemble(
            Maps::in_memory(&sizes),
            limits,
            &sizes,
            None,
        ))
    }

    /// What [`Datapath::open`] does after an agent has died, for one in ordinary memory. For tests.
    pub fn reopen_in_memory(self) -> Result<(Datapath, Adopted)> {
        let limits = self.limits;
        let sizes = Sizes::of(&limits, self.store.cpus)?;
        let mut datapath = Self::assemble(self.store.maps, &limits, &sizes, None);
        let adopted = datapath.adopt()?;
        Ok((datapath, adopted))
    }

    fn assemble(maps: Maps, limits: &Limits, sizes: &Sizes, pins: Option<Pins>) -> Self {
        Self {
            store: Store {
                maps,
                pools: Pools::new(sizes),
                limbo: Limbo::default(),
                cpus: sizes.cpus,
                rule_stride: sizes.rules,
                port_stride: sizes.ports,
                bucket_mask: sizes.buckets - 1,
                shared: pins.is_some(),
            },
            limits: *limits,
            networks: IdMap::default(),
            switches: IdMap::default(),
            peers: IdMap::default(),
            numbers: PortNumbers {
                slots: IdMap::default(),
                references: vec![0; sizes.ports as usize],
            },
            own_source: None,
            own_switched_at: None,
            kernel: pins.map(|pins| Kernel {
                pins,
                ring_taken: false,
            }),
        }
    }

    /// From here on grace periods are not waited for: the caller promises that no program runs on packets while it changes something. For tests
    /// that change much and send packets themselves.
    pub fn promise_quiet(&mut self) {
        self.store.shared = false;
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Free slots (those that wait for a grace period count as free).
    pub fn capacity(&self) -> Capacity {
        Capacity {
            rules: self.store.free_rules(),
            ports: self.store.free_ports(),
        }
    }
}
