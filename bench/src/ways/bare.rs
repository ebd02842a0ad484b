//! The least that a kernel program can do to join two stations of one host: redirect every frame from the one to the other.

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::{Program, SchedClassifier, TcAttachType, Xdp, XdpMode};
use lime_tests::lab::Netns;
use switch_agent::datapath::AttachMode;
use switch_agent::objects;

use crate::programs;
use crate::site::{Station, inside};

/// Joins two stations, whose cables end in `ns`, by bare redirects at XDP or (any other mode) at TC ingress. Until what it gives is dropped.
pub fn redirect(ns: &Netns, stations: [&Station; 2], mode: AttachMode) -> Result<Ebpf> {
    let mut object = Ebpf::load(objects::LAB).context("cannot load the reference programs")?;
    let [a, b] = stations.map(|station| station.ifindex);
    for (from, to) in [(a, b), (b, a)] {
        programs::redirect(&mut object, from, to)?;
    }
    let name = match mode {
        AttachMode::Xdp => objects::LAB_XDP_REDIRECT,
        _ => objects::LAB_TC_REDIRECT,
    };
    let program = object
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    inside(ns, || match program {
        Program::Xdp(program) => attach_xdp(program, stations),
        Program::SchedClassifier(program) => attach_tc(program, stations),
        _ => anyhow::bail!("it is of another kind than its name says"),
    })?
    .with_context(|| format!("cannot attach the program {name}"))?;
    Ok(object)
}

fn attach_xdp(program: &mut Xdp, stations: [&Station; 2]) -> Result<()> {
    program.load()?;
    for station in stations {
        program.attach_to_if_index(station.ifindex, XdpMode::Driver)?;
    }
    Ok(())
}

fn attach_tc(program: &mut SchedClassifier, stations: [&Station; 2]) -> Result<()> {
    program.load()?;
    for station in stations {
        program.attach(&station.device, TcAttachType::Ingress)?;
    }
    Ok(())
}
