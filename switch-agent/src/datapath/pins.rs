//! The programs and maps in the kernel, pinned in one directory of a bpffs: loading them, or taking up what is pinned.
//!
//! In the directory: every map under its name in `switch_abi::maps`, every program under its name in `switch_abi::programs`, a
//! directory `links` (see `attach`), and a map that says which kernel object the programs are of (see `upgrade`). META is pinned last: without it, a load was not completed and the rest is removed.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap as KernelHash, Map, MapData};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader, Pod};
use nix::fcntl::{Flock, FlockArg};
use switch_abi::{ABI_VERSION, Meta, maps, programs};

use super::clsact::Filters;
use super::mapped::MappedArray;
use super::maps::{HashTable, Maps, MetaMap, Sizes};
use super::upgrade::DIGEST;
use super::{DatapathError, Limits, Result};

/// The usual place of a bpffs.
const SYS_FS_BPF: &str = "/sys/fs/bpf";

/// Subdirectory for the links.
pub(crate) const LINKS: &str = "links";

/// All maps; META is the last, both here and when they are pinned.
pub(crate) const MAPS: [&str; 16] = [
    maps::NETWORKS,
    maps::SWITCHES,
    maps::TABLES,
    maps::TUPLES,
    maps::BUCKETS,
    maps::RULES,
    maps::RULE_COUNTERS,
    maps::PORTS,
    maps::PORT_COUNTERS,
    maps::MISSES,
    maps::DEVICES,
    maps::PEERS,
    maps::TUNNEL_PEERS,
    maps::TUNNEL_PORTS,
    maps::EVENTS,
    maps::META,
];

/// All programs.
pub(crate) const PROGRAMS: [&str; 4] = [
    programs::XDP_PORT,
    programs::XDP_UNDERLAY,
    programs::TC_PORT,
    programs::TC_UNDERLAY,
];

/// Where everything is pinned.
pub(crate) struct Pins {
    dir: PathBuf,
    /// Held as long as this is: the maps have one writer.
    _lock: Flock<fs::File>,
}

