//! The demonstration's network: inside hosts h1 and h2 on switch s1, which is the firewall; outside hosts h3 and h4 on switch s2.
//!
//! ```text
//!   h1 --1 s1 3----3 s2 1-- h3
//!   h2 --2              2-- h4
//! ```

use lime_proto::v1::{Consistency, FlowMod, PortAttach};

use super::Options;
use crate::firewall::{PROBE_PORT, Policy};
use crate::lab::{EndHost, Lab, LabError};
use crate::rules::{FLOOD, RuleSpec, field};
use crate::tenant::Tenant;
use crate::traffic::{TcpSpec, UdpSpec};

/// Port number of the link, on both switches.
const LINK: u32 = 3;
/// First cookie of the rules of UDP flows; flow k has this plus k, on every switch that it passes.
pub const UDP_COOKIE: u64 = 0x2000_0000;
/// As [`UDP_COOKIE`], for TCP streams, in both directions.
pub const TCP_COOKIE: u64 = 0x3000_0000;
const UDP_PORT: u16 = 5000;
const TCP_PORT: u16 = 6000;

/// Switch and port of the n-th end host, from 0.
fn place(n: usize) -> (&'static str, u32) {
    (if n < 2 { "s1" } else { "s2" }, (n % 2) as u32 + 1)
}

/// The hosts behind the firewall.
pub fn inside(lab: &Lab) -> impl Iterator<Item = &EndHost> {
    lab.end_hosts().iter().take(2)
}

/// The hosts before it.
pub fn outside(lab: &Lab) -> impl Iterator<Item = &EndHost> {
    lab.end_hosts().iter().skip(2)
}

/// Creates network, switches, ports, link, and the rules for ARP, neighbour discovery and the outside's side of the firewall's traffic.
pub async fn create(
    lab: &Lab,
    consistency: Consistency,
    attach: PortAttach,
) -> Result<Tenant, LabError> {
    let mut tenant = Tenant::create(lab, "demo", consistency, attach).await?;
    for switch in ["s1", "s2"] {
        tenant.switch(switch, "a").await?;
    }
    for (n, end_host) in lab.end_hosts().iter().enumerate() {
        let (switch, port) = place(n);
        tenant.port(lab, switch, port, end_host.name(), "a").await?;
    }
    tenant.link(("s1", LINK), ("s2", LINK)).await?;
    let discovery = || {
        vec![
            RuleSpec::new(50).arp().output(FLOOD).add(),
            RuleSpec::new(50).ipv6().proto(58).output(FLOOD).add(),
        ]
    };
    tenant.rules("s1", discovery()).await?;
    let mut s2 = discovery();
    for (n, host) in outside(lab).enumerate() {
        let (_, port) = place(n + 2);
        let probes = RuleSpec::new(100).in_port(LINK).ipv4().proto(17);
        s2.push(
            probes
                .ipv4_dst(host.ipv4())
                .field(field::UDP_DST, PROBE_PORT.to_be_bytes())
                .output(port)
                .add(),
        );
        let answers = RuleSpec::new(100).in_port(port).ipv4().proto(17);
        s2.push(
            answers
                .field(field::UDP_SRC, PROBE_PORT.to_be_bytes())
                .output(LINK)
                .add(),
        );
    }
    tenant.rules("s2", s2).await?;
    Ok(tenant)
}

/// What the firewall application is to know.
pub fn policy(lab: &Lab, tenant: &Tenant) -> Result<Policy, LabError> {
    Ok(Policy {
        network: tenant.network().to_owned(),
        switch: "s1".to_owned(),
        inside: inside(lab)
            .enumerate()
            .map(|(n, h)| (h.ipv4(), place(n).1))
            .collect(),
        outside: LINK,
    })
}

