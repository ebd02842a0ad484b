//! Where frames end: counted and dropped as they arrive.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::PerCpuArray;
use aya::programs::{Program, XdpMode};
use switch_agent::objects;

use crate::programs::load;
use crate::site::{DEVICE, Station, inside};

/// A station that counts and drops all that it gets, until this is dropped.
pub struct Sink {
    station: Station,
    object: Ebpf,
}

impl Sink {
    /// Attaches the counting program.
    pub fn attach(station: Station) -> Result<Self> {
        let mut object = Ebpf::load(objects::LAB).context("cannot load the counting program")?;
        let Program::Xdp(program) = load(&mut object, objects::LAB_XDP_SINK)? else {
            anyhow::bail!("the counting program is no XDP program");
        };
        inside(&station.ns, || program.attach(DEVICE, XdpMode::Driver))?
            .context("cannot attach the counting program")?;
        Ok(Self { station, object })
    }

    /// Frames so far.
    pub fn count(&self) -> Result<u64> {
        let map = self
            .object
            .map(objects::LAB_SINK_MAP)
            .context("no map of the sink")?;
        let map = PerCpuArray::<_, u64>::try_from(map).context("cannot use the sink's map")?;
        let counts = map.get(&0, 0).context("cannot read the sink's map")?;
        Ok(counts.iter().sum())
    }

    /// Sends something, so that others can learn where this station is.
    pub fn say_hello(&self) -> Result<()> {
        let socket = inside(&self.station.ns, || {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        })?
        .context("cannot bind a UDP socket")?;
        socket.set_broadcast(true)?;
        socket
            .send_to(&[0], (Ipv4Addr::BROADCAST, 9))
            .or_else(|_| socket.send_to(&[0], (Ipv4Addr::new(10, 0, 0, 255), 9)))
            .context("cannot send a broadcast")?;
        Ok(())
    }
}
