//! `cargo xtask test --kernel 6.1`: the tests of the data path on another kernel than this machine's.
//!
//! Debian's package of that kernel is booted in QEMU with the test programs, as they were built, in its memory. All is emulated: this
//! works where there is no KVM, and is some twenty times slower than the machine. There is no network and no disk inside.

pub mod guest;
mod initramfs;
mod kernel;
mod plan;
mod qemu;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::initramfs::Initramfs;
use self::plan::Plan;
use crate::debian::Program;
use crate::{debian, process};

/// What this runs, and what is copied into the machine.
const PROGRAMS: [Program; 5] = [
    Program {
        name: qemu::QEMU,
        package: "qemu-system-x86",
    },
    Program {
        name: "dpkg-deb",
        package: "dpkg",
    },
    Program {
        name: "strip",
        package: "binutils",
    },
    Program {
        name: "ip",
        package: "iproute2",
    },
    Program {
        name: "tc",
        package: "iproute2",
    },
];

/// Random cases of the comparison with the reference switch; on the machine itself there are 20,000.
const CASES: u32 = 2000;
/// Sent by TCP between two end hosts; on the machine itself 100.
const MEGABYTES: u32 = 10;
/// Random histories of tables in ordinary memory: long, and nothing of a kernel in it. And packets to be segmented by the device: Linux 6.1 does
/// not take UDP of that kind from a tap device, and does not segment what has got another EtherType (PBB) since. And planted bugs, which test
/// the comparison itself: too long under emulation.
const LEFT_OUT: [&str; 3] = [
    "datapath::tests::random::",
    "offload::",
    "planted_bugs_are_found",
];
const SECONDS_PER_TEST: u64 = 300;
const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Runs the tests that a filter selects on the newest `version` of Debian's kernel.
pub fn test(version: &str, filter: &[String]) -> Result<ExitCode> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the emulated machine is an x86-64: its tests are built on one"
    );
    let started = Instant::now();
    let programs = plan::build()?;
    debian::ensure_programs(&PROGRAMS)?;
    let cache = process::target_dir().join("vm");
    let kernel = kernel::fetch(version, &cache)?;

    let mut tests = vec![];
    let mut used = vec![];
    for program in &programs {
        let mut selected = program.tests()?;
        selected.retain(|t| {
            let found = |f: &String| t.name.contains(f) || program.name.contains(f);
            let left_out = LEFT_OUT.iter().any(|n| t.name.starts_with(n));
            !left_out && (filter.is_empty() || filter.iter().any(found))
        });
        if !selected.is_empty() {
            used.push(program);
            tests.extend(selected);
        }
    }
    ensure!(!tests.is_empty(), "no test of the data path has that name");
    // The longest first, so that at the end nobody waits for one.
    tests.sort_by_key(|t| !t.program.ends_with("reference"));

    let image = cache.join(format!("initramfs-{}", std::process::id()));
    let mut archive = Initramfs::create(&image)?;
    let mut modules = vec![];
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default();
        let inside = Path::new("/modules").join(name);
        archive.file(&inside, module)?;
        modules.push(inside);
    }
    archive.program(Path::new("/init"), &std::env::current_exe()?)?;
    for name in ["ip", "tc"] {
        archive.installed(name)?;
    }
    for program in used {
        archive.program(&program.inside(), &program.path)?;
    }
    let count = tests.len();
    let plan = Plan {
        modules,
        environment: environment(),
        tests,
        at_once: 2,
        seconds_per_test: SECONDS_PER_TEST,
    };
    archive.bytes(Path::new(guest::PLAN), &serde_json::to_vec(&plan)?)?;
    archive.finish()?;

    println!(
        "Running {count} tests of the data path on Linux {} (emulated; {} cases of the comparison with the reference switch; without {}) ...",
        kernel.release,
        plan.environment["LIME_CASES"],
        LEFT_OUT.join(", ")
    );
    let passed = qemu::boot(&kernel, &image, DEADLINE);
    let _ = std::fs::remove_file(&image);
    println!(
        "Linux {}: {} s",
        kernel.release,
        started.elapsed().as_secs()
    );
    Ok(if passed? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn environment() -> std::collections::BTreeMap<String, String> {
    let mut variables = std::collections::BTreeMap::new();
    for (name, default) in [
        ("LIME_CASES", CASES),
        ("LIME_SEED", 1),
        ("LIME_MEGABYTES", MEGABYTES),
    ] {
        let value = std::env::var(name).unwrap_or(default.to_string());
        variables.insert(name.to_owned(), value);
    }
    variables.insert("PATH".into(), "/bin".into());
    variables
}
