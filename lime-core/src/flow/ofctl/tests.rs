//! What is understood, what is refused and how, and that what is printed reads back.

use super::*;
use crate::PortNo;
use crate::flow::{ALL_TABLES, Action, Field, FlowMod};

mod random;

fn canonical(text: &str) -> String {
    match parse_rule(text) {
        Ok(rule) => format_rule(&rule),
        Err(e) => panic!("{text}: {e}"),
    }
}

/// The part behind `table=0,priority=32768,`.
fn short(text: &str) -> String {
    let text = canonical(&format!("{text},actions=drop"));
    let text = text.strip_prefix("table=0,priority=32768").unwrap();
    let text = text.strip_suffix(",actions=drop").unwrap();
    text.trim_start_matches(',').to_owned()
}

fn actions_of(text: &str) -> String {
    canonical(text).split_once("actions=").unwrap().1.to_owned()
}

fn refused(text: &str) -> String {
    match parse_rule(text) {
        Ok(rule) => panic!("{text}: read as {}", format_rule(&rule)),
        Err(e) => e.to_string(),
    }
}

#[test]
fn a_whole_rule() {
    assert_eq!(
        canonical(
            "table=0,priority=100,cookie=0x1,in_port=1,ip,nw_src=10.0.0.0/24,nw_proto=6,tp_dst=80,dl_vlan=10,\
             idle_timeout=5,hard_timeout=9,actions=mod_dl_dst:02:00:00:00:00:01,output:2"
        ),
        "table=0,priority=100,cookie=0x1,idle_timeout=5,hard_timeout=9,tcp,in_port=1,dl_vlan=10,\
         nw_src=10.0.0.0/24,tp_dst=80,actions=set_field:02:00:00:00:00:01->eth_dst,output:2"
    );
}

#[test]
fn names_and_abbreviations() {
    for (text, expected) in [
        ("", ""),
        ("tcp,tcp_dst=80", "tcp,tp_dst=80"),
        ("tp_dst=80,tcp", "tcp,tp_dst=80"),
        ("udp6,tp_src=0x10/0xfff0", "udp6,tp_src=0x10/0xfff0"),
        ("dl_type=0x800,nw_proto=17,udp_src=5", "udp,tp_src=5"),
        ("eth_type=0x88cc", "dl_type=0x88cc"),
        ("sctp", "sctp"),
        ("ip,nw_proto=89", "ip,nw_proto=89"),
        ("ip,ip_src=10.1.2.3/16", "ip,nw_src=10.1.0.0/16"),
        (
            "ip,nw_dst=10.0.0.1/255.0.0.255",
            "ip,nw_dst=10.0.0.1/255.0.0.255",
        ),
        ("ip,nw_src=0.0.0.0/0", "ip"),
        ("ip,nw_src=*", "ip"),
        ("ip,nw_tos=184", "ip,nw_tos=184"),
        ("ip,ip_dscp=46,nw_ecn=1", "ip,nw_tos=184,nw_ecn=1"),
        ("ipv6,ipv6_src=fd00::1/64", "ipv6,ipv6_src=fd00::/64"),
        (
            "icmp,icmp_type=8,icmp_code=0",
            "icmp,icmp_type=8,icmp_code=0",
        ),
        ("icmp6,icmp_type=135", "icmp6,icmp_type=135"),
        ("icmp6,icmpv6_type=135", "icmp6,icmp_type=135"),
        (
            "arp,nw_src=10.0.0.1,nw_proto=1",
            "arp,arp_spa=10.0.0.1,arp_op=1",
        ),
        ("arp,arp_tpa=10.0.0.0/8", "arp,arp_tpa=10.0.0.0/8"),
        (
            "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
            "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
        ),
        ("eth_src=2:0:0:0:0:a", "dl_src=02:00:00:00:00:0a"),
        ("dl_vlan=0", "dl_vlan=0"),
        ("dl_vlan=0xffff", "vlan_tci=0x0000/0x1fff"),
        ("vlan_tci=0", "vlan_tci=0x0000/0x1fff"),
        ("vlan_tci=0x1005/0x1fff", "dl_vlan=5"),
        ("vlan_tci=0x1000/0x1000", "vlan_vid=0x1000/0x1000"),
        ("vlan_tci=0x7005", "dl_vlan=5,dl_vlan_pcp=3"),
        ("dl_vlan_pcp=3", "vlan_vid=0x1000/0x1000,dl_vlan_pcp=3"),
        ("vlan_vid=0x1005", "dl_vlan=5"),
        ("tcp,dl_type=0x0800,nw_proto=6", "tcp"),
        ("IP,NW_DST=10.0.0.1", "ip,nw_dst=10.0.0.1"),
        (
            "in_port=local,in_phy_port=4294967294",
            "in_port=LOCAL,in_phy_port=LOCAL",
        ),
        (
            "metadata=0x5/0xf,tun_id=7,in_port=1,in_phy_port=1",
            "tun_id=0x7,metadata=0x5/0xf,in_port=1,in_phy_port=1",
        ),
        ("arp,arp_sha=2:0:0:0:0:a", "arp,arp_sha=02:00:00:00:00:0a"),
        ("sctp,sctp_dst=80", "sctp,tp_dst=80"),
        ("ipv6,ipv6_label=0x10/0xf0", "ipv6,ipv6_label=0x10/0xf0"),
        (
            "icmp6,icmp_type=135,nd_target=fd00::1,nd_sll=02:00:00:00:00:01",
            "icmp6,icmp_type=135,nd_target=fd00::1,nd_sll=02:00:00:00:00:01",
        ),
        (
            "mpls,mpls_label=3,mpls_tc=1,mpls_bos=1",
            "mpls,mpls_label=3,mpls_tc=1,mpls_bos=1",
        ),
        ("dl_type=0x88e7,pbb_isid=5", "dl_type=0x88e7,pbb_isid=5"),
    ] {
        assert_eq!(short(text), expected, "{text}");
        assert_eq!(short(expected), expected);
    }
}

