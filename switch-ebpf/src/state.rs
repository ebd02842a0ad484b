//! What one run of the pipeline knows about its packet. Too large for the stack (512 bytes), so each CPU has one
//! in a map. Programs at XDP and TC ingress run to completion on their CPU, so two runs never share it.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use switch_abi::FlowKey;

/// Rules that a packet may match on its way through tables and switches of this host.
pub const MAX_STEPS: u32 = 256;
/// Room for outer headers (62), Geneve and option (28), and the inner Ethernet header with two tags (22).
pub const PREFIX_MAX: usize = 112;

/// [`State::tag`]: no VLAN tag.
pub const TAG_NONE: u32 = 0;
/// [`State::tag`]: the outer tag is in the packet's bytes.
pub const TAG_INLINE: u32 = 1;
/// [`State::tag`]: the outer tag is in the socket buffer's metadata.
pub const TAG_METADATA: u32 = 2;

/// [`Step::flags`]: the last action outputs into a link that the packet is not to take any more.
pub const STEP_LIMIT: u32 = 2;
/// [`Step::flags`]: the rule's last action, or that of the action set, is a group; the steps that follow are its.
pub const STEP_GROUP: u32 = 4;
/// [`Step::flags`]: not a rule to run, but the head of a meter that the packets of [`Step::link`], a rule, pass.
pub const STEP_METER: u32 = 16;
/// [`Step::flags`]: not a rule to run, but a group's bucket that gets a copy of the packet.
pub const STEP_COPY: u32 = 8;

/// One rule of the packet's trajectory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Step {
    /// Rule slot.
    pub rule: u32,
    /// The rule's last action outputs into a link whose other end, this port slot, is where the next step happens; 0: none.
    pub link: u32,
    /// [`STEP_LIMIT`] ...
    pub flags: u32,
    /// For a group's part: the rule that ran the group; 0: the packet is a copy that came for it. Of no meaning for other rules.
    pub origin: u32,
}

/// Where an action is.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct ActionRef {
    /// Rule slot.
    pub rule: u32,
    /// Index among the rule's actions.
    pub index: u32,
}

/// An output that was decided and not made yet: the last one of a packet needs no clone.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pending {
    /// Device to send by; 0: nothing is pending.
    pub ifindex: u32,
    /// Port to count it at; 0: at none.
    pub count_port: u32,
    /// Peer slot to tunnel to; 0: not tunnelled.
    pub peer: u32,
    /// [`switch_abi::TUNNEL_DELIVER`] ...
    pub kind: u32,
    /// [`switch_abi::TunnelOption::port`].
    pub port_id: u32,
    /// [`switch_abi::TunnelOption::argument`].
    pub group: u32,
    /// [`switch_abi::TunnelOption::bucket`].
    pub bucket: u32,
    /// [`switch_abi::PeerHeader`] variant.
    pub variant: u32,
}

