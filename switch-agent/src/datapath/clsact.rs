//! TC programs on kernels before 6.6, which have no TCX: filters on a device's clsact qdisc.
//!
//! A filter belongs to the device and to no process, so it outlives the agent like a pinned link. A data path knows its own filters by pins
//! of their programs, `links/<ifindex>-clsact`; a pin is made before its filter, so that there is never a filter that nobody owns.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
};
use aya::programs::{SchedClassifier, TcAttachType};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcFilterBpfOption, TcHandle as Handle, TcMessage, TcOption,
};
use switch_abi::programs;

use super::attach::{os_error, program_id};
use super::device::{self, Device, describe_program};
use super::pins::LINKS;
use super::upgrade::NEW;
use super::{DatapathError, Result};

/// Priority and handle of the filter, "LI" and "ME".
const PRIORITY: u16 = 0x4c49;
const HANDLE: u16 = 0x4d45;
/// Ending of the pins' names.
const PIN: &str = "-clsact";
/// Where ingress filters hang (TC_H_CLSACT and TC_H_MIN_INGRESS of linux/pkt_sched.h).
const INGRESS: Handle = Handle {
    major: 0xffff,
    minor: 0xfff2,
};

/// The filters of the data path that is pinned in a directory.
pub(crate) struct Filters<'a>(pub(crate) &'a Path);

impl Filters<'_> {
    /// Attaches a program, in place of another one of this data path in one step. Gives whether there was none before.
    pub(crate) fn attach(&self, device: &Device, program: &mut SchedClassifier) -> Result<bool> {
        let id = program_id(&program.info())?;
        let pin = self.pin(device.ifindex);
        let there = self.own(device)?;
        if there == Some(id) && pinned_program(&pin) == Some(id) {
            return Ok(false);
        }
        pin_over(program, &pin)?;
        if there.is_some() {
            replace(device, program)?;
            return Ok(false);
        }
        add(device, program).inspect_err(|_| {
            let _ = fs::remove_file(&pin);
        })?;
        Ok(true)
    }

    /// The program of this data path's filter on a device.
    ///
    /// # Errors
    /// [`DatapathError::InUse`] for one of another data path.
    pub(crate) fn own(&self, device: &Device) -> Result<Option<u32>> {
        let Some(there) = attached(device.ifindex)? else {
            return Ok(None);
        };
        if self.owns(device.ifindex, there) {
            return Ok(Some(there));
        }
        let name = &device.name;
        Err(DatapathError::in_use(
            format!("device {name}"),
            format!(
                "the TC filter of another agent, {} (if there is no such agent any more: tc filter del dev {name} ingress pref {PRIORITY})",
                describe_program(there),
            ),
        ))
    }

    /// Takes the filter off a device, and removes its pin.
    pub(crate) fn detach(&self, ifindex: u32) -> Result<()> {
        let pin = self.pin(ifindex);
        if !pin.exists() {
            return Ok(());
        }
        // A device that has gone has taken its filters with it.
        if let Ok(device) = Device::open(ifindex)
            && attached(ifindex)?.is_some_and(|id| self.owns(ifindex, id))
        {
            // Detached by being dropped.
            drop(link(&device)?);
            if attached(ifindex)?.is_some() {
                return Err(DatapathError::kernel(
                    format!("remove the TC filter of device {}", device.name),
                    "it is still there",
                ));
            }
        }
        fs::remove_file(&pin)
            .map_err(|e| DatapathError::kernel(format!("remove {}", pin.display()), e))
    }

    /// Takes all filters off.
    pub(crate) fn detach_all(&self) -> Result<()> {
        let devices = self.devices()?;
        devices.into_iter().try_for_each(|d| self.detach(d))
    }

    /// Puts `program` into all filters whose program has this name (as the kernel keeps it).
    pub(crate) fn switch(&self, short: &str, program: &mut SchedClassifier) -> Result<()> {
        for ifindex in self.devices()? {
            let pin = self.pin(ifindex);
            let old = SchedClassifier::from_pin(&pin).and_then(|p| p.info());
            if !old.is_ok_and(|info| info.name_as_str() == Some(short)) {
                continue;
            }
            // A device that has gone is attached anew when it is back.
            if let Ok(device) = Device::open(ifindex)
                && attached(ifindex)?.is_some_and(|id| self.owns(ifindex, id))
            {
                pin_over(program, &pin)?;
                replace(&device, program)?;
            }
        }
        Ok(())
    }

    /// Devices that have, or had, filters of this data path.
    fn devices(&self) -> Result<Vec<u32>> {
        let links = self.0.join(LINKS);
        let entries = match fs::read_dir(&links) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            entries => entries
                .map_err(|e| DatapathError::kernel(format!("list {}", links.display()), e))?,
        };
        let number = |entry: fs::DirEntry| {
            let name = entry.file_name();
            name.to_str()?.strip_suffix(PIN)?.parse().ok()
        };
        Ok(entries.flatten().filter_map(number).collect())
    }

    fn pin(&self, ifindex: u32) -> PathBuf {
        self.0.join(LINKS).join(format!("{ifindex}{PIN}"))
    }

    /// Whether the program that a device's filter has is of this data path: the one pinned for the device, or (in the middle of an upgrade)
    /// the one that is about to be replaced.
    fn owns(&self, ifindex: u32, program: u32) -> bool {
        let pin = self.pin(ifindex);
        let programs = [programs::TC_PORT, programs::TC_UNDERLAY].map(|name| self.0.join(name));
        let ours = |path: &PathBuf| pinned_program(path) == Some(program);
        pin.exists() && (ours(&pin) || programs.iter().any(ours))
    }
}

