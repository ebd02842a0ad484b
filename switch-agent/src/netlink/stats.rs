//! What Linux counts of devices, and of the classes of their qdiscs.

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::tc::{TcAttribute, TcMessage, TcStats2};
use rtnetlink::packet_core::Nla;

use super::{Netlink, NetlinkError, is_errno};

/// Classes of one device that are looked at.
const MAX_CLASSES: usize = 4096;
/// TCA_STATS_PKT64: packets, where 32 bits are too few.
const STATS_PKT64: u16 = 8;
/// The handle of the qdisc whose classes are queues.
const QDISC: u16 = 1;

/// Errors and drops of a device, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceStats {
    /// Packets that were received with errors.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that were received and dropped.
    pub rx_dropped: u64,
    /// Packets that were dropped on the way out.
    pub tx_dropped: u64,
    /// Frame alignment errors.
    pub rx_frame_errors: u64,
    /// Overruns of the receiver.
    pub rx_over_errors: u64,
    /// Wrong checksums of frames.
    pub rx_crc_errors: u64,
    /// Collisions.
    pub collisions: u64,
}

/// The counters of the class 1:N.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// N.
    pub minor: u16,
    /// Packets that went out.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that found it full.
    pub drops: u64,
}

impl Netlink {
    /// Errors and drops of a device; none: it is not there.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn device_stats(&self, ifindex: u32) -> Result<Option<DeviceStats>, NetlinkError> {
        let request = self.handle.link().get().match_index(ifindex);
        let message = match request.execute().try_next().await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(None),
            Err(e) if is_errno(&e, libc::ENODEV) => return Ok(None),
            Err(source) => {
                let what = format!("counters of the device with index {ifindex}");
                return Err(NetlinkError::Request { what, source });
            }
        };
        Ok(message.attributes.into_iter().find_map(|a| match a {
            LinkAttribute::Stats64(s) => Some(DeviceStats {
                rx_errors: s.rx_errors,
                tx_errors: s.tx_errors,
                rx_dropped: s.rx_dropped,
                tx_dropped: s.tx_dropped,
                rx_frame_errors: s.rx_frame_errors,
                rx_over_errors: s.rx_over_errors,
                rx_crc_errors: s.rx_crc_errors,
                collisions: s.collisions,
            }),
            _ => None,
        }))
    }

    /// The classes of a device's qdisc with the handle `1:`, which queues are; none without such a qdisc.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn class_stats(&self, ifindex: u32) -> Result<Vec<ClassStats>, NetlinkError> {
        // The kernel's type for indices in this message.
        let Ok(index) = i32::try_from(ifindex) else {
            return Ok(Vec::new());
        };
        let answer = self.handle.traffic_class(index).get().execute();
        let messages: Result<Vec<TcMessage>, _> = answer.take(MAX_CLASSES).try_collect().await;
        match messages {
            Ok(messages) => Ok(messages.iter().filter_map(class).collect()),
            Err(e) if is_errno(&e, libc::ENODEV) => Ok(Vec::new()),
            Err(source) => {
                let what = format!("classes of the device with index {ifindex}");
                Err(NetlinkError::Request { what, source })
            }
        }
    }
}

fn class(message: &TcMessage) -> Option<ClassStats> {
    let handle = message.header.handle;
    if handle.major != QDISC || handle.minor == 0 {
        return None;
    }
    let mut class = ClassStats {
        minor: handle.minor,
        ..ClassStats::default()
    };
    let stats = message.attributes.iter().filter_map(|a| match a {
        TcAttribute::Stats2(stats) => Some(stats),
        _ => None,
    });
    for stat in stats.flatten() {
        match stat {
            TcStats2::Basic(basic) => {
                class.bytes = basic.bytes;
                class.packets = class.packets.max(basic.packets.into());
            }
            TcStats2::Queue(queue) => class.drops = queue.drops.into(),
            TcStats2::Other(other) if other.kind() == STATS_PKT64 => {
                let mut value = [0; 8];
                if other.value_len() == value.len() {
                    other.emit_value(&mut value);
                    class.packets = u64::from_ne_bytes(value);
                }
            }
            _ => {}
        }
    }
    Some(class)
}