impl Pins {
    /// Makes the directory. Where it is not in a bpffs, one is mounted: on /sys/fs/bpf for a directory in there, else on the directory
    /// itself, which must be empty, so that the mount hides nothing.
    pub(crate) fn prepare(dir: &Path) -> Result<Self> {
        let failed = |e: io::Error| {
            DatapathError::kernel(format!("make the bpffs directory {}", dir.display()), e)
        };
        if dir.starts_with(SYS_FS_BPF) {
            mount_unless_there(Path::new(SYS_FS_BPF))?;
        } else {
            fs::create_dir_all(dir).map_err(failed)?;
            mount_unless_there(dir)?;
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(dir.join(LINKS)).map_err(failed)?;
        let lock = fs::File::open(dir).map_err(failed)?;
        let lock =
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
                nix::errno::Errno::EWOULDBLOCK => DatapathError::in_use(
                    format!("the data path in {}", dir.display()),
                    "another agent that is running",
                ),
                e => failed(e.into()),
            })?;
        Ok(Self {
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of a pinned map or program.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether a complete data path is pinned.
    pub(crate) fn complete(&self) -> bool {
        self.path(maps::META).exists()
    }

    /// Loads programs and maps and pins them; what an interrupted load left goes first.
    pub(crate) fn load(&self, object: &[u8], limits: &Limits, sizes: &Sizes) -> Result<Maps> {
        self.remove_all()?;
        match self.load_and_pin(object, limits, sizes) {
            Ok(maps) => Ok(maps),
            Err(e) => {
                self.remove_all()?;
                Err(e)
            }
        }
    }

    fn load_and_pin(&self, object: &[u8], limits: &Limits, sizes: &Sizes) -> Result<Maps> {
        let meta = sizes.meta();
        let entries = [
            (maps::CACHE, cache_entries(limits.flow_cache, sizes.cpus)),
            (maps::WHOLE, sizes.cpus),
            (maps::NETWORKS, sizes.networks),
            (maps::SWITCHES, sizes.switches),
            (maps::TABLES, sizes.tables),
            (maps::TUPLES, sizes.tuples),
            (maps::BUCKETS, sizes.buckets),
            (maps::RULES, sizes.rules),
            (maps::RULE_COUNTERS, sizes.rule_counters),
            (maps::PORTS, sizes.ports),
            (maps::PORT_COUNTERS, sizes.port_counters),
            (maps::MISSES, sizes.misses),
            (maps::DEVICES, sizes.devices),
            (maps::PEERS, sizes.peers),
            (maps::TUNNEL_PEERS, sizes.tunnel_peers),
            (maps::TUNNEL_PORTS, sizes.tunnel_ports),
            (maps::EVENTS, limits.event_ring_bytes),
        ];
        let mut ebpf = load_object(object, &meta, &entries, &[], limits.flow_cache)?;
        for name in PROGRAMS {
            let path = self.path(name);
            let program = load_program(&mut ebpf, name)?;
            program
                .pin(&path)
                .map_err(|e| DatapathError::kernel(format!("pin {}", path.display()), e))?;
        }
        self.write_digest(object)?;
        for name in MAPS {
            let map = take(&mut ebpf, name)?;
            if name == maps::META {
                let mut array = meta_map(map)?;
                array
                    .set(0, meta, 0)
                    .map_err(|e| DatapathError::kernel("write the META map", e))?;
                self.pin(name, |path| array.pin(path))?;
            } else {
                self.pin(name, |path| map.pin(path))?;
            }
        }
        self.open_maps(sizes)
    }

    pub(crate) fn pin<E: std::error::Error + Send + Sync + 'static>(
        &self,
        name: &str,
        pin: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<()> {
        let path = self.path(name);
        pin(&path).map_err(|e| DatapathError::kernel(format!("pin {}", path.display()), e))
    }

    /// Limits and sizes of the pinned maps. The flow cache's, which is not pinned, is the given one.
    pub(crate) fn read_sizes(&self, flow_cache: u32) -> Result<(Limits, Sizes)> {
        let meta = meta_map(self.open(maps::META)?)?
            .get(&0, 0)
            .map_err(|e| DatapathError::kernel("read the META map", e))?;
        if meta.abi_version != ABI_VERSION {
            return Err(DatapathError::unsupported(
                format!(
                    "the data path pinned in {} (ABI version {})",
                    self.dir.display(),
                    meta.abi_version
                ),
                format!(
                    "this agent has ABI version {ABI_VERSION}: move the host's instances away, stop the agent, run it with --unload and start it again"
                ),
            ));
        }
        let entries = |name: &str| -> Result<u32> {
            let info = self.open(name)?.info();
            Ok(info
                .map_err(|e| DatapathError::kernel(format!("look at the map {name}"), e))?
                .max_entries())
        };
        let sizes = Sizes {
            cpus: meta.cpus,
            networks: entries(maps::NETWORKS)?,
            switches: entries(maps::SWITCHES)?,
            tables: entries(maps::TABLES)?,
            tuples: entries(maps::TUPLES)?,
            buckets: entries(maps::BUCKETS)?,
            rules: entries(maps::RULES)?,
            rule_counters: entries(maps::RULE_COUNTERS)?,
            ports: entries(maps::PORTS)?,
            port_counters: entries(maps::PORT_COUNTERS)?,
            misses: entries(maps::MISSES)?,
            devices: entries(maps::DEVICES)?,
            peers: entries(maps::PEERS)?,
            tunnel_peers: entries(maps::TUNNEL_PEERS)?,
            tunnel_ports: entries(maps::TUNNEL_PORTS)?,
        };
        let limits = Limits {
            rules: sizes.rules.saturating_sub(1),
            ports: sizes.ports.saturating_sub(1),
            networks: sizes.networks.saturating_sub(1),
            switches: sizes.switches.saturating_sub(1),
            peers: sizes.peers.saturating_sub(2),
            event_ring_bytes: entries(maps::EVENTS)?,
            flow_cache,
        };
        if !sizes.fit(&meta) {
            return Err(DatapathError::invalid(
                format!("the data path pinned in {}", self.dir.display()),
                format!(
                    "the sizes of its maps contradict each other ({sizes:?}): remove the directory"
                ),
            ));
        }
        Ok((limits, sizes))
    }

    /// Opens and maps everything that is pinned.
    pub(crate) fn open_maps(&self, sizes: &Sizes) -> Result<Maps> {
        Ok(Maps {
            meta: MetaMap::Kernel(meta_map(self.open(maps::META)?)?),
            networks: self.array(maps::NETWORKS, sizes.networks)?,
            switches: self.array(maps::SWITCHES, sizes.switches)?,
            tables: self.array(maps::TABLES, sizes.tables)?,
            tuples: self.array(maps::TUPLES, sizes.tuples)?,
            buckets: self.array(maps::BUCKETS, sizes.buckets)?,
            rules: self.array(maps::RULES, sizes.rules)?,
            rule_counters: self.array(maps::RULE_COUNTERS, sizes.rule_counters)?,
            ports: self.array(maps::PORTS, sizes.ports)?,
            port_counters: self.array(maps::PORT_COUNTERS, sizes.port_counters)?,
            misses: self.array(maps::MISSES, sizes.misses)?,
            devices: self.array(maps::DEVICES, sizes.devices)?,
            peers: self.array(maps::PEERS, sizes.peers)?,
            tunnel_peers: self.hash(maps::TUNNEL_PEERS)?,
            tunnel_ports: self.hash(maps::TUNNEL_PORTS)?,
        })
    }

    /// Opens a pinned map.
    pub(crate) fn open(&self, name: &str) -> Result<MapData> {
        let path = self.path(name);
        MapData::from_pin(&path)
            .map_err(|e| DatapathError::kernel(format!("open {}", path.display()), e))
    }

    fn array<T: Pod>(&self, name: &str, entries: u32) -> Result<MappedArray<T>> {
        let map = self.open(name)?;
        let info = map
            .info()
            .map_err(|e| DatapathError::kernel(format!("look at the map {name}"), e))?;
        if info.value_size() as usize != size_of::<T>() || info.max_entries() != entries {
            return Err(DatapathError::invalid(
                format!("the map {name}"),
                format!(
                    "it has {} entries of {} bytes, not {entries} of {}",
                    info.max_entries(),
                    info.value_size(),
                    size_of::<T>()
                ),
            ));
        }
        MappedArray::map(map.fd().as_fd(), entries)
            .map_err(|e| DatapathError::kernel(format!("mmap the map {name}"), e))
    }

    fn hash<K: Pod>(&self, name: &str) -> Result<HashTable<K>> {
        let map = Map::HashMap(self.open(name)?);
        KernelHash::try_from(map)
            .map(HashTable::Kernel)
            .map_err(|e| DatapathError::kernel(format!("use the map {name}"), e))
    }

    /// Removes all pins; what is attached by them goes.
    pub(crate) fn remove_all(&self) -> Result<()> {
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DatapathError::kernel(
                format!("remove {}", path.display()),
                e,
            )),
            _ => Ok(()),
        };
        Filters(&self.dir).detach_all()?;
        // META first: without it nothing of the rest counts.
        for name in MAPS.iter().rev().chain(&PROGRAMS).chain(&[DIGEST]) {
            remove(&self.path(name))?;
        }
        let links = self.path(LINKS);
        let entries = fs::read_dir(&links)
            .map_err(|e| DatapathError::kernel(format!("list {}", links.display()), e))?;
        for entry in entries.flatten() {
            remove(&entry.path())?;
        }
        Ok(())
    }
}

