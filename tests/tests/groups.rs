//! Groups of a switch on two hosts, by the command line: failover to another port, copies, counters, deletion with rules.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::time::{Duration, Instant};

use common::{MODES, PATIENCE, assert_reaches, lab, lime_ok, tenant};
use lime_tests::lab::{EndHost, Lab};
use lime_tests::traffic::reach;

/// A group's packets, and those of its buckets.
fn packets(lab: &Lab, group: &str) -> (u64, Vec<u64>) {
    let shown = lime_ok(lab, &["group", "show", "net/s1", group, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let buckets = shown["bucket_counters"].as_array().unwrap();
    let buckets = buckets.iter().map(|b| b["packets"].as_u64().unwrap());
    (shown["packets"].as_u64().unwrap(), buckets.collect())
}

/// Sends from one end host to another until the group's buckets have counted as asked for.
fn until(
    lab: &Lab,
    group: &str,
    (from, to): (&EndHost, &EndHost),
    counted: impl Fn(&[u64]) -> bool,
) {
    let deadline = Instant::now() + PATIENCE * 2;
    loop {
        let wait = Duration::from_millis(60);
        tokio::task::block_in_place(|| reach(from, to, to.ipv4().into(), wait)).unwrap();
        let (all, buckets) = packets(lab, group);
        if counted(&buckets) {
            return;
        }
        let logs = lab.logs();
        assert!(Instant::now() < deadline, "{all} {buckets:?}\n{logs}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_a_switch_on_two_hosts() {
    for attach in MODES {
        let lab = lab(2, 3, attach).await;
        let mut tenant = tenant(&lab, attach).await;
        tenant.switch("s1", "a").await.unwrap();
        for (port, end_host, host) in [(1, "h1", "a"), (2, "h2", "b"), (3, "h3", "b")] {
            tenant.port(&lab, "s1", port, end_host, host).await.unwrap();
        }
        let [h1, h2, h3] = lab.end_hosts() else {
            unreachable!()
        };
        let create = ["group", "create", "net/s1", "1", "--type", "ff"];
        let buckets = ["--bucket", "watch_port:2,output:2", "--bucket", "output:3"];
        lime_ok(&lab, &[&create[..], &buckets].concat());
        for rule in [
            "priority=5,arp,actions=flood",
            "priority=4,ip,in_port=1,actions=group:1",
            "priority=3,ip,actions=output:1",
        ] {
            lime_ok(&lab, &["rule", "add", "net/s1", rule]);
        }
        assert_reaches(&lab, h1, h2, h2.ipv4());
        // The group comes to the second instance with its snapshot.
        tenant.clone_switch("s1", "b").await.unwrap();
        assert_reaches(&lab, h1, h2, h2.ipv4());
        let (all, first) = packets(&lab, "1");
        assert!(all >= 2 && first == [all, 0], "{all} {first:?}");

        // The port is on host b, and what it decides is decided on host a.
        let b = lab.host("b").unwrap().links();
        b.set_up(&Lab::port_device("h2"), false).await.unwrap();
        until(&lab, "1", (h1, h2), |buckets| buckets[1] > 0);
        b.set_up(&Lab::port_device("h2"), true).await.unwrap();
        assert_reaches(&lab, h1, h2, h2.ipv4());

        // To both, each as if for it alone.
        let (before, _) = packets(&lab, "1");
        let to_h3 = format!(
            "mod_dl_dst:{},mod_nw_dst:{},output:3",
            h3.mac().map(|b| format!("{b:02x}")).join(":"),
            h3.ipv4()
        );
        let modify = ["group", "modify", "net/s1", "1", "--type", "all"];
        let buckets = ["--bucket", &to_h3, "--bucket", "mod_nw_tos:32,output:2"];
        lime_ok(&lab, &[&modify[..], &buckets].concat());
        assert_reaches(&lab, h1, h2, h2.ipv4());
        until(&lab, "1", (h1, h2), |buckets| {
            buckets.iter().all(|&n| n > 0)
        });
        let (after, buckets) = packets(&lab, "1");
        assert!(after > before, "the group's own counters go on");
        assert!(buckets.iter().all(|&n| n <= after - before), "{buckets:?}");

        lime_ok(&lab, &["group", "delete", "net/s1", "1"]);
        let rules = lime_ok(&lab, &["rule", "list", "net/s1"]);
        assert!(!rules.contains("group"), "{rules}");
        assert_eq!(rules.matches("actions=").count(), 2, "{rules}");
    }
}
