//! How much of what the kernel's verifier allows the programs take.

use aya::{
    EbpfLoader,
    programs::{SchedClassifier, Xdp},
};

/// BPF_COMPLEXITY_LIMIT_INSNS of Linux.
const LIMIT: u32 = 1_000_000;

#[test]
fn all_programs_leave_the_verifier_half_of_its_limit() {
    let mut bpf = EbpfLoader::new()
        .load(switch_agent::objects::SWITCH)
        .unwrap();
    let mut seen = 0;
    for (name, program) in bpf.programs_mut() {
        let info = match name {
            "lime_tc_port" | "lime_tc_underlay" => {
                let program: &mut SchedClassifier = program.try_into().unwrap();
                program.load().unwrap();
                program.info().unwrap()
            }
            "lime_xdp_port" | "lime_xdp_underlay" => {
                let program: &mut Xdp = program.try_into().unwrap();
                program.load().unwrap();
                program.info().unwrap()
            }
            other => panic!("{other} is a program that this test does not know"),
        };
        let instructions = info.verified_instruction_count().expect("the kernel says");
        println!("{name}: {instructions} instructions verified");
        assert!(instructions <= LIMIT / 2, "{name}: {instructions}");
        seen += 1;
    }
    assert_eq!(seen, 4);
}
