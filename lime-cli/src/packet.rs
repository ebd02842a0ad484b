//! Packets as text: hexadecimal in and out, and a line that says what a packet is.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Reads hexadecimal digits; blanks and colons between them are skipped.
pub fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ':')
        .map(|c| {
            c.to_digit(16)
                .map(|d| d as u8)
                .ok_or_else(|| format!("{c:?} is no hexadecimal digit"))
        })
        .collect::<Result<_, _>>()?;
    if !digits.len().is_multiple_of(2) {
        return Err(format!("{} digits: every byte has two", digits.len()));
    }
    Ok(digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect())
}

/// Hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What a packet is, in a line; as far as its bytes go.
pub fn describe(data: &[u8]) -> String {
    let Some((eth, mut rest)) = data.split_at_checked(14) else {
        return "no Ethernet header".to_owned();
    };
    let mut text = format!("{} > {}", mac(&eth[6..12]), mac(&eth[..6]));
    let mut eth_type = be16(&eth[12..]);
    if matches!(eth_type, 0x8100 | 0x88a8)
        && let Some((tag, behind)) = rest.split_at_checked(4)
    {
        text += &format!(" vlan {}", be16(tag) & 0xfff);
        eth_type = be16(&tag[2..]);
        rest = behind;
    }
    text + " " + &network_layer(eth_type, rest)
}

fn network_layer(eth_type: u16, rest: &[u8]) -> String {
    match eth_type {
        0x0800 if rest.len() >= 20 => {
            let header = usize::from(rest[0] & 0xf) * 4;
            let source = v4(&rest[12..16]);
            let destination = v4(&rest[16..20]);
            let later_fragment = be16(&rest[6..]) & 0x1fff != 0;
            let behind = if later_fragment {
                &[]
            } else {
                rest.get(header..).unwrap_or_default()
            };
            transport(rest[9], &source, &destination, behind)
        }
        0x86dd if rest.len() >= 40 => {
            transport(rest[6], &v6(&rest[8..24]), &v6(&rest[24..40]), &rest[40..])
        }
        0x0806 if rest.len() >= 28 => {
            let (sender, target) = (v4(&rest[14..18]), v4(&rest[24..28]));
            match be16(&rest[6..]) {
                1 => format!("arp who-has {target} tell {sender}"),
                2 => format!("arp reply {sender} is-at {}", mac(&rest[8..14])),
                op => format!("arp operation {op}"),
            }
        }
        other => format!("type {other:#06x}"),
    }
}

fn transport(proto: u8, source: &str, destination: &str, behind: &[u8]) -> String {
    let name = match proto {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmp6",
        _ => return format!("{source} > {destination} protocol {proto}"),
    };
    if behind.len() < 4 {
        return format!("{name} {source} > {destination}");
    }
    if matches!(proto, 6 | 17) {
        let (from, to) = (be16(behind), be16(&behind[2..]));
        return format!("{name} {source}.{from} > {destination}.{to}");
    }
    format!("{name} {source} > {destination} type {}", behind[0])
}

fn be16(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |b| u16::from_be_bytes(*b))
}

fn mac(bytes: &[u8]) -> String {
    let pairs: Vec<_> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    pairs.join(":")
}

fn v4(bytes: &[u8]) -> String {
    bytes
        .first_chunk::<4>()
        .map_or_else(String::new, |b| Ipv4Addr::from(*b).to_string())
}

fn v6(bytes: &[u8]) -> String {
    bytes
        .first_chunk::<16>()
        .map_or_else(String::new, |b| Ipv6Addr::from(*b).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: &str = "020000000002 020000000001 8100000a 0800 \
        4500001c 00000000 4011 0000 0a000001 0a000002 04d2 0035 0008 0000";

    #[test]
    fn hexadecimal_round_trips() {
        assert_eq!(from_hex("0a:ff 01").unwrap(), [10, 255, 1]);
        assert_eq!(to_hex(&[10, 255]), "0aff");
        assert!(from_hex("0").is_err());
        assert!(from_hex("0g").is_err());
    }

    #[test]
    fn packets_are_described_as_far_as_they_go() {
        let packet = from_hex(UDP).unwrap();
        assert_eq!(
            describe(&packet),
            "02:00:00:00:00:01 > 02:00:00:00:00:02 vlan 10 udp 10.0.0.1.1234 > 10.0.0.2.53"
        );
        for len in 0..packet.len() {
            describe(&packet[..len]);
        }
    }
}
