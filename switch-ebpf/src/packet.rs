//! What the pipeline needs of a packet, so that one pipeline serves XDP and TC.

/// A frame, as the kernel hands it to a program. Offsets count from the start of the Ethernet header; a VLAN tag in
/// the socket buffer's metadata is not among the bytes.
pub trait Packet: Stages + crate::reshape::Reshape + Copy {
    /// Whether this is XDP: one output, no events.
    const XDP: bool;
    /// Verdict: drop.
    const DROP: i32;
    /// Verdict: to the next program, or the device's own stack.
    const PASS: i32;

    /// The device that the frame came in by.
    fn ifindex(self) -> u32;
    /// To be called once, before anything else is asked of the frame.
    fn survey(self, state: &mut crate::state::State);
    /// Addresses of the frame's linear part: its start, and what comes behind its end.
    fn bounds(self) -> (usize, usize);
    /// The frame's length, with a tag in the metadata.
    fn length(self) -> u32;
    /// Whether the frame is to be segmented later, so that its length is no measure against an MTU.
    #[inline(always)]
    fn is_gso(self) -> bool {
        self.segment_size() != 0
    }
    /// Bytes of payload in a segment of a frame that is to be segmented later; 0: it is not.
    fn segment_size(self) -> u32;
    /// Packets that it is, or will be when it has been segmented.
    fn segments(self) -> u32;
    /// Chooses the queue of devices that it goes out by; 0: none. False: not at XDP.
    fn set_queue(self, queue: u32) -> bool;
    /// The bytes at an offset (below 2048), if the frame is long enough.
    fn read<const N: usize>(self, offset: u32) -> Option<[u8; N]>;
    /// Copies `length` bytes (1 to `room`, which must be a constant) from an offset to memory.
    fn copy_out(self, offset: u32, to: *mut u8, length: u32, room: u32) -> bool;
    /// Overwrites bytes at an offset (below 2048).
    fn write<const N: usize>(self, offset: u32, bytes: [u8; N]) -> bool;
    /// The VLAN tag in the metadata: TPID and TCI, host byte order.
    fn metadata_tag(self) -> Option<(u16, u16)>;

    /// Adjusts the IPv4 header checksum at `offset` by the difference (see [`crate::checksum`]) of the covered bytes.
    fn fix_l3(self, offset: u32, diff: u32);
    /// Adjusts an L4 checksum at `offset`. `pseudo`: the bytes are in the pseudo-header. `udp`: zero means none.
    fn fix_l4(self, offset: u32, diff: u32, pseudo: bool, udp: bool);
    /// Says that bytes changed that no checksum in the packet makes up for.
    fn fix_whole(self, diff: u32);

    /// Inserts a tag in front of the present outer one.
    fn push_tag(self, state: &mut crate::state::State, tpid: u16, tci: u16) -> bool;
    /// Removes the outer tag.
    fn pop_tag(self, state: &mut crate::state::State) -> bool;
    /// Sets the outer tag's TCI.
    fn set_tag(self, state: &crate::state::State, tci: u16) -> bool;

    /// Adds zeros at the end of a frame that has fewer bytes than this.
    fn pad(self, length: u32) -> bool;
    /// Puts `state.prefix` (outer headers of `outer` bytes and, for TC, the inner Ethernet header) in front.
    fn encapsulate(self, state: &mut crate::state::State, outer: u32) -> bool;
    /// Strips `outer` bytes off the front; the inner frame's outer tag may go to the metadata.
    fn decapsulate(self, state: &mut crate::state::State, outer: u32) -> bool;

    /// Sends a copy of the frame. False: refused, or this is XDP.
    fn clone_to(self, ifindex: u32) -> bool;
    /// Sends the frame itself; the verdict.
    fn redirect(self, ifindex: u32) -> i32;
}

/// Hides a value from the optimizer, which would otherwise compute an address twice in ways that the verifier can not match.
#[inline(always)]
pub fn opaque(mut value: usize) -> usize {
    // An instruction, if an idle one: without any, two line records would fall on one instruction, which the kernel refuses.
    // SAFETY: moves a register to itself.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack, preserves_flags))
    };
    value
}

