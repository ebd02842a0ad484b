//! Statistics of a switch under real traffic, by the command line: rules, tables, queues and ports, before and after a migration.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::time::Duration;

use common::{MODES, assert_reaches, eventually, lab, lime, lime_ok, one_switch};
use lime_tests::lab::{EndHost, Lab};
use lime_tests::traffic::{Origin, UdpFlow, UdpSpec};
use serde_json::Value;

/// UDP payload, and what a datagram is as a frame.
const PAYLOAD: usize = 300;
const FRAME: u64 = 14 + 20 + 8 + PAYLOAD as u64;

fn json(lab: &Lab, arguments: &[&str]) -> Value {
    let text = lime_ok(lab, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap()
}

/// Sends datagrams for a while; how many.
fn send(port: u16, from: &EndHost, to: &EndHost) -> u64 {
    let spec = UdpSpec {
        name: "udp".into(),
        rate: 500,
        payload: PAYLOAD,
        port,
        ipv6: false,
    };
    tokio::task::block_in_place(|| {
        let flow = UdpFlow::start(&spec, from, to, Origin::now()).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        flow.finish().unwrap().0.sent
    })
}

/// Rules, lookups and matched packets of a table.
fn table(lab: &Lab, number: usize) -> (u64, u64, u64) {
    let tables = json(lab, &["switch", "tables", "net/s1", "--all"]);
    assert_eq!(tables.as_array().unwrap().len(), 32);
    let of = |name: &str| tables[number][name].as_u64().unwrap();
    (of("active"), of("lookups"), of("matched"))
}

/// A counter of all ports together.
fn ports(lab: &Lab, counter: impl Fn(&Value) -> u64) -> u64 {
    let ports = json(lab, &["stats", "net/s1"]);
    ports.as_array().unwrap().iter().map(counter).sum()
}

fn received(lab: &Lab) -> u64 {
    ports(lab, |p| p["rx_packets"].as_u64().unwrap())
}

fn missed(lab: &Lab) -> u64 {
    ports(lab, |p| p["drops"]["table-miss"].as_u64().unwrap_or(0))
}

/// Packets and bytes of the rules that a filter selects, and how many these are.
fn aggregate(lab: &Lab, filter: &str) -> (u64, u64, u64) {
    let sum = json(lab, &["rule", "aggregate", "net/s1", filter]);
    let of = |name: &str| sum[name].as_u64().unwrap();
    (of("packets"), of("bytes"), of("rules"))
}

/// Makes the class 1:7 on the device of an end host's port.
fn queue(lab: &Lab, host: &str, end_host: &str) {
    let device = Lab::port_device(end_host);
    for arguments in [
        format!("qdisc replace dev {device} root handle 1: htb"),
        format!("class replace dev {device} parent 1: classid 1:7 htb rate 1gbit"),
    ] {
        let mut tc = lab.command(host, "tc").unwrap();
        let output = tc.args(arguments.split(' ')).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tc {arguments}: {error}");
    }
}

/// Packets, bytes and errors of queue 7 of port 2.
fn queued(lab: &Lab) -> Option<(u64, u64, u64)> {
    let queues = json(
        lab,
        &["switch", "queues", "net/s1", "--port", "2", "--queue", "7"],
    );
    let queue = queues.as_array().unwrap().first()?;
    let of = |name: &str| queue[name].as_u64().unwrap();
    assert!(of("duration_ms") > 0);
    Some((of("tx_packets"), of("tx_bytes"), of("tx_errors")))
}

/// At rest, table 0 has seen what came in, and what no table matched was dropped for that.
async fn tables_agree_with_ports(lab: &Lab) {
    // A stack's own packets (IPv6) may come between two looks.
    eventually("table 0 and the ports to agree", || async {
        let (_, lookups, matched) = table(lab, 0);
        let (_, further, found) = table(lab, 1);
        lookups == received(lab) && lookups - matched + further - found == missed(lab)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_say_what_was_sent() {
    for attach in MODES {
        let lab = lab(2, 2, attach).await;
        let mut tenant = one_switch(&lab, attach).await;
        let [h1, h2] = lab.end_hosts() else {
            unreachable!()
        };
        let rules = "flow priority=9,arp,actions=flood\n\
            flow priority=8,udp,tp_dst=7,actions=output:2\n\
            flow priority=8,udp,tp_src=7,actions=output:1\n\
            flow priority=5,udp,cookie=0x12,actions=goto_table:1\n\
            flow table=1,priority=1,udp,tp_dst=5000,cookie=0x13,actions=set_queue:7,output:2\n";
        let file = lab.name().scratch().join("rules");
        std::fs::write(&file, rules).unwrap();
        lime_ok(&lab, &["bundle", "net/s1", file.to_str().unwrap()]);
        queue(&lab, "a", "h2");
        assert_reaches(&lab, h1, h2, h2.ipv4());

        let (good, bad) = (send(5000, h1, h2), send(5001, h1, h2));
        assert!(good > 0 && bad > 0);
        assert_eq!(table(&lab, 1), (1, good + bad, good), "{attach:?}");
        tables_agree_with_ports(&lab).await;
        assert!(table(&lab, 0).2 > good + bad, "ARP and echoes too");
        assert_eq!(
            aggregate(&lab, "cookie=0x10/0xf0"),
            (2 * good + bad, (2 * good + bad) * FRAME, 2)
        );
        assert_eq!(
            aggregate(&lab, "out_port=2,cookie=0x13").0,
            good,
            "{attach:?}"
        );
        assert_eq!(aggregate(&lab, "table=1,udp,tp_dst=5000").0, good);
        assert_eq!(aggregate(&lab, "table=1,tcp"), (0, 0, 0));
        assert_eq!(queued(&lab), Some((good, good * FRAME, 0)), "{attach:?}");

        // Rules go, their tables' counts do not; nor do those of a host that the switch leaves.
        lime_ok(&lab, &["rule", "del", "net/s1", "table=1"]);
        assert_eq!(table(&lab, 1), (0, good + bad, good));
        let migration = tenant.migrate("a", "b").await.unwrap();
        assert_eq!(migration.error, "", "{}", lab.logs());
        assert_eq!(table(&lab, 1), (0, good + bad, good));
        assert_eq!(queued(&lab), Some((good, good * FRAME, 0)));
        tables_agree_with_ports(&lab).await;
        queue(&lab, "b", "h2");
        let again = "table=1,udp,tp_dst=5000,actions=set_queue:7,output:2";
        lime_ok(&lab, &["rule", "add", "net/s1", again]);
        let (more, worse) = (send(5000, h1, h2), send(5001, h1, h2));
        assert_eq!(
            table(&lab, 1),
            (1, good + bad + more + worse, good + more),
            "{attach:?}"
        );
        tables_agree_with_ports(&lab).await;
        assert_eq!(queued(&lab), Some((good + more, (good + more) * FRAME, 0)));
        assert!(ports(&lab, |p| p["duration_ms"].as_u64().unwrap()) > 0);
        // Frames that do not fit the device on the way out are neither the rules' doing nor lost on the way in.
        let dropped = |side: &str| ports(&lab, |p| p[side].as_u64().unwrap());
        assert_eq!((dropped("rx_errors"), dropped("tx_errors")), (0, 0));

        let features = json(&lab, &["switch", "features", "net/s1"]);
        assert_eq!(features["datapath"], "net/s1");
        assert_eq!(features["tables"].as_array().unwrap().len(), 32);
        assert_eq!(
            lime(&lab, &["switch", "tables", "net/nobody"])
                .status
                .code(),
            Some(3)
        );
    }
}