/// The program that is pinned there.
fn pinned_program(path: &Path) -> Option<u32> {
    let program = SchedClassifier::from_pin(path).ok()?;
    program_id(&program.info()).ok()
}

/// Pins a program, in place of another one if there is one.
fn pin_over(program: &mut SchedClassifier, path: &Path) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(NEW);
    let new = PathBuf::from(new);
    let _ = fs::remove_file(&new);
    program
        .pin(&new)
        .map_err(|e| DatapathError::kernel(format!("pin {}", new.display()), e))?;
    fs::rename(&new, path).map_err(|e| DatapathError::kernel(format!("pin {}", path.display()), e))
}

fn add(device: &Device, program: &mut SchedClassifier) -> Result<()> {
    let failed =
        |e| DatapathError::kernel(format!("attach to clsact on device {}", device.name), e);
    // EEXIST: the device has the qdisc already.
    let _ = qdisc_add_clsact(&device.name);
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: TcHandle::new(0, HANDLE),
        ..NlOptions::default()
    });
    match program.attach_with_options(&device.name, TcAttachType::Ingress, options) {
        Ok(id) => {
            // The filter stays until it is detached.
            std::mem::forget(program.take_link(id).map_err(failed)?);
            Ok(())
        }
        Err(e) if os_error(&e) == Some(libc::EEXIST) => Err(DatapathError::in_use(
            format!("device {}", device.name),
            "a TC filter that somebody has just made",
        )),
        Err(e) => Err(failed(e)),
    }
}

/// The kernel exchanges the program of the filter in one step: no packet meets none or both.
fn replace(device: &Device, program: &mut SchedClassifier) -> Result<()> {
    let failed =
        |e| DatapathError::kernel(format!("change the TC filter of device {}", device.name), e);
    let id = program.attach_to_link(link(device)?).map_err(failed)?;
    std::mem::forget(program.take_link(id).map_err(failed)?);
    Ok(())
}

fn link(device: &Device) -> Result<SchedClassifierLink> {
    let handle = TcHandle::new(0, HANDLE);
    SchedClassifierLink::attached(&device.name, TcAttachType::Ingress, PRIORITY, handle, None)
        .map_err(|e| DatapathError::kernel(format!("look at device {}", device.name), e))
}

