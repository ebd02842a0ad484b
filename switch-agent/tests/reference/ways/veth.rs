//! Veth pairs: one end has the programs, on the other a packet socket sends and takes what arrives.

use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::super::devices::{gro_on, index, ip};

/// As long as that of taps.
const MTU: u32 = 9000;
/// Longer than any frame.
const BUFFER: usize = 16384;

/// One pair.
pub struct Veth {
    socket: OwnedFd,
    /// Of the near end.
    pub ifindex: u32,
}

impl Veth {
    pub fn new(name: &str) -> Self {
        let far = format!("{name}far");
        ip(&format!(
            "link add {name} mtu {MTU} type veth peer name {far} mtu {MTU}"
        ));
        // XDP programs can redirect into the pair only so.
        gro_on(&far);
        for device in [name, &far] {
            ip(&format!("link set {device} arp off up"));
        }
        Self {
            socket: packet_socket(index(&far)),
            ifindex: index(name),
        }
    }

    /// Sends a frame. It has gone its way soon after, mostly before this returns.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the pointer and the length are of one slice.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
            )
        };
        assert_eq!(sent, frame.len() as isize, "a packet socket sends");
    }

    /// The next frame that has arrived. Its outer tag is not among its bytes but told beside them.
    pub fn receive(&self) -> Vec<u8> {
        let mut frame = vec![0; BUFFER];
        let mut control = [0u64; 16];
        // SAFETY: the message's pointers and lengths are those of the buffers, which outlive the call.
        let (length, tag) = unsafe {
            let mut part = libc::iovec {
                iov_base: frame.as_mut_ptr().cast(),
                iov_len: frame.len(),
            };
            let mut message: libc::msghdr = zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of::<[u64; 16]>() as _;
            let length = libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0);
            let told = libc::CMSG_FIRSTHDR(&raw const message);
            let tag = if told.is_null() || (*told).cmsg_type != libc::PACKET_AUXDATA {
                None
            } else {
                let data: libc::tpacket_auxdata = libc::CMSG_DATA(told)
                    .cast::<libc::tpacket_auxdata>()
                    .read_unaligned();
                let there = data.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
                there.then_some((data.tp_vlan_tpid, data.tp_vlan_tci))
            };
            (length, tag)
        };
        assert!(length >= 14, "a packet socket receives whole frames");
        frame.truncate(length as usize);
        if let Some((tpid, tci)) = tag {
            let ([a, b], [c, d]) = (tpid.to_be_bytes(), tci.to_be_bytes());
            frame.splice(12..12, [a, b, c, d]);
        }
        frame
    }
}

impl AsRawFd for Veth {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A socket for all that arrives by a device, and not for what leaves by it.
fn packet_socket(ifindex: u32) -> OwnedFd {
    // SAFETY: plain system calls with valid pointers and their lengths.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "needs root");
        let socket = OwnedFd::from_raw_fd(fd);
        for option in [libc::PACKET_AUXDATA, libc::PACKET_IGNORE_OUTGOING] {
            let on = 1i32;
            let done = libc::setsockopt(
                fd,
                libc::SOL_PACKET,
                option,
                (&raw const on).cast(),
                size_of::<i32>() as u32,
            );
            assert_eq!(done, 0, "packet sockets have option {option}");
        }
        let mut address: libc::sockaddr_ll = zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = ifindex as i32;
        let length = size_of::<libc::sockaddr_ll>() as u32;
        assert_eq!(libc::bind(fd, (&raw const address).cast(), length), 0);
        socket
    }
}
