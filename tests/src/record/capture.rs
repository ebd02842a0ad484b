//! Sees every packet that end hosts send and get, in the order of each one's device.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lime_history::{Nanos, Packet};

use super::Recorder;
use crate::lab::{END_HOST_DEVICE, EndHost};

/// What a socket may queue while nobody reads it, bytes (the kernel's bookkeeping included).
const BUFFER: libc::c_int = 64 << 20;
/// Packets taken at once.
const BATCH: usize = 64;
/// Bytes of a packet that are taken.
const SNAP: usize = Packet::SNAP as usize;
/// How long the watcher sleeps at most.
const NAP_MS: libc::c_int = 10;
/// How long it may take to catch up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The watcher: a thread for all end hosts. Ends when dropped.
#[derive(Debug)]
pub(super) struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// How often somebody has asked for all there is, and which of these has been served.
    asked: AtomicU64,
    served: AtomicU64,
}

impl Capture {
    /// Watches from now on.
    pub(super) fn start(ends: &[EndHost], recorder: Arc<Recorder>) -> io::Result<Self> {
        let sockets: io::Result<Vec<OwnedFd>> = ends
            .iter()
            .map(|e| e.netns().run(socket).and_then(|s| s))
            .collect();
        let sockets = sockets?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("capture".into()).spawn({
            let shared = shared.clone();
            move || watch(&sockets, &recorder, &shared)
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Returns when all that end hosts had seen by now is recorded.
    pub(super) fn catch_up(&self) {
        let wanted = self.shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let deadline = Instant::now() + PATIENCE;
        while self.shared.served.load(Ordering::SeqCst) < wanted && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(sockets: &[OwnedFd], recorder: &Recorder, shared: &Shared) {
    let mut batch = Batch::new();
    let mut polls: Vec<libc::pollfd> = sockets
        .iter()
        .map(|s| libc::pollfd {
            fd: s.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    while !shared.stop.load(Ordering::SeqCst) {
        let asked = shared.asked.load(Ordering::SeqCst);
        // SAFETY: pointer and length are of one vector.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as _, NAP_MS) };
        for (end, socket) in sockets.iter().enumerate() {
            while batch.receive(socket) {
                let mut log = recorder.lock();
                for packet in batch.packets() {
                    log.see(end, packet.at, packet.sent, packet.frame);
                }
            }
            if dropped(socket) > 0 {
                recorder.lock().ends[end].incomplete = true;
            }
        }
        shared.served.store(asked, Ordering::SeqCst);
    }
}

/// A packet socket at the end host's device, for UDP and echoes only.
fn socket() -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain system calls; the descriptor is owned from here on, and pointers are to values that outlive their calls.
    unsafe {
        // Without a protocol it gets nothing until it is bound.
        let fd = libc::socket(libc::AF_PACKET, kind, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(fd);
        attach_filter(&socket)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        let name = std::ffi::CString::new(END_HOST_DEVICE)?;
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        if libc::bind(fd, (&raw const address).cast(), length) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(socket)
    }
}

fn set(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the pointer is to a c_int that outlives the call.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
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

/// Lets pass the beginning of UDP and ICMP packets, of both IP versions, and of VLAN-tagged frames.
fn attach_filter(socket: &OwnedFd) -> io::Result<()> {
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let op = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        op(LOAD_HALF, 12, 0, 0),
        op(JUMP_EQUAL, 0x0800, 3, 0),
        op(JUMP_EQUAL, 0x86dd, 5, 0),
        op(JUMP_EQUAL, 0x8100, 8, 0),
        op(JUMP_EQUAL, 0x88a8, 7, 6),
        op(LOAD_BYTE, 23, 0, 0),
        op(JUMP_EQUAL, 17, 5, 0),
        op(JUMP_EQUAL, 1, 4, 3),
        op(LOAD_BYTE, 20, 0, 0),
        op(JUMP_EQUAL, 17, 2, 0),
        op(JUMP_EQUAL, 58, 1, 0),
        op(RETURN, 0, 0, 0),
        op(RETURN, Packet::SNAP, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program during the call.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Packets that did not fit since the last question.
fn dropped(socket: &OwnedFd) -> u32 {
    let mut stats = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut length = size_of_val(&stats) as libc::socklen_t;
    // SAFETY: pointers are to values that outlive the call.
    let rc = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    };
    if rc < 0 { 0 } else { stats.tp_drops }
}

/// A packet as it was captured.
struct Captured<'b> {
    at: Nanos,
    sent: bool,
    frame: &'b [u8],
}

/// Space for the control messages of one packet.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 128]);

/// Receives many packets per system call.
struct Batch {
    /// With room for a VLAN tag in front of the EtherType.
    data: Vec<[u8; 4 + SNAP]>,
    control: Vec<Control>,
    from: Vec<libc::sockaddr_ll>,
    got: Vec<Got>,
}

#[derive(Clone, Copy)]
struct Got {
    at: Nanos,
    sent: bool,
    start: usize,
    end: usize,
}

impl Batch {
    fn new() -> Self {
        // SAFETY: an all-zero address is a value.
        let address = unsafe { std::mem::zeroed() };
        Self {
            data: vec![[0; 4 + SNAP]; BATCH],
            control: vec![Control([0; 128]); BATCH],
            from: vec![address; BATCH],
            got: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what is there. False: nothing.
    fn receive(&mut self, socket: &OwnedFd) -> bool {
        self.got.clear();
        let mut vectors: Vec<libc::iovec> = self
            .data
            .iter_mut()
            .map(|d| libc::iovec {
                iov_base: d[4..].as_mut_ptr().cast(),
                iov_len: SNAP,
            })
            .collect();
        let parts = vectors
            .iter_mut()
            .zip(&mut self.control)
            .zip(&mut self.from);
        let mut messages: Vec<libc::mmsghdr> = parts
            .map(|((vector, control), from)| {
                // SAFETY: an all-zero header is a value.
                let mut m: libc::mmsghdr = unsafe { std::mem::zeroed() };
                m.msg_hdr.msg_name = (from as *mut libc::sockaddr_ll).cast();
                m.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                m.msg_hdr.msg_iov = vector;
                m.msg_hdr.msg_iovlen = 1;
                m.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
                m.msg_hdr.msg_controllen = control.0.len() as _;
                m
            })
            .collect();
        // SAFETY: every header points to buffers of this frame or of `self`, with their lengths.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                0,
                std::ptr::null_mut(),
            )
        };
        for (i, m) in messages.iter().take(n.max(0) as usize).enumerate() {
            let (at, tag) = notes(&m.msg_hdr);
            let mut start = 4;
            if let Some((tpid, tci)) = tag {
                // The kernel keeps the outer tag beside the packet.
                let data = &mut self.data[i];
                data.copy_within(4..16, 0);
                data[12..14].copy_from_slice(&tpid.to_be_bytes());
                data[14..16].copy_from_slice(&tci.to_be_bytes());
                start = 0;
            }
            self.got.push(Got {
                at,
                sent: self.from[i].sll_pkttype == libc::PACKET_OUTGOING,
                start,
                end: 4 + (m.msg_len as usize).min(SNAP),
            });
        }
        n > 0
    }

    fn packets(&self) -> impl Iterator<Item = Captured<'_>> {
        self.got.iter().zip(&self.data).map(|(g, data)| Captured {
            at: g.at,
            sent: g.sent,
            frame: &data[g.start..g.end],
        })
    }
}

/// When a packet was seen, and the VLAN tag (TPID, TCI) that the kernel keeps beside it.
fn notes(header: &libc::msghdr) -> (Nanos, Option<(u16, u16)>) {
    let (mut at, mut tag) = (0, None);
    // SAFETY: the kernel filled in `msg_control` up to `msg_controllen`; the CMSG functions stay inside of it.
    unsafe {
        let mut c = libc::CMSG_FIRSTHDR(header);
        while !c.is_null() {
            let data = libc::CMSG_DATA(c);
            match ((*c).cmsg_level, (*c).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let t: libc::timespec = std::ptr::read_unaligned(data.cast());
                    at = t.tv_sec.max(0) as u64 * 1_000_000_000 + t.tv_nsec.max(0) as u64;
                }
                (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                    let a: libc::tpacket_auxdata = std::ptr::read_unaligned(data.cast());
                    if a.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                        tag = Some((a.tp_vlan_tpid, a.tp_vlan_tci));
                    }
                }
                _ => {}
            }
            c = libc::CMSG_NXTHDR(header, c);
        }
    }
    (at, tag)
}
