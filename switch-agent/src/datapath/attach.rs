//! Programs on devices: TCX (kernel 6.6 and later; before, see `clsact`) and XDP, by links that are pinned, so that they outlive the agent.
//!
//! A device in XDP mode has both programs: what XDP cannot express it passes on to TC. Links are pinned as `links/<ifindex>-xdp` and
//! `links/<ifindex>-tc`. A device that has gone leaves a dead link behind; it is found by its program not being on the device, and replaced.

use std::fs;
use std::io;
use std::path::PathBuf;

use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::TcAttachOptions;
use aya::programs::xdp::XdpMode;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, Xdp};
use aya_obj::programs::XdpAttachType;
use switch_abi::programs;

use super::clsact::Filters;
use super::device::{Device, XdpAttached};
use super::link::detach_pinned;
use super::pins::{LINKS, Pins};
use super::{AttachMode, Datapath, DatapathError, EventRing, Result};

/// The kernel's own "not supported" (include/linux/errno.h), which some drivers let out.
const ENOTSUPP: i32 = 524;

/// What is in the kernel beside the maps.
pub(crate) struct Kernel {
    pub(crate) pins: Pins,
    pub(crate) ring_taken: bool,
}

/// Which pair of programs a device gets.
#[derive(Clone, Copy)]
enum Role {
    Port,
    Underlay,
}

impl Role {
    fn xdp(self) -> &'static str {
        match self {
            Role::Port => programs::XDP_PORT,
            Role::Underlay => programs::XDP_UNDERLAY,
        }
    }

    fn tc(self) -> &'static str {
        match self {
            Role::Port => programs::TC_PORT,
            Role::Underlay => programs::TC_UNDERLAY,
        }
    }
}

impl Datapath {
    /// Attaches the port programs to a device and gives the mode in force (never [`AttachMode::Auto`]). A device that has them already is
    /// adopted. Devices are those of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`DatapathError::InUse`] for a device with somebody else's XDP program; [`DatapathError::Unsupported`] when XDP is asked for
    /// and the driver has none.
    pub fn attach_port(&mut self, ifindex: u32, mode: AttachMode) -> Result<AttachMode> {
        self.attach(ifindex, mode, Role::Port)
    }

    /// Attaches the underlay programs, as [`Datapath::attach_port`].
    pub fn attach_underlay(&mut self, ifindex: u32, mode: AttachMode) -> Result<AttachMode> {
        self.attach(ifindex, mode, Role::Underlay)
    }

    /// Takes whatever this data path attached off a device.
    pub fn detach(&mut self, ifindex: u32) -> Result<()> {
        let Some(kernel) = &self.kernel else {
            return Ok(());
        };
        kernel.unpin(ifindex, "xdp")?;
        kernel.detach_tc(ifindex)
    }

    /// Whether and how the device could be attached, without doing it. Whether a driver really takes native XDP shows only when it is done.
    pub fn check_attach(&self, ifindex: u32, mode: AttachMode) -> Result<AttachMode> {
        let device = Device::open(ifindex)?;
        if let Some(kernel) = &self.kernel {
            kernel.check_foreign(&device)?;
        }
        Ok(match mode {
            AttachMode::Auto if device.is_virtual() => AttachMode::Tc,
            AttachMode::Auto => AttachMode::Xdp,
            mode => mode,
        })
    }

    /// The event ring. There is one consumer: taken once, [`DatapathError::InUse`] after that.
    pub fn event_ring(&mut self) -> Result<EventRing> {
        let Some(kernel) = &mut self.kernel else {
            return Err(DatapathError::unsupported(
                "the event ring",
                "this data path is in ordinary memory",
            ));
        };
        if kernel.ring_taken {
            return Err(DatapathError::in_use("the event ring", "an earlier taker"));
        }
        let ring = EventRing::open(&kernel.pins)?;
        kernel.ring_taken = true;
        Ok(ring)
    }

    fn attach(&mut self, ifindex: u32, mode: AttachMode, role: Role) -> Result<AttachMode> {
        let Some(kernel) = &self.kernel else {
            return Err(DatapathError::unsupported(
                format!("attaching device {ifindex}"),
                "this data path is in ordinary memory",
            ));
        };
        let device = Device::open(ifindex)?;
        kernel.check_foreign(&device)?;
        let attached_now = kernel.attach_tc(&device, role.tc())?;
        let xdp = match mode {
            AttachMode::Tc => None,
            AttachMode::Auto if device.is_virtual() => None,
            AttachMode::Auto | AttachMode::Xdp => Some(XdpMode::Driver),
            AttachMode::XdpGeneric => Some(XdpMode::Skb),
        };
        let Some(xdp) = xdp else {
            kernel.unpin(ifindex, "xdp")?;
            return Ok(AttachMode::Tc);
        };
        match kernel.attach_xdp(&device, role.xdp(), xdp) {
            Ok(()) if mode == AttachMode::XdpGeneric => Ok(AttachMode::XdpGeneric),
            Ok(()) => Ok(AttachMode::Xdp),
            Err(DatapathError::Unsupported { why, .. }) if mode == AttachMode::Auto => {
                tracing::info!(device = %device.name, %why, "no native XDP, using TC");
                Ok(AttachMode::Tc)
            }
            Err(e) => {
                if attached_now {
                    kernel.detach_tc(ifindex)?;
                }
                Err(e)
            }
        }
    }
}

impl Kernel {
    fn link_path(&self, ifindex: u32, kind: &str) -> PathBuf {
        self.pins.path(LINKS).join(format!("{ifindex}-{kind}"))
    }