#[test]
fn actions_of_all_kinds() {
    for (text, expected) in [
        ("actions=drop", "drop"),
        (
            "ip,actions=mod_nw_ttl:9,dec_ttl,mod_nw_ecn:1,push_mpls:0x8847,set_mpls_label:17,set_mpls_ttl(3),dec_mpls_ttl,copy_ttl_in",
            "mod_nw_ttl:9,dec_ttl,set_field:1->ip_ecn,push_mpls:0x8847,set_field:17->mpls_label,set_mpls_ttl(3),dec_mpls_ttl,copy_ttl_in",
        ),
        (
            "ip,actions=1,clear_actions,write_actions(output:2,dec_ttl),write_metadata:0x5/0xf,goto_table:2",
            "output:1,clear_actions,write_actions(dec_ttl,output:2),write_metadata:0x5/0xf,goto_table:2",
        ),
        (
            "actions=push_pbb:0x88e7,set_field:5->pbb_isid,set_queue:3,set_tunnel:9,write_metadata:7",
            "push_pbb:0x88e7,set_field:5->pbb_isid,set_queue:3,set_field:0x9->tun_id,write_metadata:0x7",
        ),
        ("actions=", "drop"),
        ("actions=meter:7,output:1", "meter:7,output:1"),
        ("actions=meter:7", "meter:7"),
        ("actions=2", "output:2"),
        ("actions=output=2", "output:2"),
        (
            "actions=output:in_port,IN_PORT,flood,ALL,local,output:LOCAL",
            "IN_PORT,IN_PORT,FLOOD,ALL,LOCAL,LOCAL",
        ),
        ("actions=controller", "CONTROLLER:65535"),
        ("actions=CONTROLLER:128", "CONTROLLER:128"),
        ("actions=controller(max_len=64,id=0)", "CONTROLLER:64"),
        ("actions=group:1,goto_table:3", "group:1,goto_table:3"),
        (
            "tcp,actions=mod_nw_src:10.0.0.1,mod_tp_dst:80,mod_nw_tos:184",
            "set_field:10.0.0.1->ip_src,set_field:80->tcp_dst,set_field:46->ip_dscp",
        ),
        ("udp6,actions=mod_tp_src:9", "set_field:9->udp_src"),
        (
            "ipv6,actions=set_field:fd00::1->ipv6_dst",
            "set_field:fd00::1->ipv6_dst",
        ),
        (
            "ip,actions=set_field:10.0.0.1->nw_dst",
            "set_field:10.0.0.1->ip_dst",
        ),
        (
            "actions=push_vlan:0x8100,set_vlan_vid:5,set_vlan_pcp:2",
            "push_vlan:0x8100,mod_vlan_vid:5,set_field:2->vlan_pcp",
        ),
        ("dl_vlan=3,actions=strip_vlan,1", "pop_vlan,output:1"),
        (
            "dl_vlan=3,actions=mod_vlan_vid:5,1",
            "mod_vlan_vid:5,output:1",
        ),
        (
            "dl_vlan=0xffff,actions=mod_vlan_vid:5,mod_vlan_pcp:1",
            "push_vlan:0x8100,mod_vlan_vid:5,set_field:1->vlan_pcp",
        ),
    ] {
        assert_eq!(actions_of(text), expected, "{text}");
    }
}

