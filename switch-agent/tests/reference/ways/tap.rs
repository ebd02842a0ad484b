//! Tap devices: what is written to one comes in by it, what is sent by one can be read.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use super::super::offload::Header;

/// One tap device of the thread's network namespace.
pub struct Tap {
    file: File,
    /// Length of the header that says what is left to do with a packet: that of [`Header`], or 0.
    header: usize,
    pub ifindex: u32,
}

impl Tap {
    /// `offloads`: packets come in with a header that says what is left to do with them. Those that leave are complete in any case, since the
    /// device offers to do nothing.
    pub fn new(name: &str, offloads: bool) -> Self {
        // Blocking, since writing without waiting would not go through native XDP.
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .expect("needs root and /dev/net/tun");
        // SAFETY: an all-zero ifreq is a value; the calls get valid pointers to it.
        let ifindex = unsafe {
            let mut request: libc::ifreq = std::mem::zeroed();
            for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                *to = from as _;
            }
            let header = if offloads { libc::IFF_VNET_HDR } else { 0 };
            request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | header) as i16;
            assert_eq!(
                libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &request),
                0
            );
            let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
            request.ifr_ifru.ifru_mtu = 9000;
            assert_eq!(libc::ioctl(socket, libc::SIOCSIFMTU as _, &request), 0);
            request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_NOARP) as i16;
            assert_eq!(libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &request), 0);
            assert_eq!(libc::ioctl(socket, libc::SIOCGIFINDEX as _, &request), 0);
            libc::close(socket);
            request.ifr_ifru.ifru_ifindex as u32
        };
        Self {
            file,
            header: if offloads { size_of::<Header>() } else { 0 },
            ifindex,
        }
    }

    /// Lets a frame come in. The kernel has processed it when this returns.
    pub fn send(&self, frame: &[u8]) {
        self.send_offloaded(&[0; size_of::<Header>()], frame);
    }

    /// The same, with what is left to do with it.
    pub fn send_offloaded(&self, header: &Header, frame: &[u8]) {
        // An error means that the frame was dropped, which is for counters to tell.
        let parts = [IoSlice::new(&header[..self.header]), IoSlice::new(frame)];
        let _ = (&self.file).write_vectored(&parts);
    }

    pub fn receive(&self) -> Vec<u8> {
        let mut frame = vec![0; 16384];
        let length = (&self.file).read(&mut frame).expect("a tap can be read");
        frame.truncate(length);
        frame.split_off(self.header)
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