/// See the module.
#[repr(C, align(8))]
pub struct State {
    /// The packet's key; set-fields along the trajectory are applied to it.
    pub key: FlowKey,
    /// Tags behind the outer one, as [`FlowKey::vlan_tci`] has that: the next one in the low 16 bits. With the key, since actions push and pop.
    pub inner_tags: u64,
    /// Outer headers and inner Ethernet header, while they are being built.
    pub prefix: [u8; PREFIX_MAX],
    /// Network slot.
    pub network: u32,
    /// The version that the packet is processed at.
    pub clock: u32,
    /// Number of the ingress port.
    pub in_port: u32,
    /// Ingress port slot, of the switch that the packet is in.
    pub port: u32,
    /// Switch slot that the packet is in.
    pub switch_slot: u32,
    /// Table to look up next.
    pub table: u32,
    /// Tunnel hops left.
    pub hops: u32,
    /// Switches entered.
    pub switches: u32,
    /// 1: the program is an XDP program.
    pub xdp: u32,
    /// Outputs that XDP would have to make.
    pub xdp_outputs: u32,
    /// How classification ended: [`crate::classify`].
    pub end: u32,
    /// Bytes in front of the tenant's frame: outer headers not stripped yet.
    pub base: u32,
    /// Offset of the L3 header.
    pub l3: u32,
    /// Offset of the L4 header; 0: none, or not complete.
    pub l4: u32,
    /// EtherType, host byte order, of the L3 header that was found complete; 0: none.
    pub l3_type: u32,
    /// IP protocol.
    pub proto: u32,
    /// TTL or hop limit of the outermost IP or MPLS header, as the actions have left it on the key's way; 0: none, or run out.
    pub ttl: u32,
    /// Offset, from the L4 header, of the address in the link-layer address option of a neighbour solicitation or advertisement; 0: there is none.
    pub nd_option: u32,
    /// IPv6 extension headers so far: [`crate::parse`].
    pub extensions: u32,
    /// For [`crate::parse`].
    pub scratch: u32,
    /// [`FlowKey::frag`] of the packet.
    pub frag: u32,
    /// [`TAG_NONE`] ...
    pub tag: u32,
    /// UDP source port for tunnel frames; 0: from the key.
    pub source_port: u32,
    /// Step being executed.
    pub step: u32,
    /// Action being executed.
    pub action: u32,
    /// Outputs, events and drops so far: a packet without any was dropped by its rules.
    pub done: u32,
    /// The action that changes the packet.
    pub change: ActionRef,
    /// Next port of a flood.
    pub flood_next: u32,
    /// Ports with one of these flags are left out of the flood.
    pub flood_skip: u32,
    /// 1: an action found a TTL that runs out.
    pub expired: u32,
    /// 1: while classifying, an action changed the packet such that its key is not known.
    pub reshaped: u32,
    /// 1: an action failed because the kernel refused to change the packet.
    pub refused: u32,
    /// Where the packet is counted that matched no rule of its last table: [`switch_abi::miss_index`]; else 0.
    pub missed: u32,
    /// How often classification went on with a packet that was changed: [`crate::execute`].
    pub resumes: u32,
    /// Of a packet that is to be segmented: by how many bytes it is longer than a segment; else 0.
    pub excess: u32,
    /// 1: a packet that is to be segmented has labels as part of its link-layer header, and can not go into a tunnel.
    pub labelled: u32,
    /// Queue that actions chose; 0: none.
    pub queue: u32,
    /// Port slot that the packet came in by on this host; 0: not to be told of errors.
    pub origin: u32,
    /// VLAN tags in [`State::tags`].
    pub tag_count: u32,
    /// VLAN tags (TPID in the upper half, TCI in the lower) that were taken off while the packet is changed, outer one first.
    pub tags: [u32; crate::reshape::MAX_TAGS],
    /// The output not made yet.
    pub pending: Pending,
    /// The tunnel frame that the packet came in.
    pub arrival: crate::tunnel::Arrival,
    /// Its sender and network.
    pub sender: switch_abi::TunnelPeerKey,
    /// 1: nothing was done to the packet so far but one output at most, which depends on its key alone.
    pub plain: u32,
    /// 1 (XDP): the frame has fragments behind its linear part.
    pub fragments: u32,
    /// Links crossed, and the first of them.
    pub crossed: u32,
    pub links: [crate::cache::Link; crate::cache::LINKS],
    /// The packet as it came in, if it is a common one.
    pub flow: crate::flow::Flow,
    /// For [`crate::cache`].
    pub memo: crate::cache::Memo,
    /// Packets of new flows of late, less what others made up for; kept from packet to packet.
    pub vain: u32,
    /// Packets for which nothing is to be looked for in the cache; kept as well.
    pub pause: u32,
    /// 1: what is to be looked up next is a part of a group: `part` of `group`.
    pub grouping: u32,
    pub group: u32,
    pub part: u32,
    /// The group's type, and of type all the number of its buckets.
    pub group_kind: u32,
    pub group_last: u32,
    /// Buckets looked at so far, and the last of them that was found live (counted from 1).
    pub group_next: u32,
    pub group_tried: u32,
    /// The best bucket so far; its lot and weight. The weight of the one looked at.
    pub group_best: u32,
    pub group_lot: u32,
    pub group_best_weight: u32,
    pub group_weight: u32,
    /// A bucket, by its slot, that changes the packet and is not in the trace yet; 0: none.
    pub group_held: u32,
    /// Parts of groups must be at least as old as this clock.
    pub floor: u32,
    /// A rule whose meter the packet has passed, and that it meets next; 0: none.
    pub metered: u32,
    /// The rule of [`crate::classify::END_PROMISED`], by its slot.
    pub promised: u32,
    /// 1: the controller may be told of the packet by a switch that has other instances.
    pub told: u32,
    /// Not 0: the packet is output in the switch that the walk is in.
    pub outputs: u32,
    /// Outputs wait in the agent, under this name ([`switch_abi::EventHeader::hold`]); 0: they do not.
    pub hold: u32,
    /// Packets whose outputs this CPU has had wait.
    pub holds: u32,
    /// [`Step::origin`], of the steps being added or of the one being executed.
    pub group_rule: u32,
    /// [`switch_abi::flow_hash`].
    pub flow_hash: u64,
    /// Rules in the trace.
    pub steps: u32,
    /// 1: outer headers could not be taken off again, so that the packet is no longer the tenant's.
    pub spoilt: u32,
    /// Bytes of the link-layer header that a packet to be segmented had when it first went into a tunnel in this run; 0: it did not. TC only.
    pub inner: u32,
    /// [`switch_abi::SET_SLOTS`] bits: which slots of the action set are in use. Built anew in each of the two phases.
    pub set: u64,
    /// The set's actions by slot: rule slot, and index among its actions.
    pub set_actions: [ActionRef; switch_abi::SET_SLOTS as usize],
    /// The set's slots in use when classification began.
    pub set_carried: u64,
    /// Their actions.
    pub carried_actions: [ActionRef; switch_abi::SET_SLOTS as usize],
    /// The packet's trajectory.
    pub trace: [Step; MAX_STEPS as usize],
}