/// A length for a helper, if it is 1 to `room` (a constant): checked in a way that verifiers of all supported kernels understand. Those before
/// 6.8 learn nothing from a comparison with zero, and no verifier does from two comparisons merged into one by the optimizer.
#[inline(always)]
pub fn bounded(length: u32, room: u32) -> Option<u32> {
    let less_one = opaque((length as usize).wrapping_sub(1));
    if less_one >= room as usize {
        return None;
    }
    Some((opaque(less_one) + 1) as u32)
}

/// Reads bytes that are known to be there, in the largest pieces: the compiler would copy an array whose alignment it does not
/// know byte by byte. The kernel allows unaligned reads of packets where the CPU does.
///
/// # Safety
/// N bytes at `at` are readable.
#[inline(always)]
pub unsafe fn gather<const N: usize>(at: usize) -> [u8; N] {
    // The verifier wants accesses to the stack aligned, should the bytes end up there.
    #[repr(align(8))]
    struct Aligned<const N: usize>([u8; N]);
    let mut bytes = Aligned([0; N]);
    let to = bytes.0.as_mut_ptr();
    let mut i = 0;
    // SAFETY: all pieces lie within the N bytes.
    unsafe {
        while i + 8 <= N {
            to.add(i)
                .cast::<u64>()
                .write((at as *const u8).add(i).cast::<u64>().read_unaligned());
            i += 8;
        }
        if i + 4 <= N {
            to.add(i)
                .cast::<u32>()
                .write((at as *const u8).add(i).cast::<u32>().read_unaligned());
            i += 4;
        }
        if i + 2 <= N {
            to.add(i)
                .cast::<u16>()
                .write((at as *const u8).add(i).cast::<u16>().read_unaligned());
            i += 2;
        }
        if i < N {
            to.add(i).write((at as *const u8).add(i).read());
        }
    }
    bytes.0
}

/// Stages of the pipeline that the kernel verifies once each, and not again on each path to them. Their state is [`crate::state::State`].
pub trait Stages {
    /// [`crate::cache::short_cut`].
    fn short_cut(self, slot: u32, network: u32, clock: u32) -> u32;
    /// [`crate::parse::parse`].
    fn parse(self) -> u32;
    /// [`crate::parse::neighbour`].
    fn neighbour(self, l4: u32, length: u32, kind: u32) -> u32;
    /// [`crate::execute::change`].
    fn change(self) -> u32;
    /// [`crate::execute::change`] of rare actions.
    fn reshape(self) -> u32;
    /// [`crate::meter::run`].
    fn meter(self, head: u32, user: u32) -> u32;
    /// [`crate::output::emit`].
    fn emit(self, slot: u32) -> u32;
    /// [`crate::output::flush`].
    fn flush(self) -> u32;
    /// [`crate::pipeline::strip_outer`].
    fn strip_outer(self) -> u32;
    /// [`crate::execute::run`].
    fn run(self) -> u32;
    /// [`crate::output::wrap`].
    fn wrap(self) -> u32;
    /// [`crate::events::packet_in`].
    fn packet_in(self, rule_slot: u32, max_len: u32, reason: u32) -> u32;
    /// [`crate::wait::wait`].
    fn wait(self, slot: u32, copy: u32) -> u32;
    /// [`crate::events::hold`].
    fn hold(self, port: u32) -> u32;
    /// [`crate::events::report`].
    fn report(self) -> u32;
    /// [`crate::events::report_whole`].
    fn report_whole(self) -> u32;
}

