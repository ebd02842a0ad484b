//! BPF_PROG_TEST_RUN: the programs of the data path on a buffer each.
//!
//! It differs from a device in that a frame's outer tag is among its bytes when a TC program gets it, so that those with tags are only for XDP; and
//! in that a tag that a TC program leaves in the metadata is not shown. The redirect that a verdict asks for is not made; clones are.

use std::path::Path;

use aya::programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use switch_abi::programs;

/// Length of `struct __sk_buff`, and where in it the priority and the device are.
const BUFFER: usize = 192;
const PRIORITY: usize = 32;
const IFINDEX: usize = 40;
/// `struct xdp_md`: where the frame ends, and the device.
const END: usize = 4;
const INGRESS: usize = 12;
const XDP_MD: usize = 24;

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    XdpPort,
    TcPort,
    TcUnderlay,
}

/// What it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// XDP: for TC. TC: for the stack.
    Pass,
    Drop,
    Redirect,
}

/// What came of a run.
pub struct Ran {
    pub verdict: Verdict,
    pub frame: Vec<u8>,
    /// `skb->priority`; of XDP, 0.
    pub priority: u32,
}

/// The programs that are pinned in a directory.
pub struct Programs {
    xdp_port: Xdp,
    tc_port: SchedClassifier,
    tc_underlay: SchedClassifier,
}

impl Programs {
    pub fn open(directory: &Path) -> Result<Self, ProgramError> {
        let tc = |name| SchedClassifier::from_pin(directory.join(name));
        Ok(Self {
            xdp_port: Xdp::from_pin(directory.join(programs::XDP_PORT), XdpAttachType::Interface)?,
            tc_port: tc(programs::TC_PORT)?,
            tc_underlay: tc(programs::TC_UNDERLAY)?,
        })
    }

    /// Runs one on a frame as come in by a device.
    pub fn run(&self, program: Program, ifindex: u32, frame: &[u8]) -> Ran {
        let mut out = vec![0; 16384];
        let mut context = vec![0; BUFFER];
        let mut put = |at: usize, word: u32| {
            context[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        };
        let mut after = [0; BUFFER];
        let xdp = program == Program::XdpPort;
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let result = if xdp {
            put(END, frame.len() as u32);
            put(INGRESS, ifindex);
            self.xdp_port.test_run(TestRunOptions {
                ctx_in: Some(&context[..XDP_MD]),
                ..options
            })
        } else {
            put(IFINDEX, ifindex);
            let options = TestRunOptions {
                ctx_in: Some(&context),
                ctx_out: Some(&mut after),
                ..options
            };
            match program {
                Program::TcUnderlay => self.tc_underlay.test_run(options),
                _ => self.tc_port.test_run(options),
            }
        };
        let result = result
            .unwrap_or_else(|e| panic!("{program:?} does not run on {} bytes: {e:?}", frame.len()));
        out.truncate(result.data_size_out as usize);
        let mut priority = [0; 4];
        priority.copy_from_slice(&after[PRIORITY..PRIORITY + 4]);
        Ran {
            verdict: match (xdp, result.return_value as i32) {
                (true, 1) | (false, 2) => Verdict::Drop,
                (true, 2) | (false, -1) => Verdict::Pass,
                (true, 4) | (false, 7) => Verdict::Redirect,
                other => panic!("unexpected verdict {other:?}"),
            },
            frame: out,
            priority: u32::from_ne_bytes(priority),
        }
    }
}