    /// Takes a program off a device and removes its pin, if there is one.
    fn unpin(&self, ifindex: u32, kind: &str) -> Result<()> {
        let path = self.link_path(ifindex, kind);
        if !path.exists() {
            return Ok(());
        }
        if let Err(e) = detach_pinned(&path) {
            // The device has gone, or (kernels before 5.15, some link types) links cannot be detached but by removing the pin.
            tracing::debug!(link = %path.display(), error = %e, "not detached at once");
        }
        fs::remove_file(&path)
            .map_err(|e| DatapathError::kernel(format!("remove {}", path.display()), e))
    }

    fn filters(&self) -> Filters<'_> {
        Filters(self.pins.dir())
    }

    /// Takes the TC program off a device, in whichever way it is attached.
    fn detach_tc(&self, ifindex: u32) -> Result<()> {
        self.unpin(ifindex, "tc")?;
        self.filters().detach(ifindex)
    }

    fn own_programs(&self) -> Result<[u32; 2]> {
        Ok([
            program_id(&self.xdp(programs::XDP_PORT)?.info())?,
            program_id(&self.xdp(programs::XDP_UNDERLAY)?.info())?,
        ])
    }

    fn check_foreign(&self, device: &Device) -> Result<()> {
        if let Some(attached) = device.xdp
            && !self.own_programs()?.contains(&attached.program)
        {
            return Err(DatapathError::in_use(
                format!("device {}", device.name),
                attached.describe(),
            ));
        }
        self.filters().own(device).map(drop)
    }

    fn xdp(&self, name: &str) -> Result<Xdp> {
        let path = self.pins.path(name);
        Xdp::from_pin(&path, XdpAttachType::Interface)
            .map_err(|e| DatapathError::kernel(format!("open {}", path.display()), e))
    }

    fn tc(&self, name: &str) -> Result<SchedClassifier> {
        let path = self.pins.path(name);
        SchedClassifier::from_pin(&path)
            .map_err(|e| DatapathError::kernel(format!("open {}", path.display()), e))
    }

    fn attach_xdp(&self, device: &Device, name: &str, mode: XdpMode) -> Result<()> {
        let mut program = self.xdp(name)?;
        let id = program_id(&program.info())?;
        let path = self.link_path(device.ifindex, "xdp");
        let generic = matches!(mode, XdpMode::Skb);
        let wanted = XdpAttached {
            program: id,
            generic,
        };
        if path.exists() {
            if device.xdp == Some(wanted) {
                return Ok(());
            }
            self.unpin(device.ifindex, "xdp")?;
        }
        let what = || format!("attach {name} to device {}", device.name);
        let link =
            program
                .attach_to_if_index(device.ifindex, mode)
                .map_err(|e| match os_error(&e) {
                    Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE | ENOTSUPP) => {
                        DatapathError::unsupported(
                            format!("XDP on device {}", device.name),
                            format!(
                                "its driver refuses it ({e}); attach it by TC, or lower its MTU"
                            ),
                        )
                    }
                    Some(libc::EBUSY | libc::EEXIST) => DatapathError::in_use(
                        format!("device {}", device.name),
                        "another XDP program",
                    ),
                    _ => DatapathError::kernel(what(), e),
                })?;
        let link = program
            .take_link(link)
            .map_err(|e| DatapathError::kernel(what(), e))?;
        let link = FdLink::try_from(link).map_err(|_| {
            DatapathError::unsupported(
                format!("XDP on device {}", device.name),
                "the driver or kernel has no XDP links (5.9 and later have)",
            )
        })?;
        link.pin(&path)
            .map_err(|e| DatapathError::kernel(format!("pin {}", path.display()), e))?;
        Ok(())
    }

    /// Gives whether it was not attached before.
    fn attach_tc(&self, device: &Device, name: &str) -> Result<bool> {
        let mut program = self.tc(name)?;
        let id = program_id(&program.info())?;
        let path = self.link_path(device.ifindex, "tc");
        let what = || format!("attach {name} to device {}", device.name);
        let failed = |e: ProgramError| DatapathError::kernel(what(), e);
        let ingress = TcAttachType::Ingress;
        if path.exists() {
            let attached = SchedClassifier::query_tcx(&device.name, ingress);
            if attached.is_ok_and(|(_, list)| list.iter().any(|p| p.id() == id)) {
                return Ok(false);
            }
            self.unpin(device.ifindex, "tc")?;
        }
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        match program.attach_with_options(&device.name, ingress, order) {
            Ok(link) => {
                let link = program.take_link(link).map_err(failed)?;
                let link = FdLink::try_from(link).map_err(|e| DatapathError::kernel(what(), e))?;
                let _: PinnedLink = link
                    .pin(&path)
                    .map_err(|e| DatapathError::kernel(format!("pin {}", path.display()), e))?;
                Ok(true)
            }
            // Kernels before 6.6 do not know the attach type.
            Err(e) if os_error(&e) == Some(libc::EINVAL) => {
                self.filters().attach(device, &mut program)
            }
            Err(e) => Err(failed(e)),
        }
    }
}

pub(crate) fn program_id(
    info: &std::result::Result<aya::programs::ProgramInfo, ProgramError>,
) -> Result<u32> {
    match info {
        Ok(info) => Ok(info.id()),
        Err(e) => Err(DatapathError::kernel(
            "look at a pinned program",
            io::Error::other(e.to_string()),
        )),
    }
}

/// The errno at the bottom of an error.
pub(crate) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(code) = io.raw_os_error()
        {
            return Some(code);
        }
        at = error.source();
    }
    None
}