/// [`Stages`] as global functions of these names.
macro_rules! stages {
    ($packet:ident, $context:ty, $short_cut:ident, $parse:ident, $neighbour:ident, $change:ident, $reshape:ident, $meter:ident, $emit:ident, $flush:ident, $strip:ident, $packet_in:ident, $wrap:ident, $run:ident, $wait:ident, $hold:ident, $report:ident, $report_whole:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $short_cut(
            context: *mut $context,
            slot: u32,
            network: u32,
            clock: u32,
        ) -> u32 {
            crate::cache::short_cut($packet(context), slot, network, clock)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $parse(context: *mut $context) -> u32 {
            crate::parse::parse($packet(context))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $neighbour(context: *mut $context, l4: u32, length: u32, kind: u32) -> u32 {
            crate::parse::neighbour($packet(context), l4, length, kind)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $change(context: *mut $context) -> u32 {
            crate::execute::change::<_, false>($packet(context))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $reshape(context: *mut $context) -> u32 {
            crate::execute::change::<_, true>($packet(context))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $meter(context: *mut $context, head: u32, user: u32) -> u32 {
            crate::meter::run($packet(context), head, user)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $emit(context: *mut $context, slot: u32) -> u32 {
            crate::output::emit($packet(context), slot)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $flush(context: *mut $context) -> u32 {
            crate::output::flush($packet(context))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $strip(context: *mut $context) -> u32 {
            crate::pipeline::strip_outer($packet(context))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $packet_in(
            context: *mut $context,
            rule_slot: u32,
            max_len: u32,
            reason: u32,
        ) -> u32 {
            crate::events::packet_in($packet(context), rule_slot, max_len, reason)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $wrap(context: *mut $context) -> u32 {
            crate::output::wrap($packet(context))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $run(context: *mut $context) -> u32 {
            crate::execute::run($packet(context))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $wait(context: *mut $context, slot: u32, copy: u32) -> u32 {
            crate::wait::wait($packet(context), slot, copy)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $hold(context: *mut $context, port: u32) -> u32 {
            crate::events::hold($packet(context), port)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $report(context: *mut $context) -> u32 {
            crate::events::report($packet(context))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $report_whole(context: *mut $context) -> u32 {
            crate::events::report_whole($packet(context))
        }

        impl crate::packet::Stages for $packet {
            #[inline(always)]
            fn short_cut(self, slot: u32, network: u32, clock: u32) -> u32 {
                $short_cut(self.0, slot, network, clock)
            }

            #[inline(always)]
            fn parse(self) -> u32 {
                $parse(self.0)
            }

            #[inline(always)]
            fn neighbour(self, l4: u32, length: u32, kind: u32) -> u32 {
                $neighbour(self.0, l4, length, kind)
            }

            #[inline(always)]
            fn change(self) -> u32 {
                $change(self.0)
            }

            #[inline(always)]
            fn reshape(self) -> u32 {
                $reshape(self.0)
            }

            #[inline(always)]
            fn meter(self, head: u32, user: u32) -> u32 {
                $meter(self.0, head, user)
            }

            #[inline(always)]
            fn emit(self, slot: u32) -> u32 {
                $emit(self.0, slot)
            }

            #[inline(always)]
            fn flush(self) -> u32 {
                $flush(self.0)
            }

            #[inline(always)]
            fn strip_outer(self) -> u32 {
                $strip(self.0)
            }

            #[inline(always)]
            fn run(self) -> u32 {
                $run(self.0)
            }

            #[inline(always)]
            fn wrap(self) -> u32 {
                $wrap(self.0)
            }

            #[inline(always)]
            fn wait(self, slot: u32, copy: u32) -> u32 {
                $wait(self.0, slot, copy)
            }

            #[inline(always)]
            fn packet_in(self, rule_slot: u32, max_len: u32, reason: u32) -> u32 {
                $packet_in(self.0, rule_slot, max_len, reason)
            }

            #[inline(always)]
            fn hold(self, port: u32) -> u32 {
                $hold(self.0, port)
            }

            #[inline(always)]
            fn report(self) -> u32 {
                $report(self.0)
            }

            #[inline(always)]
            fn report_whole(self) -> u32 {
                $report_whole(self.0)
            }
        }
    };
}

pub(crate) use stages;
