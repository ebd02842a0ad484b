//! Meters of a switch on two hosts, by the command line: the rate that they hold, counters, a restart of everybody, deletion with rules.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::time::{Duration, Instant};

use common::{MODES, PATIENCE, assert_reaches, lab, lime, lime_ok, tenant};
use lime_tests::lab::{EndHost, Lab};
use lime_tests::traffic::reach;

/// A meter's packets, and those that its first band was applied to.
fn packets(lab: &Lab) -> (u64, u64) {
    let shown = lime_ok(lab, &["meter", "stats", "net/s1", "1", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let meter = &shown[0];
    assert_eq!(meter["flow_count"], 2, "{meter}");
    let band = meter["band_counters"][0]["packets"].as_u64().unwrap();
    (meter["packets_in"].as_u64().unwrap(), band)
}

/// Packets of the rules that use a meter.
fn of_rules(lab: &Lab) -> u64 {
    let rules = lime_ok(lab, &["rule", "list", "net/s1", "--json"]);
    let all = rules.lines().map(serde_json::from_str);
    let all = all.map(Result::<serde_json::Value, _>::unwrap);
    let users = all.filter(|r| r["flow"].as_str().unwrap().contains("meter:1"));
    users.map(|r| r["packets"].as_u64().unwrap()).sum()
}

/// Sends from one end host to another, answered or not.
fn send(from: &EndHost, to: &EndHost) {
    let wait = Duration::from_millis(100);
    tokio::task::block_in_place(|| reach(from, to, to.ipv4().into(), wait)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn meters_of_a_switch_on_two_hosts() {
    for attach in MODES {
        let lab = lab(2, 2, attach).await;
        let mut tenant = tenant(&lab, attach).await;
        tenant.switch("s1", "a").await.unwrap();
        for (port, end_host, host) in [(1, "h1", "a"), (2, "h2", "b")] {
            tenant.port(&lab, "s1", port, end_host, host).await.unwrap();
        }
        let [h1, h2] = lab.end_hosts() else {
            unreachable!()
        };
        let unknown = ["rule", "add", "net/s1", "ip,actions=meter:1,output:2"];
        assert!(!lime(&lab, &unknown).status.success(), "there is no meter");
        let meter = |command: &str, text: &str| {
            lime_ok(&lab, &["meter", command, "net/s1", text]);
        };
        meter("add", "meter=1,pktps,bands=type=drop,rate=100000");
        for rule in [
            "priority=5,arp,actions=flood",
            "priority=4,ip,in_port=1,actions=meter:1,output:2",
            "priority=4,ip,in_port=2,actions=meter:1,output:1",
        ] {
            lime_ok(&lab, &["rule", "add", "net/s1", rule]);
        }
        assert_reaches(&lab, h1, h2, h2.ipv4());
        // It comes to the second instance with its snapshot; both count.
        lime_ok(&lab, &["switch", "clone", "net/s1", "--to", "b"]);
        assert_reaches(&lab, h1, h2, h2.ipv4());
        let (all, dropped) = packets(&lab);
        assert!(all >= 4 && dropped == 0, "{all} {dropped}");
        // Both at rest.
        let deadline = Instant::now() + PATIENCE;
        while of_rules(&lab) != packets(&lab).0 {
            assert!(Instant::now() < deadline, "{}", lab.logs());
        }

        // Next to nothing.
        let began = Instant::now();
        meter(
            "modify",
            "meter=1,pktps,burst,bands=type=drop,rate=2,burst_size=1",
        );
        let (before, _) = packets(&lab);
        assert!(before >= all, "the counts go on: {before} {all}");
        let deadline = Instant::now() + PATIENCE * 2;
        let (after, dropped) = loop {
            send(h1, h2);
            let (after, dropped) = packets(&lab);
            if dropped >= 10 {
                break (after, dropped);
            }
            assert!(
                Instant::now() < deadline,
                "{after} {dropped}\n{}",
                lab.logs()
            );
        };
        let passed = (after - before - dropped) as f64;
        // Each of two instances lets a burst of one packet pass, and two in a second.
        let allowed = 2.0 * (1.0 + 2.0 * began.elapsed().as_secs_f64());
        assert!(passed <= allowed, "{passed} {allowed}");

        // Counters go on over the end of an instance, and over restarts.
        lime_ok(&lab, &["switch", "retire", "net/s1", "--from", "b"]);
        let retired = packets(&lab);
        assert!(retired >= (after, dropped), "{retired:?}");
        lab.kill_coordinator();
        lab.kill_agent("a").unwrap();
        lab.start_coordinator().unwrap();
        lab.start_agent("a").unwrap();
        lab.wait_ready().await.unwrap();
        let restarted = packets(&lab);
        assert!(restarted >= retired, "{restarted:?} {retired:?}");
        // What was measured is still in the maps.
        let deadline = Instant::now() + PATIENCE * 2;
        while packets(&lab).1 == restarted.1 {
            send(h1, h2);
            assert!(Instant::now() < deadline, "{}", lab.logs());
        }
        meter("modify", "meter=1,pktps,bands=type=drop,rate=100000");
        assert_reaches(&lab, h1, h2, h2.ipv4());

        meter("delete", "meter=1");
        let rules = lime_ok(&lab, &["rule", "list", "net/s1"]);
        assert!(!rules.contains("meter"), "{rules}");
        assert_eq!(rules.matches("actions=").count(), 1, "{rules}");
    }
}
