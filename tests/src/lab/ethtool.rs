//! Offloads of devices, by the ethtool ioctl (`linux/ethtool.h`).
//!
//! Native XDP sees frames as they are: neither checksums that the stack left to the device, nor GSO. So an end host behind an XDP port
//! must send without those offloads, and a veth end that receives redirected XDP frames needs NAPI, which GRO turns on.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::error::{Context, LabError};
use super::netns::Netns;

const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// An offload that can be turned on and off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Offload {
    /// Checksums of sent packets (ETHTOOL_STXCSUM). Off turns segmentation offload off too.
    TxChecksum = 0x0000_0017,
    /// TCP segmentation (ETHTOOL_STSO).
    Tso = 0x0000_001f,
    /// Generic segmentation (ETHTOOL_SGSO).
    Gso = 0x0000_0024,
    /// Generic receive offload (ETHTOOL_SGRO).
    Gro = 0x0000_002c,
}

#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

#[repr(C)]
struct IfReq {
    name: [u8; libc::IFNAMSIZ],
    data: *mut EthtoolValue,
    // `union ifr_ifru` is 24 bytes long on 64-bit machines.
    rest: [u8; 16],
}

/// Turns an offload of `device` in `ns` on or off.
pub fn set(ns: &Netns, device: &str, offload: Offload, on: bool) -> Result<(), LabError> {
    ns.run(|| set_here(device, offload, on))
        .and_then(|r| r)
        .doing(|| format!("cannot set {offload:?} of {device} in {}", ns.name()))
}

fn set_here(device: &str, offload: Offload, on: bool) -> io::Result<()> {
    if device.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: plain system call; the descriptor it returns is ours alone.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let mut value = EthtoolValue {
        cmd: offload as u32,
        data: on.into(),
    };
    let mut request = IfReq {
        name: [0; libc::IFNAMSIZ],
        data: &mut value,
        rest: [0; 16],
    };
    request.name[..device.len()].copy_from_slice(device.as_bytes());
    // SAFETY: `request` is laid out as struct ifreq and points to a struct ethtool_value; both outlive the call.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &mut request) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
