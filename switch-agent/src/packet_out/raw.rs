//! Raw (AF_PACKET) sockets: the few system calls that are needed of them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

fn check(status: libc::c_int) -> io::Result<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A socket that is bound to nothing and receives nothing.
pub(super) fn socket() -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; the descriptor is new, and owned at once.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Binds to a device; receives frames of this protocol (0: none).
pub(super) fn bind(socket: &OwnedFd, ifindex: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data, and outlives the call.
    unsafe {
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex as i32;
        address.sll_protocol = protocol.to_be();
        let size = size_of_val(&address) as libc::socklen_t;
        check(libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size,
        ))
    }
}

/// Receives only frames with this source address, and only their beginning.
pub(super) fn only_from(socket: &OwnedFd, mac: [u8; 6]) -> io::Result<()> {
    let op = |code: u32, jf, k| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let high = u32::from_be_bytes([mac[0], mac[1], mac[2], mac[3]]);
    let low = u32::from(u16::from_be_bytes([mac[4], mac[5]]));
    let (load, jump) = (libc::BPF_LD | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ);
    let mut program = [
        op(load | libc::BPF_W, 0, 6),
        op(jump, 3, high),
        op(load | libc::BPF_H, 0, 10),
        op(jump, 1, low),
        op(libc::BPF_RET, 0, 64),
        op(libc::BPF_RET, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program outlives the call, which copies it.
    unsafe {
        check(libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        ))
    }
}

/// Sends a whole frame.
pub(super) fn send(socket: &OwnedFd, frame: &[u8]) -> io::Result<()> {
    // SAFETY: the buffer is valid for its length.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_NOSIGNAL,
        )
    };
    if sent == frame.len() as isize {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes a frame that has come in; whether there was one.
pub(super) fn receive(socket: &OwnedFd) -> bool {
    let mut buffer = [0u8; 64];
    // SAFETY: the buffer is valid for its length.
    let received = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT | libc::MSG_TRUNC,
        )
    };
    received > 0
}

/// Waits until there is something to receive; whether there is.
pub(super) fn wait(socket: &OwnedFd, milliseconds: u16) -> bool {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds.into()) == 1 }
}