/// The measured flows: every end host to every other, by UDP and by TCP.
#[derive(Debug, Default)]
pub struct FlowPlan {
    /// Sender, receiver, and the flow.
    pub udp: Vec<(usize, usize, UdpSpec)>,
    /// Sender, receiver, and the stream.
    pub tcp: Vec<(usize, usize, TcpSpec)>,
    addresses: Vec<(std::net::Ipv4Addr, std::net::Ipv6Addr)>,
}

/// Plans the flows. Every third UDP flow is IPv6.
pub fn flow_plan(lab: &Lab, options: &Options) -> FlowPlan {
    let hosts = lab.end_hosts();
    let mut plan = FlowPlan {
        addresses: hosts.iter().map(|h| (h.ipv4(), h.ipv6())).collect(),
        ..FlowPlan::default()
    };
    let pairs = (0..hosts.len()).flat_map(|from| {
        (0..hosts.len())
            .filter(move |to| *to != from)
            .map(move |to| (from, to))
    });
    for ((from, to), k) in pairs.zip(0u16..) {
        let path = format!("{}>{}", hosts[from].name(), hosts[to].name());
        let ipv6 = k % 3 == 2;
        let family = if ipv6 { "udp6" } else { "udp" };
        let udp = UdpSpec {
            name: format!("{family} {path}"),
            rate: options.rate,
            payload: 256,
            port: UDP_PORT + k,
            ipv6,
        };
        let tcp = TcpSpec {
            name: format!("tcp {path}"),
            rate: options.tcp_rate,
            port: TCP_PORT + k,
            ipv6: false,
        };
        plan.udp.push((from, to, udp));
        plan.tcp.push((from, to, tcp));
    }
    plan
}

impl FlowPlan {
    /// The rules that a switch needs for the flows.
    pub fn rules(&self, switch: &str) -> Vec<FlowMod> {
        let udp = self.udp.iter().zip(UDP_COOKIE..).filter_map(|(f, cookie)| {
            let (from, to, spec) = f;
            let rule = self.path(switch, *from, *to, spec.ipv6, 17)?;
            Some(
                rule.0
                    .cookie(cookie)
                    .udp_ports(spec.port, spec.port)
                    .output(rule.1),
            )
        });
        let tcp = self.tcp.iter().zip(TCP_COOKIE..).flat_map(|(f, cookie)| {
            let (from, to, spec) = f;
            let there = self
                .path(switch, *from, *to, spec.ipv6, 6)
                .map(|(r, out)| r.field(field::TCP_DST, spec.port.to_be_bytes()).output(out));
            let back = self
                .path(switch, *to, *from, spec.ipv6, 6)
                .map(|(r, out)| r.field(field::TCP_SRC, spec.port.to_be_bytes()).output(out));
            there.into_iter().chain(back).map(move |r| r.cookie(cookie))
        });
        udp.chain(tcp).map(RuleSpec::add).collect()
    }

    /// The match for packets of one direction on one switch, and the port they leave by. None: they do not pass the switch.
    fn path(
        &self,
        switch: &str,
        from: usize,
        to: usize,
        ipv6: bool,
        protocol: u8,
    ) -> Option<(RuleSpec, u32)> {
        let port_of = |n: usize| {
            let (at, port) = place(n);
            if at == switch { port } else { LINK }
        };
        let (in_port, out) = (port_of(from), port_of(to));
        if in_port == LINK && out == LINK {
            return None;
        }
        let rule = RuleSpec::new(200).in_port(in_port);
        let (rule, source, target): (_, std::net::IpAddr, std::net::IpAddr) = if ipv6 {
            (
                rule.ipv6(),
                self.addresses[from].1.into(),
                self.addresses[to].1.into(),
            )
        } else {
            (
                rule.ipv4(),
                self.addresses[from].0.into(),
                self.addresses[to].0.into(),
            )
        };
        Some((rule.proto(protocol).from_to(source, target), out))
    }

    /// On how many switches a flow of these end hosts is counted.
    pub fn switches(from: usize, to: usize) -> u64 {
        if place(from).0 == place(to).0 { 1 } else { 2 }
    }
}
