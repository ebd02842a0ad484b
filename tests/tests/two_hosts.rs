//! Switches, ports and links on two hosts: relayed, delivered by tunnel, cloned.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::time::Duration;

use common::{MODES, assert_reaches, eventually, flood, lab, lime_ok, tenant};
use lime_proto::v1::{ListNetworksRequest, RemoveInstanceRequest};
use lime_tests::rules::{FLOOD, RuleSpec};
use lime_tests::traffic::{Origin, UdpFlow, UdpSpec};

/// OFPP_LOCAL.
const LOCAL: u32 = 0xffff_fffe;

fn udp(name: &str, port: u16) -> UdpSpec {
    UdpSpec {
        name: name.into(),
        rate: 2000,
        payload: 300,
        port,
        ipv6: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_on_another_host_is_as_good_as_a_local_one() {
    for attach in MODES {
        let lab = lab(2, 3, attach).await;
        let mut tenant = tenant(&lab, attach).await;
        tenant.switch("s1", "a").await.unwrap();
        for (port, end_host, host) in [(1, "h1", "a"), (2, "h2", "b"), (3, "h3", "b")] {
            tenant.port(&lab, "s1", port, end_host, host).await.unwrap();
        }
        flood(&mut tenant, "s1").await;
        let [h1, h2, h3] = lab.end_hosts() else {
            unreachable!()
        };
        assert_reaches(&lab, h1, h2, h2.ipv4());
        assert_reaches(&lab, h2, h1, h1.ipv6());
        // Both away from the only instance: there and back again.
        assert_reaches(&lab, h2, h3, h3.ipv4());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_is_the_port_that_was_made_with_this_number() {
    for attach in MODES {
        let lab = lab(2, 2, attach).await;
        let mut tenant = tenant(&lab, attach).await;
        tenant.switch("s1", "a").await.unwrap();
        tenant.port(&lab, "s1", 1, "h1", "a").await.unwrap();
        let there = "in_port=1,actions=LOCAL";
        let back = "in_port=local,actions=output:1";
        tenant.port(&lab, "s1", LOCAL, "h2", "b").await.unwrap();
        for rule in [there, back] {
            lime_ok(&lab, &["rule", "add", "net/s1", rule]);
        }
        let [h1, h2] = lab.end_hosts() else {
            unreachable!()
        };
        assert_reaches(&lab, h1, h2, h2.ipv4());
        assert_reaches(&lab, h2, h1, h1.ipv6());
        let rules = lime_ok(&lab, &["rule", "dump", "net/s1"]);
        assert!(rules.contains("in_port=1 actions=LOCAL"), "{rules}");
        assert!(rules.contains("in_port=LOCAL actions=output:1"), "{rules}");
        let ports = lime_ok(&lab, &["port", "list", "net"]);
        assert!(ports.contains("net/s1:LOCAL"), "{ports}");
        let packet = "ffffffffffff 020000000001 88b5 00";
        let out = [
            "packet-out",
            "net/s1",
            "local",
            "--in-port",
            "1",
            "--packet",
            packet,
        ];
        lime_ok(&lab, &out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linked_switches_join_their_end_hosts_wherever_they_are() {
    for attach in MODES {
        for second in ["a", "b"] {
            let lab = lab(2, 2, attach).await;
            let mut tenant = tenant(&lab, attach).await;
            tenant.switch("s1", "a").await.unwrap();
            tenant.switch("s2", second).await.unwrap();
            tenant.port(&lab, "s1", 1, "h1", "a").await.unwrap();
            tenant.port(&lab, "s2", 1, "h2", second).await.unwrap();
            tenant.link(("s1", 2), ("s2", 2)).await.unwrap();
            for switch in ["s1", "s2"] {
                let arp = RuleSpec::new(10).arp().output(FLOOD).add();
                let there = RuleSpec::new(5).in_port(1).output(2).add();
                let back = RuleSpec::new(5).in_port(2).output(1).add();
                tenant.rules(switch, vec![arp, there, back]).await.unwrap();
            }
            let [h1, h2] = lab.end_hosts() else {
                unreachable!()
            };
            assert_reaches(&lab, h1, h2, h2.ipv4());
            let report = tokio::task::block_in_place(|| {
                let flow = UdpFlow::start(&udp("link", 5000), h2, h1, Origin::now()).unwrap();
                std::thread::sleep(Duration::from_millis(500));
                flow.finish().unwrap().0
            });
            assert!(
                report.is_clean(),
                "{attach:?} {second}: {report:?}\n{}",
                lab.logs()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_is_cloned_and_the_clone_retired_under_traffic() {
    for attach in MODES {
        let lab = lab(2, 2, attach).await;
        let mut tenant = tenant(&lab, attach).await;
        tenant.switch("s1", "a").await.unwrap();
        tenant.port(&lab, "s1", 1, "h1", "a").await.unwrap();
        tenant.port(&lab, "s1", 2, "h2", "b").await.unwrap();
        flood(&mut tenant, "s1").await;
        let [h1, h2] = lab.end_hosts() else {
            unreachable!()
        };
        assert_reaches(&lab, h1, h2, h2.ipv4());
        let origin = Origin::now();
        let flows = [
            UdpFlow::start(&udp("there", 5000), h1, h2, origin).unwrap(),
            UdpFlow::start(&udp("back", 5001), h2, h1, origin).unwrap(),
        ];
        let mut client = tenant.client();
        for _ in 0..3 {
            let mut switch = tenant.clone_switch("s1", "b").await.unwrap();
            switch.instances.sort();
            assert_eq!(switch.instances, ["a", "b"]);
            let rule = RuleSpec::new(7).in_port(9).output(1).add();
            tenant.rules("s1", vec![rule]).await.unwrap();
            let remove = RemoveInstanceRequest {
                network: "net".into(),
                switch: "s1".into(),
                host: "b".into(),
            };
            let switch = client.remove_instance(remove).await.unwrap().into_inner();
            assert_eq!(switch.instances, ["a"]);
        }
        let reports = tokio::task::block_in_place(|| flows.map(|f| f.finish().unwrap().0));
        for report in reports {
            assert!(report.is_clean(), "{attach:?}: {report:?}\n{}", lab.logs());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_is_answered_when_all_hosts_have_it() {
    let lab = lab(2, 2, MODES[0]).await;
    let mut tenant = tenant(&lab, MODES[0]).await;
    tenant.switch("s1", "a").await.unwrap();
    tenant.port(&lab, "s1", 1, "h1", "a").await.unwrap();
    tenant.port(&lab, "s1", 2, "h2", "b").await.unwrap();
    flood(&mut tenant, "s1").await;
    let mut client = tenant.client();
    let networks = client.list_networks(ListNetworksRequest {}).await.unwrap();
    let mut network = networks.into_inner().networks.remove(0);
    network.members.sort();
    assert_eq!(network.epoch, network.acknowledged);
    assert_eq!(network.members, ["a", "b"]);

    // A host that is away holds updates up, and they take effect when it is back.
    lab.cut_management("b").await.unwrap();
    let update = tokio::spawn(async move {
        let rule = RuleSpec::new(9).in_port(9).output(1).add();
        tenant.rules("s1", vec![rule]).await
    });
    lab.mend_management("b").await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(20), update).await;
    answer.expect("in time").unwrap().unwrap();
    eventually("all acknowledged", || {
        let mut client = client.clone();
        async move {
            let networks = client.list_networks(ListNetworksRequest {}).await.unwrap();
            let network = &networks.into_inner().networks[0];
            network.epoch == network.acknowledged
        }
    })
    .await;
}

/// Rule 13: what each rule has counted, of both hosts, as of one moment; nothing is lost by asking, and nothing counted twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_13_exact_statistics_under_traffic() {
    let lab = lab(2, 2, MODES[0]).await;
    let mut tenant = tenant(&lab, MODES[0]).await;
    tenant.switch("s1", "a").await.unwrap();
    tenant.port(&lab, "s1", 1, "h1", "a").await.unwrap();
    tenant.port(&lab, "s1", 2, "h2", "b").await.unwrap();
    flood(&mut tenant, "s1").await;
    tenant.clone_switch("s1", "b").await.unwrap();
    let [h1, h2] = lab.end_hosts() else {
        unreachable!()
    };
    assert_reaches(&lab, h1, h2, h2.ipv4());
    let packets =
        |stats: &[lime_proto::v1::RuleStats]| stats.iter().map(|r| r.packets).sum::<u64>();
    let before = packets(&tenant.exact_rule_stats("s1").await.unwrap());
    let origin = Origin::now();
    let flows = [
        UdpFlow::start(&udp("there", 5000), h1, h2, origin).unwrap(),
        UdpFlow::start(&udp("back", 5001), h2, h1, origin).unwrap(),
    ];
    let mut last = before;
    for _ in 0..5 {
        let now = packets(&tenant.exact_rule_stats("s1").await.unwrap());
        assert!(now >= last, "{now} after {last}");
        last = now;
    }
    let reports = tokio::task::block_in_place(|| flows.map(|f| f.finish().unwrap().0));
    for report in &reports {
        assert!(report.is_clean(), "{report:?}\n{}", lab.logs());
    }
    let sent: u64 = reports.iter().map(|r| r.sent).sum();
    let exact = packets(&tenant.exact_rule_stats("s1").await.unwrap());
    assert!(exact >= before + sent, "{exact} of {before} and {sent}");
    let sums = packets(&tenant.rule_stats("s1").await.unwrap());
    // End hosts say something by themselves now and then.
    assert!((exact..=exact + 50).contains(&sums), "{exact} {sums}");
}
