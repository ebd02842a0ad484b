//! The data path library on the real kernel: loading, pinning, re-adoption, attaching. Needs root, like everything that loads kernel programs.
#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use lime_core::flow::{Action, Field, FieldMatch, Match, Rule};
use lime_core::model::PacketIns;
use lime_core::{Epoch, NetworkId, PortId, PortNo, RuleId, SwitchId};
use switch_abi::{maps, programs};
use switch_agent::datapath::{
    AttachMode, Datapath, DatapathError, Limits, Place, PortSettings, SwitchSettings, grace_period,
};

const NET: NetworkId = NetworkId(3);
const SWITCH: SwitchId = SwitchId(4);

/// A directory for pins that is removed with everything in it.
struct PinDir(PathBuf);

impl PinDir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("/sys/fs/bpf/lime-test-{}-{n}", std::process::id()).into())
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    /// A TC program on a device: by a link, or (kernels before 6.6) by a filter.
    fn has_tc(&self, ifindex: u32) -> bool {
        self.has(&format!("links/{ifindex}-tc")) || self.has(&format!("links/{ifindex}-clsact"))
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn limits() -> Limits {
    Limits {
        rules: 2000,
        ports: 100,
        networks: 4,
        switches: 4,
        peers: 4,
        event_ring_bytes: 1 << 16,
        flow_cache: 64,
    }
}

fn rule(mac: u128) -> Rule {
    let field = Field::EthDst;
    let matching = Match::new([FieldMatch {
        field,
        value: mac,
        mask: field.full_mask(),
    }]);
    Rule {
        table: 0,
        priority: 1,
        cookie: 0,
        matching: matching.unwrap(),
        actions: vec![Action::output(PortNo(1))],
        goto_table: None,
        idle_timeout: 0,
        hard_timeout: 0,
        ..Rule::default()
    }
}

fn furnish(dp: &mut Datapath) {
    dp.set_network(NET, 77, false).unwrap();
    let switch = SwitchSettings {
        id: SWITCH,
        instance: true,
        join_epoch: Epoch::ZERO,
        retire_epoch: Epoch::ZERO,
        relay_host: None,
        hold: false,
        packet_ins: PacketIns::default(),
    };
    dp.set_switch(NET, &switch).unwrap();
    let port = PortSettings {
        id: PortId(1),
        switch: SWITCH,
        port_no: PortNo(1),
        place: Place::Local { ifindex: 60000 },
        down: false,
        dead: false,
        no_flood: false,
        mtu: 1500,
    };
    dp.set_port(NET, &port).unwrap();
}

/// Runs `test` on a thread in a network namespace of its own, with a veth pair; gives it the indices of both ends.
fn in_namespace(test: impl FnOnce(u32, u32) + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            ip("link add left type veth peer name right");
            ip("link set left up");
            ip("link set right up");
            let index = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
            test(index("left"), index("right"));
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn ip(arguments: &str) {
    // A child has the namespace of the thread that starts it.
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn details(device: &str) -> String {
    let output = Command::new("ip")
        .args(["-d", "link", "show", device])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_killed_agents_data_path_is_adopted() {
    let dir = PinDir::new();
    let (mut dp, adopted) = Datapath::open(dir.path(), &limits()).unwrap();
    assert!(adopted.networks.is_empty());
    for name in [
        maps::META,
        maps::RULES,
        maps::EVENTS,
        programs::TC_PORT,
        programs::XDP_UNDERLAY,
    ] {
        assert!(dir.has(name), "{name} is pinned");
    }
    furnish(&mut dp);
    let rules: Vec<_> = (1..=500).map(|n| (RuleId(n), rule(n.into()))).collect();
    dp.stage(NET, Epoch(1), Some(SWITCH), &rules, &[]).unwrap();
    dp.raise_clock(NET, Epoch(1)).unwrap();
    dp.stage(NET, Epoch(2), Some(SWITCH), &[], &[RuleId(7), RuleId(8)])
        .unwrap();
    let (capacity, ports) = (dp.capacity(), dp.ports(NET).unwrap());
    drop(dp);

    let other_limits = Limits {
        rules: 10,
        ..limits()
    };
    let (mut dp, adopted) = Datapath::open(dir.path(), &other_limits).unwrap();
    assert_eq!(
        *dp.limits(),
        limits(),
        "they keep the limits that they were made with"
    );
    let network = &adopted.networks[0];
    assert_eq!(
        (
            network.id,
            network.clock,
            network.staged,
            &network.switches[..]
        ),
        (NET, Epoch(1), Epoch(2), &[SWITCH][..])
    );
    assert_eq!((dp.capacity(), dp.ports(NET).unwrap()), (capacity, ports));
    assert_eq!(dp.rule_counters(NET, Some(SWITCH)).unwrap().len(), 500);
    dp.raise_clock(NET, Epoch(2)).unwrap();
    assert_eq!(dp.collect(NET, Epoch(2)).unwrap(), 2);
    dp.remove_network(NET).unwrap();
    drop(dp);
    let (dp, adopted) = Datapath::open(dir.path(), &limits()).unwrap();
    assert!(adopted.networks.is_empty());
    assert_eq!(dp.capacity().rules, limits().rules);
}

#[test]
fn an_interrupted_load_is_done_again() {
    let dir = PinDir::new();
    let (mut dp, _) = Datapath::open(dir.path(), &limits()).unwrap();
    furnish(&mut dp);
    drop(dp);
    std::fs::remove_file(dir.path().join(maps::META)).unwrap();
    let (dp, adopted) = Datapath::open(dir.path(), &limits()).unwrap();
    assert!(adopted.networks.is_empty() && dp.networks().is_empty());
}

#[test]
fn maps_of_another_abi_are_not_touched() {
    let dir = PinDir::new();
    drop(Datapath::open(dir.path(), &limits()).unwrap());
    let map = aya::maps::MapData::from_pin(dir.path().join(maps::META)).unwrap();
    let mut map: aya::maps::Array<_, switch_abi::Meta> =
        aya::maps::Array::try_from(aya::maps::Map::Array(map)).unwrap();
    let mut meta = map.get(&0, 0).unwrap();
    meta.abi_version += 1;
    map.set(0, meta, 0).unwrap();
    let refused = Datapath::open(dir.path(), &limits()).err().unwrap();
    assert!(
        matches!(refused, DatapathError::Unsupported { .. }),
        "{refused}"
    );
}

#[test]
fn a_data_path_has_one_agent() {
    let dir = PinDir::new();
    let (first, _) = Datapath::open(dir.path(), &limits()).unwrap();
    let refused = Datapath::open(dir.path(), &limits()).err().unwrap();
    assert!(matches!(refused, DatapathError::InUse { .. }), "{refused}");
    drop(first);
    Datapath::open(dir.path(), &limits()).unwrap();
}

#[test]
fn the_event_ring_is_taken_once() {
    let dir = PinDir::new();
    let (mut dp, _) = Datapath::open(dir.path(), &limits()).unwrap();
    let mut ring = dp.event_ring().unwrap();
    assert!(ring.as_raw_fd() >= 0);
    assert_eq!(ring.drain(|_, _| {}), 0);
    assert!(matches!(dp.event_ring(), Err(DatapathError::InUse { .. })));
}

#[test]
fn programs_outlive_the_agent_and_are_adopted() {
    let dir = PinDir::new();
    in_namespace(|left, right| {
        let (mut dp, _) = Datapath::open(dir.path(), &limits()).unwrap();
        assert_eq!(
            dp.check_attach(left, AttachMode::Auto).unwrap(),
            AttachMode::Tc
        );
        assert_eq!(
            dp.attach_port(left, AttachMode::Auto).unwrap(),
            AttachMode::Tc
        );
        assert_eq!(
            dp.attach_underlay(right, AttachMode::Xdp).unwrap(),
            AttachMode::Xdp
        );
        drop(dp);
        assert!(dir.has_tc(left) && !dir.has(&format!("links/{left}-xdp")));
        assert!(dir.has_tc(right) && dir.has(&format!("links/{right}-xdp")));
        assert!(details("right").contains("prog/xdp"));

        let (mut dp, _) = Datapath::open(dir.path(), &limits()).unwrap();
        let before = details("right");
        assert_eq!(
            dp.attach_underlay(right, AttachMode::Xdp).unwrap(),
            AttachMode::Xdp
        );
        assert_eq!(details("right"), before, "the same program, not another");
        assert_eq!(
            dp.attach_underlay(right, AttachMode::Tc).unwrap(),
            AttachMode::Tc
        );
        assert!(!details("right").contains("prog/xdp"));
        assert_eq!(
            dp.attach_underlay(right, AttachMode::XdpGeneric).unwrap(),
            AttachMode::XdpGeneric
        );
        dp.detach(left).unwrap();
        dp.detach(right).unwrap();
        assert!(!details("right").contains("prog/xdp"));
        assert!(!dir.has_tc(right));
    });
}

#[test]
fn a_device_that_came_back_under_its_old_index_is_attached_again() {
    let dir = PinDir::new();
    in_namespace(|left, _| {
        let (mut dp, _) = Datapath::open(dir.path(), &limits()).unwrap();
        dp.attach_port(left, AttachMode::Xdp).unwrap();
        ip("link del left");
        ip(&format!(
            "link add left index {left} type veth peer name right"
        ));
        assert!(!details("left").contains("prog/xdp"));
        dp.attach_port(left, AttachMode::Xdp).unwrap();
        assert!(details("left").contains("prog/xdp"));
        ip("link del left");
        assert!(matches!(
            dp.attach_port(left, AttachMode::Auto),
            Err(DatapathError::NotFound { .. })
        ));
        dp.detach(left).unwrap();
    });
}

#[test]
fn a_device_stays_as_it_is_when_xdp_is_refused() {
    let dir = PinDir::new();
    in_namespace(|_, _| {
        let (mut dp, _) = Datapath::open(dir.path(), &limits()).unwrap();
        // The loopback device has no native XDP.
        let refused = dp.attach_port(1, AttachMode::Xdp);
        assert!(
            matches!(refused, Err(DatapathError::Unsupported { .. })),
            "{refused:?}"
        );
        assert!(!dir.has_tc(1) && !dir.has("links/1-xdp"));
        assert_eq!(dp.attach_port(1, AttachMode::Auto).unwrap(), AttachMode::Tc);
        dp.attach_port(1, AttachMode::Xdp).unwrap_err();
        assert!(dir.has_tc(1), "still in TC mode");
    });
}

#[test]
fn anothers_xdp_program_is_left_alone() {
    let (mine, theirs) = (PinDir::new(), PinDir::new());
    in_namespace(|left, _| {
        let (mut other, _) = Datapath::open(theirs.path(), &limits()).unwrap();
        other.attach_port(left, AttachMode::Xdp).unwrap();
        let (mut dp, _) = Datapath::open(mine.path(), &limits()).unwrap();
        for mode in [AttachMode::Auto, AttachMode::Tc, AttachMode::Xdp] {
            match dp.attach_port(left, mode) {
                Err(DatapathError::InUse { by, .. }) => assert!(by.contains("lime_xdp"), "{by}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(
            dp.check_attach(left, AttachMode::Tc),
            Err(DatapathError::InUse { .. })
        ));
    });
}

#[test]
fn a_newer_agents_programs_take_the_place_of_the_pinned_ones() {
    let dir = PinDir::new();
    in_namespace(|left, right| {
        let (mut dp, _) = Datapath::open(dir.path(), &limits()).unwrap();
        furnish(&mut dp);
        dp.attach_port(left, AttachMode::Xdp).unwrap();
        dp.attach_underlay(right, AttachMode::Xdp).unwrap();
        drop(dp);
        let before = details("left");
        drop(Datapath::open(dir.path(), &limits()).unwrap());
        assert_eq!(
            details("left"),
            before,
            "the same object is not loaded again"
        );

        // As if the programs were of another build.
        let map = aya::maps::MapData::from_pin(dir.path().join("OBJECT")).unwrap();
        let mut map: aya::maps::Array<_, u64> =
            aya::maps::Array::try_from(aya::maps::Map::Array(map)).unwrap();
        map.set(0, 0, 0).unwrap();
        let (mut dp, adopted) = Datapath::open(dir.path(), &limits()).unwrap();
        assert_eq!(adopted.networks.len(), 1);
        let after = details("left");
        assert!(
            after.contains("prog/xdp") && after != before,
            "{before}{after}"
        );
        // What is attached now is what is pinned now: nothing is attached anew.
        dp.attach_port(left, AttachMode::Xdp).unwrap();
        dp.attach_underlay(right, AttachMode::Xdp).unwrap();
        assert_eq!(details("left"), after);
        assert!(!dir.has(&format!("{}_new", programs::TC_PORT)));
        drop(dp);
        drop(Datapath::open(dir.path(), &limits()).unwrap());
        assert_eq!(details("left"), after);
    });
}

#[test]
fn a_bpffs_is_mounted_only_where_it_hides_nothing() {
    let dir = std::env::temp_dir().join(format!("lime-test-bpffs-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("full/of")).unwrap();
    let refused = Datapath::open(&dir.join("full"), &limits()).err().unwrap();
    assert!(
        matches!(refused, DatapathError::Invalid { .. }),
        "{refused}"
    );
    let own = dir.join("own");
    drop(Datapath::open(&own, &limits()).unwrap());
    drop(Datapath::open(&own, &limits()).unwrap());
    nix::mount::umount(&own).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn grace_periods_end() {
    grace_period().unwrap();
}
