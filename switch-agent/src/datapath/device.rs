//! What a network device is, as far as attaching programs to it needs to know: one RTM_GETLINK request, without a runtime.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkInfo, LinkMessage, LinkXdp, XdpAttached as Mode,
};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{DatapathError, Result};

/// A device of the calling thread's network namespace.
pub(crate) struct Device {
    pub(crate) ifindex: u32,
    pub(crate) name: String,
    pub(crate) kind: Option<InfoKind>,
    pub(crate) xdp: Option<XdpAttached>,
}

/// The XDP program on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct XdpAttached {
    pub(crate) program: u32,
    pub(crate) generic: bool,
}

impl XdpAttached {
    /// Name of the program, for people.
    pub(crate) fn describe(&self) -> String {
        format!("XDP {}", describe_program(self.program))
    }
}

/// Name of a program, for people.
pub(crate) fn describe_program(id: u32) -> String {
    let info = aya::programs::loaded_programs()
        .flatten()
        .find(|info| info.id() == id);
    let name = info
        .as_ref()
        .and_then(|info| info.name_as_str().map(str::to_owned))
        .unwrap_or_default();
    format!("program {name:?} (id {id})")
}

impl Device {
    /// Looks the device up.
    pub(crate) fn open(ifindex: u32) -> Result<Self> {
        let message = get_link(ifindex).map_err(|e| match e.raw_os_error() {
            Some(libc::ENODEV) => DatapathError::not_found(format!("device {ifindex}")),
            _ => DatapathError::kernel(format!("look at device {ifindex}"), e),
        })?;
        let mut device = Self {
            ifindex,
            name: String::new(),
            kind: None,
            xdp: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name = name,
                LinkAttribute::LinkInfo(infos) => {
                    device.kind = infos.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind),
                        _ => None,
                    });
                }
                LinkAttribute::Xdp(xdp) => device.xdp = attached(&xdp),
                _ => {}
            }
        }
        Ok(device)
    }

    /// Whether it is made in software (veth, tap, bridge ...), where XDP would switch segmentation offload off for nothing.
    pub(crate) fn is_virtual(&self) -> bool {
        self.kind.is_some()
    }
}

fn attached(xdp: &[LinkXdp]) -> Option<XdpAttached> {
    let generic = xdp
        .iter()
        .any(|x| matches!(x, LinkXdp::Attached(Mode::SocketBuffer)));
    xdp.iter().find_map(|x| match *x {
        LinkXdp::ProgId(program)
        | LinkXdp::DrvProgId(program)
        | LinkXdp::SkbProgId(program)
        | LinkXdp::HwProgId(program)
            if program != 0 =>
        {
            Some(XdpAttached { program, generic })
        }
        _ => None,
    })
}

fn get_link(ifindex: u32) -> io::Result<LinkMessage> {
    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    match ask(RouteNetlinkMessage::GetLink(link))? {
        RouteNetlinkMessage::NewLink(link) => Ok(link),
        _ => Err(io::Error::other("unexpected answer to RTM_GETLINK")),
    }
}

/// One question to rtnetlink that has one answer.
pub(crate) fn ask(question: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::from(question);
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.header.length as usize];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(|e| io::Error::other(e.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(answer) => Ok(answer),
        NetlinkPayload::Error(e) => Err(e.to_io()),
        _ => Err(io::Error::other("an answer of another kind than asked for")),
    }
}