#[map]
static STATE: PerCpuArray<State> = PerCpuArray::with_max_entries(1, 0);

impl State {
    /// This CPU's state, as it is.
    #[inline(always)]
    pub fn current() -> Option<&'static mut Self> {
        let state = STATE.get_ptr_mut(0)?;
        // SAFETY: an array's element is always there, and no other run uses it meanwhile (see the module).
        Some(unsafe { &mut *state })
    }

    /// A step of the trace. The index is taken modulo its length, so that the verifier sees that it is within.
    #[inline(always)]
    pub fn step_at(&mut self, index: u32) -> &mut Step {
        let trace = (&raw mut self.trace).cast::<Step>();
        // SAFETY: the mask keeps the index within the trace.
        unsafe { &mut *trace.add((index & (MAX_STEPS - 1)) as usize) }
    }

    /// The step that was added last.
    #[inline(always)]
    pub fn last_step(&mut self) -> &mut Step {
        self.step_at(self.steps - 1)
    }

    /// Adds a rule to the trace; false: there is no room.
    #[inline(always)]
    pub fn push(&mut self, rule: u32, flags: u32) -> bool {
        let index = self.steps;
        if index >= MAX_STEPS {
            return false;
        }
        self.steps = index + 1;
        let origin = self.group_rule;
        *self.step_at(index) = Step {
            rule,
            link: 0,
            flags,
            origin,
        };
        true
    }

    /// Makes it ready for a new packet.
    #[inline(always)]
    pub fn renew(&mut self, xdp: bool) {
        let state = self;
        state.xdp = xdp as u32;
        state.plain = 1;
        clear(&mut state.crossed);
        clear(&mut state.xdp_outputs);
        state.hops = switch_abi::TUNNEL_HOPS as u32;
        clear(&mut state.switches);
        clear(&mut state.table);
        clear(&mut state.steps);
        clear(&mut state.spoilt);
        clear(&mut state.inner);
        clear(&mut state.base);
        clear(&mut state.source_port);
        clear(&mut state.step);
        clear(&mut state.action);
        clear(&mut state.done);
        clear(&mut state.network);
        clear(&mut state.pending.ifindex);
        clear(&mut state.l3);
        clear(&mut state.l4);
        state.tag = TAG_NONE;
        clear(&mut state.set);
        clear(&mut state.set_carried);
        clear(&mut state.expired);
        clear(&mut state.refused);
        clear(&mut state.resumes);
        clear(&mut state.excess);
        clear(&mut state.labelled);
        clear(&mut state.queue);
        clear(&mut state.grouping);
        clear(&mut state.metered);
        clear(&mut state.group_rule);
        clear(&mut state.told);
        clear(&mut state.outputs);
        clear(&mut state.hold);
        clear(&mut state.origin);
        clear(&mut state.key.metadata);
        clear(&mut state.key.tunnel_id);
    }
}

/// Makes a field zero by a store of its own. Those that lie side by side would else be set by a call of a loop over their bytes, which costs
/// as much as twenty stores.
#[inline(always)]
pub fn clear<T: Default>(field: &mut T) {
    // SAFETY: a reference.
    unsafe { core::ptr::write_volatile(field, T::default()) };
}
