//! Meters (OpenFlow 1.3.5, 5.7).

use std::cmp::Reverse;

use lime_core::flow::{Action, Band, BandKind, Field, Meter};

use crate::rewrite::rewrite;
use crate::run::{MAX_REREAD, Run};
use crate::{Counted, Drop, Fault, Port, parse};

impl Run<'_, '_> {
    /// Lets the packet pass a meter, which may change it. False: it is dropped there.
    pub(crate) fn passes(&mut self, port: &Port, frame: &mut Vec<u8>, number: u32) -> bool {
        let Some(meter) = self.world.meter(port.switch, number) else {
            // It goes in the same epoch as the rules that use it.
            self.outcome.drop(port.id, Drop::Metered);
            return false;
        };
        self.outcome
            .count(Counted::Meter(port.switch, number), frame);
        let remarks = |band: &Band| matches!(band.kind, BandKind::DscpRemark { .. });
        if meter.bands.iter().any(remarks) {
            // As for headers that rules have changed, the kernel programs look again, a few times at most.
            self.reread += 1;
            self.outcome.incomplete |= self.reread > MAX_REREAD;
        }
        let speed = self.world.speeds.get(&(port.switch, number));
        let speed = speed.copied().unwrap_or(0);
        let Some((index, band)) = exceeded(meter, speed, self.world.fault) else {
            return true;
        };
        let counted = Counted::Band(port.switch, number, index);
        self.outcome.count(counted, frame);
        match band.kind {
            BandKind::Drop => {
                self.outcome.drop(port.id, Drop::Metered);
                false
            }
            BandKind::DscpRemark { prec_level } => {
                remark(frame, prec_level, self.world.fault);
                true
            }
        }
    }
}

/// "The meter applies the meter band with the highest configured rate that is lower than the current measured rate". Of one rate, the first.
fn exceeded(meter: &Meter, speed: u32, fault: Option<Fault>) -> Option<(usize, &Band)> {
    let bands = meter.bands.iter().enumerate();
    let exceeded = bands.filter(|(_, band)| band.rate <= speed);
    exceeded.min_by_key(|(_, band)| match fault {
        Some(Fault::LowestBandApplied) => Reverse(u32::MAX - band.rate),
        _ => Reverse(band.rate),
    })
}

/// Raises the drop precedence of assured forwarding (RFC 2597): classes 1 to 4, each with precedences 1 to 3. Other packets stay as they are.
fn remark(frame: &mut Vec<u8>, levels: u8, fault: Option<Fault>) {
    let Some(headers) = parse(frame, fault).filter(|h| h.has(Field::IpDscp)) else {
        return;
    };
    let levels = match fault {
        Some(Fault::PrecedenceByOne) => 1,
        _ => u128::from(levels),
    };
    let dscp = headers.get(Field::IpDscp);
    let (class, precedence) = (dscp / 8, dscp % 8 / 2);
    if dscp % 2 != 0 || !(1..=4).contains(&class) || precedence == 0 {
        return;
    }
    let value = class * 8 + (precedence + levels).min(3) * 2;
    let field = Field::IpDscp;
    // It has the field.
    let _ = rewrite(frame, &Action::SetField { field, value }, fault);
}
