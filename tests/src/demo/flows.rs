//! All measured flows of the demonstration.

use std::io;

use super::network::FlowPlan;
use crate::lab::Lab;
use crate::traffic::{FlowReport, Origin, Series, TcpFlow, UdpFlow};

/// Flows that run.
#[derive(Debug)]
pub struct Traffic {
    udp: Vec<(u64, UdpFlow)>,
    tcp: Vec<TcpFlow>,
}

/// Each flow's name and arrivals.
pub type NamedSeries = Vec<(String, Series)>;

/// A finished UDP or TCP flow, with the number of switches that it passed.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What became of it.
    pub report: FlowReport,
    /// Switches that count it.
    pub switches: u64,
}

impl Traffic {
    /// Starts all of the plan's flows.
    pub fn start(lab: &Lab, plan: &FlowPlan, origin: Origin) -> io::Result<Self> {
        let hosts = lab.end_hosts();
        let tcp = plan
            .tcp
            .iter()
            .map(|(from, to, spec)| TcpFlow::start(spec, &hosts[*from], &hosts[*to], origin))
            .collect::<io::Result<_>>()?;
        let udp = plan
            .udp
            .iter()
            .map(|(from, to, spec)| {
                let flow = UdpFlow::start(spec, &hosts[*from], &hosts[*to], origin)?;
                Ok((FlowPlan::switches(*from, *to), flow))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { udp, tcp })
    }

    /// Number of flows.
    pub fn len(&self) -> usize {
        self.udp.len() + self.tcp.len()
    }

    /// Stops all senders, waits for what is under way, and reports; UDP flows first, in the plan's order.
    pub fn finish(self) -> io::Result<(Vec<Finished>, NamedSeries)> {
        self.udp.iter().for_each(|(_, f)| f.stop());
        self.tcp.iter().for_each(TcpFlow::stop);
        // All at once: each may have to wait for what is lost.
        let finished: Vec<_> = std::thread::scope(|scope| {
            let udp = self
                .udp
                .into_iter()
                .map(|(n, f)| (n, scope.spawn(|| f.finish())));
            let udp: Vec<_> = udp.collect();
            let tcp = self
                .tcp
                .into_iter()
                .map(|f| (0, scope.spawn(|| f.finish())));
            let all: Vec<_> = udp.into_iter().chain(tcp.collect::<Vec<_>>()).collect();
            all.into_iter()
                .map(|(n, thread)| (n, thread.join()))
                .collect()
        });
        let (mut reports, mut all) = (Vec::new(), Vec::new());
        for (switches, result) in finished {
            let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let (report, series) = result?;
            all.push((report.name.clone(), series));
            reports.push(Finished { report, switches });
        }
        Ok((reports, all))
    }
}
