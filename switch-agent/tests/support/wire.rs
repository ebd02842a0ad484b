//! A raw socket on a device: what an end host sends and hears.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// See the module.
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    pub fn open(device: &str) -> Self {
        let index = nix::net::if_::if_nametoindex(device).unwrap();
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: plain system calls; the descriptor is owned at once; the address outlives the call.
        unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            let fd = libc::socket(libc::AF_PACKET, kind, i32::from(protocol));
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            let socket = OwnedFd::from_raw_fd(fd);
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = index as i32;
            let size = size_of_val(&address) as libc::socklen_t;
            let status = libc::bind(fd, (&raw const address).cast(), size);
            assert_eq!(status, 0, "{}", io::Error::last_os_error());
            Self { socket }
        }
    }

    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the buffer is valid for its length.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
            )
        };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// Sends an IPv4 packet of TCP, both without options, that is to be segmented, as a local stack leaves it: so much payload in each segment, and the
    /// checksum of the pseudo header in place of the whole.
    pub fn send_to_be_segmented(&self, frame: &[u8], payload: u16) {
        const VNET_HDR: libc::c_int = 15;
        const NEEDS_CSUM: u16 = 1;
        const TCPV4: u16 = 1;
        let head = [NEEDS_CSUM | TCPV4 << 8, 54, payload, 34, 16];
        let (at, socket) = (self.socket.as_raw_fd(), libc::SOL_PACKET);
        let set = |on: libc::c_int| {
            let size = size_of_val(&on) as libc::socklen_t;
            // SAFETY: the value outlives the call.
            let status =
                unsafe { libc::setsockopt(at, socket, VNET_HDR, (&raw const on).cast(), size) };
            assert_eq!(status, 0, "{}", io::Error::last_os_error());
        };
        set(1);
        self.send(&[head.map(u16::to_ne_bytes).as_flattened(), frame].concat());
        set(0);
    }

    /// The next frame that satisfies `want` (frames that this socket sent are not among them).
    pub async fn expect(&self, want: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            match self.receive() {
                Some(frame) if want(&frame) => return frame,
                Some(_) => {}
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        panic!("no such frame came within the deadline");
    }

    /// What is there already.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0u8; 65_536];
        // SAFETY: buffer and address are valid for their lengths.
        let (received, kind) = unsafe {
            let mut from: libc::sockaddr_ll = std::mem::zeroed();
            let mut size = size_of_val(&from) as libc::socklen_t;
            let received = libc::recvfrom(
                self.socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
                (&raw mut from).cast(),
                &raw mut size,
            );
            (received, from.sll_pkttype)
        };
        if received < 0 || kind == libc::PACKET_OUTGOING {
            return None;
        }
        buffer.truncate(received as usize);
        Some(buffer)
    }
}
