//! Other people's programs across a switch with ports on two hosts: ping, iperf3, HTTP, DNS; over IPv4 and IPv6.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};

use common::{MODES, PATIENCE, lab, tenant};
use lime_proto::v1::PortAttach;
use lime_tests::lab::{EndHost, Lab};
use lime_tests::rules::{FLOOD, RuleSpec};
use lime_tests::tenant::Tenant;
use lime_tests::traffic::reach;

/// A program that serves until it is dropped.
struct Server(Child);

impl Server {
    fn start(lab: &Lab, at: &EndHost, program: &str, args: &[&str]) -> Self {
        let mut command = lab.command(at.name(), program).unwrap();
        command.args(args).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(
            command
                .spawn()
                .unwrap_or_else(|e| panic!("{program} (`cargo xtask test` installs it): {e}")),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program prints; it must succeed.
#[track_caller]
fn run(lab: &Lab, at: &EndHost, program: &str, args: &[&str]) -> String {
    let mut command: Command = lab.command(at.name(), program).unwrap();
    let out = command
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program} (`cargo xtask test` installs it): {e}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{program} {args:?} at {}: {text}{}\n{}",
        at.name(),
        String::from_utf8_lossy(&out.stderr),
        lab.logs()
    );
    text
}

/// A switch on host a: h1 and h2 are there, h3 is on host b. Unicast by address, the rest flooded.
async fn network(lab: &Lab, attach: PortAttach) -> Tenant {
    network_with_mtus(lab, attach, [0; 2]).await
}

/// The same, with MTUs for the ports of h2 and h3.
async fn network_with_mtus(lab: &Lab, attach: PortAttach, [h2, h3]: [u32; 2]) -> Tenant {
    let mut tenant = tenant(lab, attach).await;
    tenant.switch("s1", "a").await.unwrap();
    let mut rules = vec![RuleSpec::new(1).output(FLOOD).add()];
    for (port, end_host, host, mtu) in [(1, "h1", "a", 0), (2, "h2", "a", h2), (3, "h3", "b", h3)] {
        let port = tenant.port_with_mtu(lab, "s1", port, end_host, host, mtu);
        let port = port.await.unwrap().port_no;
        let mac = lab.end_host(end_host).unwrap().mac();
        rules.push(RuleSpec::new(10).eth_dst(mac).output(port).add());
    }
    tenant.rules("s1", rules).await.unwrap();
    tenant
}

fn addresses(of: &EndHost) -> [IpAddr; 2] {
    [of.ipv4().into(), of.ipv6().into()]
}

fn in_url(address: IpAddr) -> String {
    match address {
        IpAddr::V4(a) => a.to_string(),
        IpAddr::V6(a) => format!("[{a}]"),
    }
}

/// Waits until the end hosts know each other's link-layer addresses. The first end host, and the others.
fn warm_up(lab: &Lab) -> (&EndHost, &[EndHost]) {
    let [h1, others @ ..] = lab.end_hosts() else {
        unreachable!()
    };
    for other in others {
        for address in addresses(other) {
            let reached = reach(h1, other, address, PATIENCE).unwrap();
            assert!(reached.yes(), "{address}\n{}", lab.logs());
        }
    }
    (h1, others)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_of_all_sizes_come_back() {
    for attach in MODES {
        let lab = lab(2, 3, attach).await;
        let _tenant = network(&lab, attach).await;
        tokio::task::block_in_place(|| {
            let (h1, others) = warm_up(&lab);
            // Without data; whole packets; one byte more; many fragments; the longest there is.
            for size in ["0", "56", "1472", "1473", "9000", "65507"] {
                for to in others.iter().flat_map(addresses) {
                    let to = to.to_string();
                    let args = ["-q", "-c", "3", "-i", "0.01", "-W", "5", "-s", size, &to];
                    let text = run(&lab, h1, "ping", &args);
                    assert!(
                        text.contains("3 received") && !text.contains("duplicates"),
                        "{attach:?} {size} {to}: {text}"
                    );
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_transfers_go_through_in_both_directions() {
    for attach in MODES {
        let lab = lab(2, 3, attach).await;
        let _tenant = network(&lab, attach).await;
        tokio::task::block_in_place(|| {
            let (h1, others) = warm_up(&lab);
            for from in others {
                for to in addresses(h1) {
                    iperf(&lab, from, h1, to, &["--bytes", "30M"]);
                    iperf(&lab, from, h1, to, &["--bytes", "30M", "--reverse"]);
                    // Each packet fills the MTU of 1500 bytes. On a busy machine iperf3's server reads too late now and then, and its socket drops
                    // some; that the network loses none is seen where senders and receivers are the lab's own.
                    let length = if to.is_ipv4() { "1472" } else { "1452" };
                    let udp = ["--udp", "--bitrate", "20M", "--length", length];
                    let end = iperf(&lab, from, h1, to, &[&udp[..], &["--bytes", "1M"]].concat());
                    let lost = end["sum"]["lost_percent"].as_f64();
                    assert!(lost.is_some_and(|l| l < 25.0), "{attach:?} {to}: {end}");
                }
            }
        });
    }
}

/// Runs a server for one client, and the client once the server answers; the report's `end`.
fn iperf(lab: &Lab, from: &EndHost, at: &EndHost, to: IpAddr, more: &[&str]) -> serde_json::Value {
    let _server = Server::start(lab, at, "iperf3", &["--server", "--one-off"]);
    let to = to.to_string();
    let args = [
        &["--client", &to, "--json", "--connect-timeout", "5000"],
        more,
    ]
    .concat();
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let out = lab
            .command(from.name(), "iperf3")
            .unwrap()
            .args(&args)
            .output()
            .unwrap();
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        // With a report in JSON it ends without a code also when it failed.
        if report["error"].is_null() {
            let moved = &report["end"]["sum_sent"]["bytes"];
            assert!(moved.as_u64().is_some_and(|n| n > 0), "{args:?}: {report}");
            return report["end"].clone();
        }
        // Until the server listens.
        let problem = report["error"].to_string();
        let wait = problem.contains("refused");
        assert!(
            wait && std::time::Instant::now() < deadline,
            "{args:?}: {problem}\n{}",
            lab.logs()
        );
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn web_pages_and_names_are_served() {
    const SIZE: usize = 3_000_000;
    for attach in MODES {
        let lab = lab(2, 3, attach).await;
        let _tenant = network(&lab, attach).await;
        let folder = lab.name().scratch().join("web");
        std::fs::create_dir(&folder).unwrap();
        let page: Vec<u8> = (0..SIZE).map(|i| ((i * i) >> 7) as u8).collect();
        std::fs::write(folder.join("page"), &page).unwrap();
        let home = folder.to_str().unwrap();
        tokio::task::block_in_place(|| {
            let (h1, others) = warm_up(&lab);
            let web = ["httpd", "-f", "-p", "[::]:80", "-h", home];
            let _web = Server::start(&lab, h1, "busybox", &web);
            let record = format!("--host-record=h1.lime.test,{},{}", h1.ipv4(), h1.ipv6());
            let names = [
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-hosts",
            ];
            let names = [&names[..], &["--no-resolv", "--user=root", &record]].concat();
            let _names = Server::start(&lab, h1, "dnsmasq", &names);
            for from in others {
                for server in addresses(h1) {
                    let at = format!("@{server}");
                    let dig = ["+short", "+tries=10", "+time=1", &at, "h1.lime.test"];
                    let ask =
                        |kind, how| run(&lab, from, "dig", &[&dig[..], &[kind, how]].concat());
                    assert_eq!(ask("A", "+notcp").trim(), h1.ipv4().to_string());
                    assert_eq!(ask("AAAA", "+tcp").trim(), h1.ipv6().to_string());

                    let to = folder.join("got");
                    let url = format!("http://{}/page", in_url(server));
                    let retry = ["--retry", "10", "--retry-connrefused", "--max-time", "20"];
                    let curl = ["-sS", "--fail", "-o", to.to_str().unwrap(), &url];
                    run(&lab, from, "curl", &[&curl[..], &retry].concat());
                    assert!(std::fs::read(&to).unwrap() == page, "{attach:?} {url}");
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_find_out_the_mtu_of_a_path() {
    const SIZE: usize = 1_000_000;
    for attach in MODES {
        let lab = lab(2, 3, attach).await;
        // None of the end hosts knows.
        let _tenant = network_with_mtus(&lab, attach, [1300, 1400]).await;
        let folder = lab.name().scratch().join("web");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("page"), vec![7; SIZE]).unwrap();
        let home = folder.to_str().unwrap();
        tokio::task::block_in_place(|| {
            let (h1, others) = warm_up(&lab);
            let (h2, h3) = (&others[0], &others[1]);
            let web = ["httpd", "-f", "-p", "[::]:80", "-h", home];
            let _web = Server::start(&lab, h1, "busybox", &web);
            for client in [h2, h3] {
                for server in addresses(h1) {
                    // TCP, whose segments are as long as the end hosts' own MTU allows at first.
                    let url = format!("http://{}/page", in_url(server));
                    let retry = ["--retry", "10", "--retry-connrefused", "--max-time", "20"];
                    let curl = ["-sS", "--fail", "-o", "/dev/null", "-w", "%{size_download}"];
                    let got = run(&lab, client, "curl", &[&curl[..], &retry, &[&url]].concat());
                    assert_eq!(got, SIZE.to_string(), "{attach:?} {url}");
                }
            }
            // On one host; to a port of another; from a port of another, where there is no instance.
            for (from, to, mtu) in [(h1, h2, 1300), (h1, h3, 1400), (h3, h2, 1300)] {
                for to in addresses(to) {
                    told_the_mtu(&lab, from, to, mtu);
                }
            }
            // The device's MTU counts when it is smaller, also when it becomes so.
            let mut narrow = lab.command("b", "ip").unwrap();
            let device = Lab::port_device("h3");
            let narrow = narrow.args(["link", "set", &device, "mtu", "1290"]);
            assert!(narrow.status().unwrap().success());
            for to in addresses(h3) {
                told_the_mtu(&lab, h1, to, 1290);
            }
        });
    }
}

/// A packet that fits the MTU of the way gets an answer. Of one that is longer by a byte the sender is told what would fit.
#[track_caller]
fn told_the_mtu(lab: &Lab, from: &EndHost, to: IpAddr, mtu: u32) {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    let to_text = to.to_string();
    let ping = ["-q", "-c", "1", "-W", "5", "-M", "do", &to_text, "-s"];
    let fits = (mtu - headers).to_string();
    run(lab, from, "ping", &[&ping[..], &[&fits]].concat());
    let size = (mtu - headers + 1).to_string();
    let ping = ["-c", "1", "-W", "1", "-M", "do", "-s", &size, &to_text];
    let told = if to.is_ipv4() { "mtu = " } else { "mtu=" };
    let told = format!("{told}{mtu}");
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        // What was found out before is of this end host's routes by now; without that it is told again.
        for family in ["-4", "-6"] {
            run(lab, from, "ip", &[family, "route", "flush", "cache"]);
        }
        let out = lab
            .command(from.name(), "ping")
            .unwrap()
            .args(ping)
            .output();
        let text = String::from_utf8_lossy(&out.unwrap().stdout).into_owned();
        if text.contains(&told) {
            return;
        }
        let waits = std::time::Instant::now() < deadline;
        assert!(waits, "{} to {to}: {text}\n{}", from.name(), lab.logs());
    }
}
