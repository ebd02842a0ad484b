//! One switch on one host, with real stacks behind its ports, in every attach mode.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::time::Duration;

use common::{MODES, assert_does_not_reach, assert_reaches, flood, lab, one_switch};
use lime_tests::rules::{FLOOD, RuleSpec, field};
use lime_tests::traffic::{Origin, TcpFlow, TcpSpec, UdpFlow, UdpSpec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooding_switch_joins_its_end_hosts() {
    for attach in MODES {
        let lab = lab(1, 3, attach).await;
        let mut tenant = one_switch(&lab, attach).await;
        flood(&mut tenant, "s1").await;
        let [a, b, c] = lab.end_hosts() else {
            unreachable!()
        };
        assert_reaches(&lab, a, b, b.ipv4());
        assert_reaches(&lab, b, c, c.ipv4());
        assert_reaches(&lab, c, a, a.ipv6());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_switch_passes_nothing_and_says_why() {
    for attach in MODES {
        let lab = lab(1, 2, attach).await;
        let mut tenant = one_switch(&lab, attach).await;
        let [a, b] = lab.end_hosts() else {
            unreachable!()
        };
        assert_does_not_reach(a, b, b.ipv4());
        let ports = tenant.port_stats("s1").await.unwrap();
        let drops: u64 = ports
            .iter()
            .filter_map(|p| p.counters.as_ref()?.drops.get("table-miss"))
            .sum();
        assert!(drops > 0, "{attach:?}: {ports:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn priorities_decide_and_rules_can_be_taken_back() {
    for attach in MODES {
        let lab = lab(1, 2, attach).await;
        let mut tenant = one_switch(&lab, attach).await;
        flood(&mut tenant, "s1").await;
        let [a, b] = lab.end_hosts() else {
            unreachable!()
        };
        let drop_udp = || RuleSpec::new(100).ipv4().proto(17).ipv4_dst(b.ipv4());
        tenant.rules("s1", vec![drop_udp().add()]).await.unwrap();
        assert_does_not_reach(a, b, b.ipv4());
        assert_reaches(&lab, a, b, b.ipv6());
        let changed = tenant.rules("s1", vec![drop_udp().delete()]).await.unwrap();
        assert_eq!(changed.removed, 1);
        assert_reaches(&lab, a, b, b.ipv4());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_datagrams_pass_unharmed_and_are_counted() {
    for attach in MODES {
        let lab = lab(1, 2, attach).await;
        let mut tenant = one_switch(&lab, attach).await;
        let [a, b] = lab.end_hosts() else {
            unreachable!()
        };
        let udp = RuleSpec::new(20).ipv4().proto(17);
        tenant
            .rules(
                "s1",
                vec![
                    RuleSpec::new(10).arp().output(FLOOD).add(),
                    RuleSpec::new(10).ipv4().eth_dst(a.mac()).output(1).add(),
                    RuleSpec::new(10).ipv4().eth_dst(b.mac()).output(2).add(),
                    udp.udp_ports(5000, 5000).cookie(77).output(2).add(),
                ],
            )
            .await
            .unwrap();
        let origin = Origin::now();
        let (udp, tcp) = tokio::task::block_in_place(|| {
            let udp = UdpSpec {
                name: "udp".into(),
                rate: 2000,
                payload: 300,
                port: 5000,
                ipv6: false,
            };
            let tcp = TcpSpec {
                name: "tcp".into(),
                rate: 5000,
                port: 5001,
                ipv6: false,
            };
            let udp = UdpFlow::start(&udp, a, b, origin).unwrap();
            let tcp = TcpFlow::start(&tcp, b, a, origin).unwrap();
            std::thread::sleep(Duration::from_secs(1));
            (udp.finish().unwrap().0, tcp.finish().unwrap().0)
        });
        assert!(udp.is_clean(), "{attach:?}: {udp:?}\n{}", lab.logs());
        assert!(tcp.is_clean(), "{attach:?}: {tcp:?}\n{}", lab.logs());
        let rules = tenant.rule_stats("s1").await.unwrap();
        let counted = rules
            .iter()
            .find(|r| r.rule.as_ref().is_some_and(|r| r.cookie == 77))
            .unwrap();
        assert_eq!(counted.packets, udp.sent, "{attach:?}");
        assert_eq!(
            counted.bytes,
            udp.sent * (14 + 20 + 8 + 300),
            "{attach:?}: bytes from the Ethernet header on"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_rewritten_with_correct_checksums() {
    for attach in MODES {
        let lab = lab(1, 2, attach).await;
        let mut tenant = one_switch(&lab, attach).await;
        let [a, b] = lab.end_hosts() else {
            unreachable!()
        };
        // a talks to 10.0.0.2, which is b; on the way b sees 10.0.0.200 and port 4000.
        let alias = [10, 0, 0, 200];
        let there = RuleSpec::new(20).in_port(1).ipv4().proto(17);
        let back = RuleSpec::new(20).in_port(2).ipv4().proto(17);
        tenant
            .rules(
                "s1",
                vec![
                    RuleSpec::new(10).arp().output(FLOOD).add(),
                    there
                        .set(field::IPV4_SRC, alias)
                        .set(field::UDP_SRC, 4000u16.to_be_bytes())
                        .output(2)
                        .add(),
                    back.set(field::IPV4_DST, a.ipv4().octets())
                        .set(field::UDP_DST, 5000u16.to_be_bytes())
                        .output(1)
                        .add(),
                ],
            )
            .await
            .unwrap();
        // b answers to the alias at a's device.
        b.links()
            .add_neighbour(alias.into(), a.mac())
            .await
            .unwrap();
        let got = tokio::task::block_in_place(|| {
            let outer = b
                .netns()
                .run(|| std::net::UdpSocket::bind((b.ipv4(), 6000)))
                .unwrap()
                .unwrap();
            let inner = a
                .netns()
                .run(|| std::net::UdpSocket::bind((a.ipv4(), 5000)))
                .unwrap()
                .unwrap();
            for s in [&outer, &inner] {
                s.set_read_timeout(Some(common::PATIENCE)).unwrap();
            }
            inner.send_to(b"question", (b.ipv4(), 6000)).unwrap();
            let mut buffer = [0; 32];
            let (n, from) = outer.recv_from(&mut buffer).unwrap();
            outer.send_to(b"answer", from).unwrap();
            let question = buffer[..n].to_vec();
            let (n, _) = inner.recv_from(&mut buffer).unwrap();
            (question, from, buffer[..n].to_vec())
        });
        assert_eq!(got.0, b"question");
        assert_eq!(got.1, "10.0.0.200:4000".parse().unwrap());
        assert_eq!(got.2, b"answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_are_pushed_matched_and_popped() {
    for attach in MODES {
        let lab = lab(1, 2, attach).await;
        let mut tenant = one_switch(&lab, attach).await;
        let [a, b] = lab.end_hosts() else {
            unreachable!()
        };
        // Table 0 tags; table 1 only passes VLAN 42, untagged again.
        let to = |port| RuleSpec::new(10).table(1).vlan(42).pop_vlan().output(port);
        tenant
            .rules(
                "s1",
                vec![
                    RuleSpec::new(10).push_vlan(42).goto(1).add(),
                    to(2).in_port(1).add(),
                    to(1).in_port(2).add(),
                ],
            )
            .await
            .unwrap();
        assert_reaches(&lab, a, b, b.ipv4());
        assert_reaches(&lab, b, a, a.ipv6());
    }
}