/// Mounts a bpffs on an empty directory that is not in one.
fn mount_unless_there(dir: &Path) -> Result<()> {
    let look = |e: io::Error| DatapathError::kernel(format!("look at {}", dir.display()), e);
    let found = nix::sys::statfs::statfs(dir).map_err(|e| look(e.into()))?;
    if found.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC {
        return Ok(());
    }
    if fs::read_dir(dir).map_err(look)?.next().is_some() {
        return Err(DatapathError::invalid(
            format!("the bpffs directory {}", dir.display()),
            "it is not in a bpffs and not empty, so that none can be mounted on it: name a directory under /sys/fs/bpf (`mount -t bpf bpf /sys/fs/bpf` if that is none)",
        ));
    }
    let none: Option<&str> = None;
    nix::mount::mount(none, dir, Some("bpf"), nix::mount::MsFlags::empty(), none).map_err(|e| {
        DatapathError::kernel(
            format!("mount a bpffs on {} (needs CAP_SYS_ADMIN)", dir.display()),
            e,
        )
    })
}

/// Entries of the flow cache's map for `flows` of each CPU.
pub(crate) fn cache_entries(flows: u32, cpus: u32) -> u32 {
    // Checked with the other limits; a map has an entry at least.
    flows.saturating_mul(cpus).max(1)
}

/// Loads the object with map sizes and with maps that are there already, and with the constants that its programs are compiled against.
pub(crate) fn load_object(
    object: &[u8],
    meta: &Meta,
    entries: &[(&str, u32)],
    pinned: &[(&str, PathBuf)],
    flow_cache: u32,
) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for (name, path) in pinned {
        loader.map_pin_path(name, path.as_path());
    }
    for &(name, entries) in entries {
        loader.map_max_entries(name, entries);
    }
    let miss_stride = meta.switches * switch_abi::MISS_TABLES;
    loader
        .override_global("RULE_STRIDE", &meta.rules, true)
        .override_global("MISS_STRIDE", &miss_stride, true)
        .override_global("PORT_STRIDE", &meta.ports, true)
        .override_global("BUCKET_MASK", &meta.bucket_mask, true)
        .override_global("FLOW_CACHE", &flow_cache, true)
        .load(object)
        .map_err(|e| DatapathError::kernel("load the kernel object", e))
}

/// Loads one program into the kernel.
pub(crate) fn load_program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Program> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| DatapathError::not_found(format!("program {name} in the kernel object")))?;
    let loaded = match program {
        Program::Xdp(xdp) => xdp.load(),
        Program::SchedClassifier(tc) => tc.load(),
        _ => {
            return Err(DatapathError::invalid(
                format!("program {name} in the kernel object"),
                "it is neither XDP nor TC",
            ));
        }
    };
    loaded.map_err(|e| DatapathError::kernel(format!("load the program {name}"), e))?;
    Ok(program)
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<MapData> {
    match ebpf.take_map(name) {
        Some(Map::Array(map) | Map::HashMap(map) | Map::RingBuf(map)) => Ok(map),
        _ => Err(DatapathError::not_found(format!(
            "map {name} in the kernel object"
        ))),
    }
}

pub(crate) fn meta_map(map: MapData) -> Result<Array<MapData, Meta>> {
    Array::try_from(Map::Array(map)).map_err(|e| DatapathError::kernel("use the META map", e))
}
