//! Random meters, of which it is certain what becomes of a packet: packets come faster than the rates of their slow bands, however few they are,
//! and never as fast as those of the others.

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::ptr::NonNull;

use aya::maps::MapData;
use lime_core::flow::{Band, BandKind, Meter, MeterMod, MeterUnit};
use lime_core::{Epoch, RuleId};
use lime_reference::MeterChange;
use switch_abi::{METER_TIME_SHIFT, RULE_LIVE, RuleEntry, maps};

use super::random::Random;
use super::scenario::{SWITCHES, Scenario, switch_of};

/// Their numbers. They are there from the switch's first epoch on.
pub const METERS: [u32; 4] = [1, 2, 9, 0xffff_0000];

/// How fast packets come, in any unit: bands up to here are exceeded.
pub const SPEED: u32 = 1000;
const SLOW: [u32; 4] = [1, 2, 100, SPEED];
const FAST: [u32; 3] = [1_000_000, 4_000_000, 1_000_000_000];

/// How far ahead of the clock the slow bands are, in a meter's units: 4.9 hours, more than any burst takes.
const AHEAD: u64 = 1 << 52;

/// Gives both switches meters, of which some change.
pub fn add(random: &mut Random, scenario: &mut Scenario) {
    for switch in SWITCHES {
        let epochs: Vec<u32> = (1..=scenario.staged)
            .filter(|&epoch| switch_of(epoch) == switch)
            .collect();
        for &number in &METERS {
            for (i, &epoch) in epochs.iter().enumerate() {
                let change = match i {
                    0 => MeterMod::Add(meter(random, number)),
                    _ if random.chance(20) => MeterMod::Modify(meter(random, number)),
                    _ => continue,
                };
                scenario.meters.push(MeterChange {
                    switch,
                    from: Epoch(epoch),
                    change,
                });
            }
        }
    }
    scenario.meters.sort_by_key(|change| change.from.0);
}

fn meter(random: &mut Random, id: u32) -> Meter {
    let burst = random.chance(50);
    // One that may change packets is TC's alone, so that most do not.
    let remarks = random.chance(40);
    let count = random.pick(&[1, 1, 2, 3, 6]);
    let bands = (0..count).map(|_| band(random, burst, remarks)).collect();
    Meter {
        id,
        unit: random.pick(&[MeterUnit::Kbps, MeterUnit::Pktps]),
        burst,
        stats: random.chance(50),
        bands,
    }
}

fn band(random: &mut Random, burst: bool, remarks: bool) -> Band {
    let slow = random.chance(40);
    let rate = match slow {
        true => random.pick(&SLOW),
        false => random.pick(&FAST),
    };
    let prec_level = random.pick(&[1, 1, 2, 3, 255]);
    Band {
        kind: match remarks && random.chance(70) {
            true => BandKind::DscpRemark { prec_level },
            false => BandKind::Drop,
        },
        rate,
        burst_size: match (burst, slow) {
            (false, _) => 0,
            (true, true) => random.pick(&[1, rate, 3600 * rate]),
            (true, false) => rate,
        },
    }
}

/// The memory where the kernel programs have the times of bands.
pub struct Times {
    base: NonNull<RuleEntry>,
    length: usize,
}

impl Times {
    /// Of a data path that is pinned in a directory, with room for so many rules.
    pub fn open(directory: &Path, rules: u32) -> Self {
        let map = MapData::from_pin(directory.join(maps::RULES)).expect("the map is pinned");
        let length = map.info().expect("it has a size").max_entries() as usize;
        assert!(length >= rules as usize, "{length} entries");
        // SAFETY: a new mapping, at an address of the kernel's choice; it is checked below.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length * size_of::<RuleEntry>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED, "the map can be mapped");
        Self {
            base: NonNull::new(base.cast()).expect("it is somewhere"),
            length,
        }
    }

    /// Lets the slow bands of a meter be exceeded by whatever comes next. `head`: the meter's part that has its bands.
    pub fn exceed(&mut self, head: RuleId, meter: &Meter) {
        let slow = slow(meter);
        let ahead = now() + AHEAD;
        for i in 0..self.length {
            // SAFETY: within the mapping, which is aligned to a page, and entries to their size; nothing in them is invalid. The programs
            // write to the times alone, and do not run now.
            let entry = unsafe { self.base.add(i).as_mut() };
            if entry.live == RULE_LIVE && entry.rule_id == head.0 {
                entry.times[slow.clone()].fill(ahead);
            }
        }
    }
}

impl Drop for Times {
    fn drop(&mut self) {
        // SAFETY: the mapping that `open` has made, which nobody has anything of any more.
        unsafe {
            libc::munmap(
                self.base.as_ptr().cast(),
                self.length * size_of::<RuleEntry>(),
            )
        };
    }
}

/// Which of the bands are slow: the last ones, as they are in order of falling rates.
fn slow(meter: &Meter) -> Range<usize> {
    let fast = meter.bands.iter().filter(|b| b.rate > SPEED).count();
    fast..meter.bands.len()
}

/// The clock that programs read, in a meter's units.
fn now() -> u64 {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    let time = nix::time::clock_gettime(clock).expect("there is a clock");
    (time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64) << METER_TIME_SHIFT
}