/// The program of the filter with LIME's priority and handle on a device.
pub(crate) fn attached(ifindex: u32) -> Result<Option<u32>> {
    let mut filter = TcMessage::with_index(ifindex.cast_signed());
    filter.header.parent = INGRESS;
    filter.header.handle = Handle {
        major: 0,
        minor: HANDLE,
    };
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    filter.header.info = u32::from(PRIORITY) << 16 | u32::from(protocol);
    let answer = match device::ask(RouteNetlinkMessage::GetTrafficFilter(filter)) {
        Ok(answer) => answer,
        // No such device, no clsact qdisc on it, no such filter.
        Err(e) if is_absence(&e) => return Ok(None),
        Err(e) => {
            return Err(DatapathError::kernel(
                format!("look at the TC filters of device {ifindex}"),
                e,
            ));
        }
    };
    let RouteNetlinkMessage::NewTrafficFilter(filter) = answer else {
        return Ok(None);
    };
    let options = filter.attributes.into_iter().find_map(|a| match a {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    Ok(options
        .into_iter()
        .flatten()
        .find_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(id),
            _ => None,
        }))
}

fn is_absence(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::ENODEV | libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP)
    )
}

/// On the kernel that there is, also where it has TCX.
#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::{Datapath, Limits};
    use super::*;

    fn run(command: &str) -> String {
        let (program, arguments) = command.split_once(' ').unwrap();
        let output = Command::new(program)
            .args(arguments.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A directory for pins that goes when this goes.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let name = format!("/sys/fs/bpf/lime-clsact-{}-{name}", std::process::id());
            Self(name.into())
        }

        fn open(&self) -> Datapath {
            let limits = Limits {
                rules: 100,
                event_ring_bytes: 1 << 16,
                ..Limits::default()
            };
            Datapath::open(&self.0, &limits).unwrap().0
        }

        fn program(&self, name: &str) -> SchedClassifier {
            SchedClassifier::from_pin(self.0.join(name)).unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn in_namespace(test: impl FnOnce(Device) + Send + 'static) {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            run("ip link add left type veth peer name right");
            let ifindex = nix::net::if_::if_nametoindex("left").unwrap();
            test(Device::open(ifindex).unwrap());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn direct_filters() -> usize {
        let all = run("tc filter show dev left ingress");
        all.matches("direct-action").count()
    }

    #[test]
    fn a_filter_outlives_the_agent_and_is_taken_up() {
        in_namespace(|device| {
            let dir = Dir::new("own");
            let filters = Filters(&dir.0);
            drop(dir.open());
            for name in [programs::TC_PORT, programs::TC_UNDERLAY] {
                let id = pinned_program(&dir.0.join(name));
                let attach = || filters.attach(&device, &mut dir.program(name)).unwrap();
                let first = attach();
                assert_eq!(first, name == programs::TC_PORT, "else it is replaced");
                assert!(!attach());
                assert_eq!(direct_filters(), 1);
                assert_eq!(attached(device.ifindex).unwrap(), id);
            }

            // As if the programs were of another build: the next agent puts its own into the filter.
            let before = attached(device.ifindex).unwrap();
            fs::remove_file(dir.0.join("OBJECT")).unwrap();
            drop(dir.open());
            let after = attached(device.ifindex).unwrap();
            assert_ne!(before, after);
            assert_eq!(after, pinned_program(&dir.0.join(programs::TC_UNDERLAY)));
            assert_eq!(filters.own(&device).unwrap(), after);
            assert_eq!(direct_filters(), 1);

            Datapath::detach_unpinned(&dir.0).unwrap();
            assert_eq!(direct_filters(), 0);
            assert_eq!(filters.devices().unwrap(), [0; 0]);
            filters.detach(device.ifindex).unwrap();
        });
    }

    #[test]
    fn anothers_filter_is_left_alone() {
        in_namespace(|device| {
            let (mine, theirs) = (Dir::new("mine"), Dir::new("theirs"));
            drop((mine.open(), theirs.open()));
            let mut program = theirs.program(programs::TC_PORT);
            Filters(&theirs.0).attach(&device, &mut program).unwrap();
            let refused = Filters(&mine.0).attach(&device, &mut mine.program(programs::TC_PORT));
            assert!(
                matches!(&refused, Err(DatapathError::InUse { by, .. }) if by.contains("lime_tc_port")),
                "{refused:?}"
            );
            Datapath::detach_unpinned(&mine.0).unwrap();
            assert_eq!(direct_filters(), 1);
            // A device that has gone needs nothing.
            run("ip link del left");
            Datapath::detach_unpinned(&theirs.0).unwrap();
            assert_eq!(Filters(&theirs.0).devices().unwrap(), [0; 0]);
        });
    }
}
