//! Datagram sockets with large buffers and receive timestamps.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Receive buffer: what a flow may queue while its reader is not scheduled, bytes (the kernel's bookkeeping included).
const RECEIVE_BUFFER: libc::c_int = 32 << 20;
/// Datagrams taken at once.
const BATCH: usize = 64;
/// Longest datagram of interest; longer ones are cut.
const LENGTH: usize = 2048;

/// Asks for large buffers, beyond the system's limit (root may), and for receive timestamps.
pub fn prepare(socket: &UdpSocket) -> io::Result<()> {
    set(socket, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER)?;
    set(socket, libc::SO_SNDBUFFORCE, 4 << 20)?;
    set(socket, libc::SO_TIMESTAMPNS, 1)
}

fn set(socket: &UdpSocket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer is to a c_int that outlives the call.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Space for one `struct timespec` control message.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 64]);

/// Receives many datagrams per system call.
pub struct Batch {
    data: Vec<[u8; LENGTH]>,
    control: Vec<Control>,
    lengths: Vec<usize>,
    times: Vec<Duration>,
}

impl Batch {
    /// Empty buffers.
    pub fn new() -> Self {
        Self {
            data: vec![[0; LENGTH]; BATCH],
            control: vec![Control([0; 64]); BATCH],
            lengths: Vec::with_capacity(BATCH),
            times: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what is there, or waits for the socket's read timeout for the first datagram. None after the timeout.
    pub fn receive(
        &mut self,
        socket: &UdpSocket,
    ) -> io::Result<impl Iterator<Item = (Duration, &[u8])>> {
        self.lengths.clear();
        self.times.clear();
        let mut vectors: Vec<libc::iovec> = self
            .data
            .iter_mut()
            .map(|d| libc::iovec {
                iov_base: d.as_mut_ptr().cast(),
                iov_len: LENGTH,
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = vectors
            .iter_mut()
            .zip(&mut self.control)
            .map(|(v, c)| {
                // SAFETY: all-zero is a valid mmsghdr.
                let mut m: libc::mmsghdr = unsafe { std::mem::zeroed() };
                m.msg_hdr.msg_iov = v;
                m.msg_hdr.msg_iovlen = 1;
                m.msg_hdr.msg_control = c.0.as_mut_ptr().cast();
                m.msg_hdr.msg_controllen = c.0.len() as _;
                m
            })
            .collect();
        // SAFETY: every header points to buffers of this call's frame or of `self`, with their lengths.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        if n < 0 {
            let e = io::Error::last_os_error();
            if !matches!(
                e.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
            ) {
                return Err(e);
            }
        }
        for m in messages.iter().take(n.max(0) as usize) {
            self.lengths.push((m.msg_len as usize).min(LENGTH));
            self.times.push(timestamp(&m.msg_hdr));
        }
        Ok(self
            .times
            .iter()
            .copied()
            .zip(self.data.iter().zip(&self.lengths).map(|(d, l)| &d[..*l])))
    }
}

/// The receive timestamp (wall-clock time since the epoch); zero if there is none.
fn timestamp(header: &libc::msghdr) -> Duration {
    // SAFETY: the kernel filled in `msg_control` up to `msg_controllen`; the CMSG functions stay inside of it.
    unsafe {
        let mut c = libc::CMSG_FIRSTHDR(header);
        while !c.is_null() {
            if (*c).cmsg_level == libc::SOL_SOCKET && (*c).cmsg_type == libc::SCM_TIMESTAMPNS {
                let t: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(c).cast());
                return Duration::new(
                    t.tv_sec.max(0) as u64,
                    t.tv_nsec.clamp(0, 999_999_999) as u32,
                );
            }
            c = libc::CMSG_NXTHDR(header, c);
        }
    }
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn a_batch_has_data_and_times() {
        let a = UdpSocket::bind("127.0.0.1:0").unwrap();
        set(&a, libc::SO_TIMESTAMPNS, 1).unwrap();
        let b = UdpSocket::bind("127.0.0.1:0").unwrap();
        for text in ["one", "two"] {
            b.send_to(text.as_bytes(), a.local_addr().unwrap()).unwrap();
        }
        let mut batch = Batch::new();
        let got: Vec<_> = batch
            .receive(&a)
            .unwrap()
            .map(|(t, d)| (t, d.to_vec()))
            .collect();
        assert_eq!(got[0].1, b"one");
        assert_eq!(got[1].1, b"two");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(now.saturating_sub(got[0].0) < Duration::from_secs(60));
    }
}
