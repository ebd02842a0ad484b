//! Matches: which packets a rule is about.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Field;

/// One field's value under a mask. Bits outside the mask are zero in `value`; the mask is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FieldMatch {
    /// Which field.
    pub field: Field,
    /// Right-aligned value.
    pub value: u128,
    /// Right-aligned mask.
    pub mask: u128,
}

/// Why a match is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MatchError {
    /// The value has bits outside the field.
    #[error("{field:?}: value {value:#x} does not fit in {} bits", field.bits())]
    ValueTooWide {
        /// The field.
        field: Field,
        /// The value.
        value: u128,
    },
    /// The value has bits outside its mask (OpenFlow 1.3.5, 7.2.3.5: OFPBMC_BAD_WILDCARDS).
    #[error("{field:?}: value {value:#x} has bits outside its mask {mask:#x}")]
    ValueOutsideMask {
        /// The field.
        field: Field,
        /// The value.
        value: u128,
        /// The mask.
        mask: u128,
    },
    /// The field may only be matched exactly.
    #[error("{field:?} does not take a mask")]
    NotMaskable {
        /// The field.
        field: Field,
    },
    /// The field is there twice.
    #[error("{field:?} is given twice")]
    Duplicate {
        /// The field.
        field: Field,
    },
    /// A field needs another to be matched (OpenFlow 1.3.5, 7.2.3.8).
    #[error("{field:?} needs {needs}")]
    MissingPrerequisite {
        /// The field.
        field: Field,
        /// What is missing, in words.
        needs: &'static str,
    },
}

/// Which packets a rule is about: all fields must match. Sorted by field, each at most once; prerequisites hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Match {
    fields: Vec<FieldMatch>,
}

impl Match {
    /// Matches every packet.
    pub fn any() -> Self {
        Self::default()
    }

    /// Checks widths, masks, duplicates and prerequisites. Fields whose mask is zero are left out.
    pub fn new(fields: impl IntoIterator<Item = FieldMatch>) -> Result<Self, MatchError> {
        let mut fields: Vec<FieldMatch> = fields.into_iter().filter(|f| f.mask != 0).collect();
        fields.sort_by_key(|f| f.field);
        for pair in fields.windows(2) {
            if pair[0].field == pair[1].field {
                return Err(MatchError::Duplicate {
                    field: pair[0].field,
                });
            }
        }
        for &FieldMatch { field, value, mask } in &fields {
            if (value | mask) & !field.full_mask() != 0 {
                return Err(MatchError::ValueTooWide {
                    field,
                    value: value | mask,
                });
            }
            if value & !mask != 0 {
                return Err(MatchError::ValueOutsideMask { field, value, mask });
            }
            if mask != field.full_mask() && !field.maskable() {
                return Err(MatchError::NotMaskable { field });
            }
        }
        let this = Self { fields };
        this.check_prerequisites()?;
        Ok(this)
    }

    /// The fields, sorted.
    pub fn fields(&self) -> &[FieldMatch] {
        &self.fields
    }

    /// The value of a field that is matched exactly.
    pub fn exact(&self, field: Field) -> Option<u128> {
        self.get(field)
            .filter(|f| f.mask == field.full_mask())
            .map(|f| f.value)
    }

    /// The match on one field.
    pub fn get(&self, field: Field) -> Option<&FieldMatch> {
        self.fields.iter().find(|f| f.field == field)
    }

    /// Whether every packet that `self` matches, `wider` matches too (used by non-strict deletes: OpenFlow 1.3.5, 6.4).
    pub fn is_within(&self, wider: &Match) -> bool {
        wider.fields.iter().all(|w| {
            self.get(w.field)
                .is_some_and(|f| f.mask & w.mask == w.mask && f.value & w.mask == w.value)
        })
    }

    /// Whether some packet could match both (OpenFlow 1.3.5, 6.4, OFPFF_CHECK_OVERLAP).
    pub fn overlaps(&self, other: &Match) -> bool {
        self.fields.iter().all(|a| {
            other
                .get(a.field)
                .is_none_or(|b| (a.value ^ b.value) & a.mask & b.mask == 0)
        })
    }

    fn check_prerequisites(&self) -> Result<(), MatchError> {
        let eth_type = self.exact(Field::EthType);
        let proto = self.exact(Field::IpProto);
        let ip = matches!(eth_type, Some(0x0800 | 0x86dd));
        for f in &self.fields {
            let (ok, needs) = match f.field {
                Field::InPort
                | Field::Metadata
                | Field::TunnelId
                | Field::EthDst
                | Field::EthSrc
                | Field::EthType
                | Field::VlanVid => (true, ""),
                Field::InPhyPort => (self.get(Field::InPort).is_some(), "in_port"),
                Field::VlanPcp => (
                    self.get(Field::VlanVid)
                        .is_some_and(|v| v.value & 0x1000 != 0),
                    "vlan_vid with a tag present",
                ),
                Field::IpDscp | Field::IpEcn | Field::IpProto => {
                    (ip, "eth_type 0x0800 (ip) or 0x86dd (ipv6)")
                }
                Field::Ipv4Src | Field::Ipv4Dst => {
                    (eth_type == Some(0x0800), "eth_type 0x0800 (ip)")
                }
                Field::Ipv6Src | Field::Ipv6Dst | Field::Ipv6Flabel | Field::Ipv6Exthdr => {
                    (eth_type == Some(0x86dd), "eth_type 0x86dd (ipv6)")
                }
                Field::TcpSrc | Field::TcpDst => {
                    (ip && proto == Some(6), "ip_proto 6 (tcp or tcp6)")
                }
                Field::UdpSrc | Field::UdpDst => {
                    (ip && proto == Some(17), "ip_proto 17 (udp or udp6)")
                }
                Field::SctpSrc | Field::SctpDst => {
                    (ip && proto == Some(132), "ip_proto 132 (sctp or sctp6)")
                }
                Field::Icmpv4Type | Field::Icmpv4Code => (
                    eth_type == Some(0x0800) && proto == Some(1),
                    "eth_type 0x0800 and ip_proto 1 (icmp)",
                ),
                Field::Icmpv6Type | Field::Icmpv6Code => (
                    eth_type == Some(0x86dd) && proto == Some(58),
                    "eth_type 0x86dd and ip_proto 58 (icmp6)",
                ),
                Field::ArpOp | Field::ArpSpa | Field::ArpTpa | Field::ArpSha | Field::ArpTha => {
                    (eth_type == Some(0x0806), "eth_type 0x0806 (arp)")
                }
                Field::Ipv6NdTarget => (
                    matches!(self.exact(Field::Icmpv6Type), Some(135 | 136)),
                    "icmpv6_type 135 or 136 (icmp6)",
                ),
                Field::Ipv6NdSll => (
                    self.exact(Field::Icmpv6Type) == Some(135),
                    "icmpv6_type 135 (icmp6)",
                ),
                Field::Ipv6NdTll => (
                    self.exact(Field::Icmpv6Type) == Some(136),
                    "icmpv6_type 136 (icmp6)",
                ),
                Field::MplsLabel | Field::MplsTc | Field::MplsBos => (
                    matches!(eth_type, Some(0x8847 | 0x8848)),
                    "eth_type 0x8847 (mpls) or 0x8848 (mplsm)",
                ),
                Field::PbbIsid => (eth_type == Some(0x88e7), "eth_type 0x88e7"),
            };
            if !ok {
                return Err(MatchError::MissingPrerequisite {
                    field: f.field,
                    needs,
                });
            }
        }
        Ok(())
    }
}
