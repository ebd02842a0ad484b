//! One life of a network.

use std::time::{Duration, Instant};

use lime_proto::v1::{
    Consistency, DeleteLinkRequest, DeleteNetworkRequest, DeletePortRequest, DeleteSwitchRequest,
    PortAttach,
};

use super::operator::Operator;
use super::random::Random;
use super::updates::{self, Updates};
use super::{Life, traffic};
use crate::lab::{Lab, LabError};
use crate::record::Verdict;
use crate::tenant::Tenant;

/// Number of the ports of the link.
pub(super) const LINK: u32 = 9;
/// Deeds of an operator: at least, and how many more there may be.
const DEEDS: (u64, u64) = (4, 6);
/// How long counters may take to agree when nothing is sent any more.
const REST: Duration = Duration::from_secs(10);

/// One switch with four end hosts, or two with two each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    chain: bool,
}

impl Shape {
    pub(super) fn switches(&self) -> usize {
        if self.chain { 2 } else { 1 }
    }

    pub(super) fn name(switch: usize) -> &'static str {
        ["s1", "s2"][switch]
    }

    /// Ports of a switch. End host n is at port n.
    pub(super) fn ports(&self, switch: usize) -> &'static [u32] {
        match (self.chain, switch) {
            (false, _) => &[1, 2, 3, 4],
            (true, 0) => &[1, 2, LINK],
            (true, _) => &[3, 4, LINK],
        }
    }
}

/// Lives it, and takes the network down again.
pub(super) async fn live(lab: &Lab, random: &mut Random, seed: u64) -> Life {
    let mut life = Life {
        seed,
        deeds: Vec::new(),
        updates: 0,
        end: Err(String::new()),
    };
    lab.forget();
    life.end = match try_to_live(lab, random, &mut life).await {
        Ok(end) => end,
        Err(error) => Err(format!("could not go on: {error}")),
    };
    life
}

async fn try_to_live(
    lab: &Lab,
    random: &mut Random,
    life: &mut Life,
) -> Result<Result<lime_history::Summary, String>, LabError> {
    let shape = Shape {
        chain: random.below(2) == 1,
    };
    let name = format!("life-{}", life.seed);
    let consistency = match random.below(3) {
        0 => Consistency::Strict,
        _ => Consistency::Causal,
    };
    life.deeds.push(match consistency {
        Consistency::Strict => "strict".to_owned(),
        _ => "causal".to_owned(),
    });
    let mut tenant = create(lab, &name, consistency, &shape, random).await?;
    let cannot = |source| LabError::Io {
        what: "cannot start the traffic".to_owned(),
        source,
    };
    let talkers = traffic::start(lab, random).map_err(cannot)?;
    let updates = Updates::start(tenant.clone(), shape, random.fork());
    let mut operator = Operator {
        lab,
        tenant: tenant.clone(),
        shape: &shape,
        random: random.fork(),
        deeds: Vec::new(),
    };
    let deeds = DEEDS.0 + random.below(DEEDS.1);
    let mut acted = Ok(());
    for _ in 0..deeds {
        acted = operator.act().await;
        if acted.is_err() {
            break;
        }
    }
    life.deeds.append(&mut operator.deeds);
    tokio::task::block_in_place(|| drop(talkers));
    life.updates = updates.finish().await;
    acted?;
    let counted = count(lab, &mut tenant, &shape).await?;
    let verdict = tokio::task::block_in_place(|| lab.verdict(&name));
    let end = match (verdict, counted) {
        (Verdict::Possible(summary), Ok(())) => Ok(summary),
        (Verdict::Possible(_), Err(wrong)) => Err(wrong),
        (Verdict::Impossible(contradiction), _) => Err(contradiction.to_string()),
        (Verdict::Unknown(why), _) => Err(format!("could not be judged: {why}")),
    };
    remove(&tenant, &shape).await?;
    Ok(end)
}

async fn create(
    lab: &Lab,
    name: &str,
    consistency: Consistency,
    shape: &Shape,
    random: &mut Random,
) -> Result<Tenant, LabError> {
    let attach = if lab.is_xdp() {
        PortAttach::Xdp
    } else {
        PortAttach::Tc
    };
    let mut tenant = Tenant::create(lab, name, consistency, attach).await?;
    for switch in 0..shape.switches() {
        let host = random.one(lab.hosts()).name();
        tenant.switch(Shape::name(switch), host).await?;
        for port in shape.ports(switch).iter().filter(|p| **p != LINK) {
            let host = random.one(lab.hosts()).name();
            let end = format!("h{port}");
            tenant
                .port(lab, Shape::name(switch), *port, &end, host)
                .await?;
        }
    }
    if shape.chain {
        tenant.link(("s1", LINK), ("s2", LINK)).await?;
    }
    for switch in 0..shape.switches() {
        let rules = updates::all(shape, switch, 0, random);
        tenant.rules(Shape::name(switch), rules).await?;
    }
    Ok(tenant)
}

/// Every packet that an end host sent has been counted once, in the rules of its port.
async fn count(
    lab: &Lab,
    tenant: &mut Tenant,
    shape: &Shape,
) -> Result<Result<(), String>, LabError> {
    let deadline = Instant::now() + REST;
    loop {
        let mut wrong = Vec::new();
        for switch in 0..shape.switches() {
            let rules = tenant.rule_stats(Shape::name(switch)).await?;
            for &port in shape.ports(switch).iter().filter(|p| **p != LINK) {
                let sent = lab.sent(port as usize - 1) as u64;
                let of = rules
                    .iter()
                    .filter(|r| r.rule.as_ref().is_some_and(|r| r.cookie == u64::from(port)));
                let counted: u64 = of.map(|r| r.packets).sum();
                if counted != sent {
                    wrong.push(format!(
                        "h{port} sent {sent} packets, {counted} were counted"
                    ));
                }
            }
        }
        if wrong.is_empty() {
            return Ok(Ok(()));
        }
        if Instant::now() > deadline {
            return Ok(Err(wrong.join("; ")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Its devices are for the next one.
async fn remove(tenant: &Tenant, shape: &Shape) -> Result<(), LabError> {
    let mut client = tenant.client();
    let network = || tenant.network().to_owned();
    let refused = |what: &str| {
        let what = format!("remove {what} of {}", network());
        move |status| LabError::Rpc {
            what,
            status: Box::new(status),
        }
    };
    if shape.chain {
        let ask = DeleteLinkRequest {
            network: network(),
            switch_a: "s1".to_owned(),
            port_a: LINK,
        };
        client.delete_link(ask).await.map_err(refused("the link"))?;
    }
    for switch in 0..shape.switches() {
        let name = Shape::name(switch).to_owned();
        for port in shape.ports(switch).iter().filter(|p| **p != LINK) {
            let ask = DeletePortRequest {
                network: network(),
                switch: name.clone(),
                port_no: *port,
            };
            client.delete_port(ask).await.map_err(refused("a port"))?;
        }
        let ask = DeleteSwitchRequest {
            network: network(),
            name,
        };
        client
            .delete_switch(ask)
            .await
            .map_err(refused("a switch"))?;
    }
    let ask = DeleteNetworkRequest { name: network() };
    client.delete_network(ask).await.map_err(refused("all"))?;
    Ok(())
}