#[test]
fn a_line_of_dump_flows_reads_back() {
    assert_eq!(
        canonical(
            " cookie=0x7, duration=12.5s, table=3, n_packets=10, n_bytes=900, idle_age=3, \
             priority=100,ip,nw_dst=10.0.0.2 actions=output:2"
        ),
        "table=3,priority=100,cookie=0x7,ip,nw_dst=10.0.0.2,actions=output:2"
    );
}

#[test]
fn errors_say_where_and_how_to_mend() {
    for (text, expected) in [
        (
            "priority=100,nw_dest=10.0.0.1,actions=drop",
            "column 14: unknown field \"nw_dest\"; did you mean \"nw_dst\"?",
        ),
        (
            "ip,nw_dst=10.0.0,actions=drop",
            "column 4: nw_dst: \"10.0.0\" is not an IPv4 address such as 10.0.0.1, perhaps with a mask behind it (/24)",
        ),
        (
            "nw_dst=10.0.0.1,actions=drop",
            "column 1: Ipv4Dst needs eth_type 0x0800 (ip); write the protocol in front",
        ),
        (
            "ip,tp_dst=80,actions=drop",
            "column 4: tp_dst: which protocol? The match must say tcp, udp, sctp, icmp, tcp6, udp6, sctp6 or icmp6 (or write tcp_dst or udp_dst)",
        ),
        (
            "ip,nw_dst=10.0.0.1",
            "column 19: a rule ends in its actions: add \"actions=output:PORT\", or \"actions=drop\"",
        ),
        (
            "ip,output:2",
            "column 4: output:2 is not supported: actions come last, behind actions=",
        ),
        (
            "actions=resubmit(,3)",
            "column 9: resubmit is not supported: end the actions with goto_table:3",
        ),
        (
            "actions=output:2,meter:3",
            "column 18: meter is not supported: write each once and in this order: meter, actions, clear_actions, write_actions, write_metadata, goto_table",
        ),
        (
            "actions=meter:1,meter:3",
            "column 17: meter is not supported: write each once and in this order: meter, actions, clear_actions, write_actions, write_metadata, goto_table",
        ),
        (
            "actions=meter:0",
            "column 1: meter:0x0: meter numbers are 1 to 0xffff0000",
        ),
        (
            "actions=normal",
            "column 9: normal is not supported: a virtual switch only does what its rules say; write rules, or use flood",
        ),
        (
            "actions=outptu:3",
            "column 9: unknown action \"outptu\"; did you mean \"output\"?",
        ),
        (
            "actions=output:2,priority=7",
            "column 18: priority is not supported: fields and keys come before actions=, which is last",
        ),
        (
            "tpc,actions=drop",
            "column 1: unknown field \"tpc\"; did you mean \"tcp\"?",
        ),
        (
            "prioriy=1,actions=drop",
            "column 1: unknown field \"prioriy\"; did you mean \"priority\"?",
        ),
        (
            "nwsrc=1,actions=drop",
            "column 1: unknown field \"nwsrc\"; did you mean \"nw_src\"?",
        ),
        (
            "actions=output",
            "column 9: output needs a value: a port number, in_port, flood, all, local or controller",
        ),
        (
            "actions=drop,output:2",
            "column 9: drop must be the only action",
        ),
        (
            "actions=goto_table:1,2",
            "column 22: goto_table must be the last action",
        ),
        (
            "actions=controller(max_len=1",
            "column 19: the brackets do not match",
        ),
        (
            "priority=65536,actions=drop",
            "column 1: priority: \"65536\" is not a number from 0 to 65535",
        ),
        (
            "tcp,udp,actions=drop",
            "column 5: udp says something else about ip_proto than what comes before it",
        ),
        ("tcp=1,actions=drop", "column 1: tcp takes no value"),
        (
            "reg0=1,actions=drop",
            "column 1: reg0 is not supported: there are no registers; use more tables instead",
        ),
        (
            "table=1,actions=goto_table:1",
            "column 9: goto_table:1 in table 1: packets can only go on to a later table",
        ),
        (
            "ip,actions=mod_tp_dst:80",
            "column 12: mod_tp_dst: which protocol? The match must say tcp, udp, sctp, tcp6, udp6 or sctp6; in a packet-out write set_field:PORT->tcp_dst or set_field:PORT->udp_dst",
        ),
        (
            "é,actions=drop",
            "column 1: unknown field \"é\"; see ovs-fields(7) and ovs-actions(7) for the names",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn values_out_of_range_are_refused() {
    for text in [
        "in_port=4294967296",
        "in_port=-1",
        "in_port=+1",
        "in_port=0x",
        "in_port=",
        "in_port",
        "in_port=1/1",
        "dl_src=02:00:00:00:00",
        "dl_src=02:00:00:00:00:00:00",
        "dl_src=02:00:00:00:00:+1",
        "dl_src=02:00:00:00:00:100",
        "ip,nw_src=10.0.0.0/33",
        "ip,nw_src=10.0.0.0/",
        "ipv6,ipv6_src=fd00::/129",
        "tcp,tp_dst=65536",
        "dl_vlan=4096",
        "dl_vlan_pcp=8",
        "vlan_tci=0x3000/0x3000",
        "vlan_tci=0x10000",
        "ip,nw_tos=256",
        "ip,nw_proto=6/6",
        "cookie=0x10000000000000000",
        "cookie=1/1",
        "table=256",
        "dl_vlan=0xffff,dl_vlan_pcp=1",
    ] {
        assert!(
            parse_rule(&format!("{text},actions=drop")).is_err(),
            "{text}"
        );
    }
    let long = format!("{}actions=drop", "ip,".repeat(10_000));
    assert!(refused(&long).contains("a flow has at most"));
}

#[test]
fn deletes() {
    let all = parse_filter("", false).unwrap();
    assert_eq!((all.table, all.cookie_mask), (ALL_TABLES, 0));
    let some = parse_filter("table=1,cookie=0x10/0xf0,tcp", false).unwrap();
    assert_eq!((some.table, some.cookie, some.cookie_mask), (1, 0x10, 0xf0));
    assert_eq!(
        parse_filter("cookie=5", false).unwrap().cookie_mask,
        u64::MAX
    );
    assert_eq!(parse_filter("ip", true).unwrap().priority, DEFAULT_PRIORITY);
    assert_eq!(parse_filter("priority=5", true).unwrap().priority, 5);
    assert_eq!(parse_filter("table=all", false).unwrap().table, ALL_TABLES);
    for bad in ["priority=5", "actions=drop", "idle_timeout=3", "table=32"] {
        assert!(parse_filter(bad, false).is_err(), "{bad}");
    }
}

#[test]
fn lines_of_a_file() {
    let m = |text| parse_mod(text).unwrap();
    assert!(matches!(m("actions=drop"), FlowMod::Add(_)));
    assert!(matches!(m("  add actions=drop"), FlowMod::Add(_)));
    assert!(matches!(m("delete"), FlowMod::Delete(_)));
    assert!(matches!(m("delete ip"), FlowMod::Delete(_)));
    assert!(matches!(
        m("delete_strict priority=3,ip"),
        FlowMod::DeleteStrict(_)
    ));
    assert_eq!(parse_mod("add ipp,actions=drop").unwrap_err().column, 5);
    let FlowMod::Modify(modify) = m("modify_strict priority=3,ip,cookie=0x10/0xf0,actions=1")
    else {
        panic!()
    };
    assert!(modify.strict);
    assert_eq!((modify.rule.priority, modify.cookie_mask), (3, 0xf0));
    assert!(matches!(m("modify actions=drop"), FlowMod::Modify(_)));
    assert!(parse_mod("modify priority=3,actions=drop").is_err());
    let FlowMod::AddWith(rule, flags) = m("check_overlap,reset_counts,send_flow_rem,actions=1")
    else {
        panic!()
    };
    assert!(flags.check_overlap && flags.reset_counts && rule.flags.send_flow_removed);
    let FlowMod::Delete(filter) = m("delete out_port=3,out_group=7") else {
        panic!()
    };
    assert_eq!(
        (filter.out_port, filter.out_group),
        (Some(PortNo(3)), Some(7))
    );
}

#[test]
fn packet_outs() {
    assert_eq!(
        parse_actions("set_field:80->tcp_dst,table").unwrap(),
        [
            Action::SetField {
                field: Field::TcpDst,
                value: 80
            },
            Action::output(PortNo::TABLE)
        ]
    );
    assert!(parse_actions("goto_table:1").is_err());
    assert!(parse_actions("mod_tp_dst:80").is_err());
    assert_eq!(parse_actions("").unwrap(), []);
}
