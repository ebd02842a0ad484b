//! The first process inside: mounts what programs expect, runs the tests, and ends the machine with the result.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::plan::{Plan, Test};
use super::qemu::{EXIT_FAILED, EXIT_PASSED, EXIT_PORT};

/// Where the plan lies.
pub const PLAN: &str = "/plan.json";

/// Of a failed test's output the end is shown: a verifier's log is long, and says why in its last lines.
const LINES_SHOWN: usize = 120;

/// Does everything, and does not return.
pub fn main() -> ! {
    let passed = work().unwrap_or_else(|error| {
        println!("error: {error:#}");
        false
    });
    let _ = io::stdout().flush();
    // SAFETY: a descriptor of this process.
    unsafe { libc::tcdrain(1) };
    let code = if passed { EXIT_PASSED } else { EXIT_FAILED };
    let ended = File::options()
        .write(true)
        .open("/dev/port")
        .and_then(|port| port.write_all_at(&[code], EXIT_PORT));
    // Only reached when the device is not there. Process 1 dies, and the kernel with it: QEMU ends, in a way that is no success.
    panic!("the machine does not end: {ended:?}");
}

fn work() -> Result<bool> {
    ensure!(
        std::process::id() == 1,
        "this is for the inside of a virtual machine"
    );
    mount_all()?;
    let plan = fs::read(PLAN).context("no plan")?;
    let plan: Plan = serde_json::from_slice(&plan).context("the plan")?;
    for module in &plan.modules {
        load(module).with_context(|| format!("module {}", module.display()))?;
    }
    fs::create_dir_all("/dev/net")?;
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    ensure!(
        up.context("ip")?.success(),
        "the loopback device stays down"
    );
    Ok(run_all(&plan))
}

fn mount_all() -> Result<()> {
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("bpf", "/sys/fs/bpf"),
    ] {
        let none: Option<&str> = None;
        mount(Some(kind), at, Some(kind), MsFlags::empty(), none)
            .with_context(|| format!("cannot mount {at}"))?;
    }
    std::os::unix::fs::symlink("/run", "/var/run").context("/var/run")
}

fn load(module: &Path) -> Result<()> {
    let file = File::open(module)?;
    nix::kmod::finit_module(&file, c"", nix::kmod::ModuleInitFlags::empty())?;
    Ok(())
}

/// Runs all tests, says how each went, and gives whether all went well.
fn run_all(plan: &Plan) -> bool {
    let queue = Mutex::new(plan.tests.iter().collect::<VecDeque<_>>());
    let failed = Mutex::new(vec![]);
    let next = || queue.lock().ok()?.pop_front();
    std::thread::scope(|scope| {
        for worker in 0..plan.at_once {
            let (next, failed) = (&next, &failed);
            scope.spawn(move || {
                while let Some(test) = next() {
                    if !run(plan, test, worker)
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.push(test);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(|e| e.into_inner());
    for test in &failed {
        println!("FAILED {}", title(test));
    }
    println!(
        "{} passed, {} failed",
        plan.tests.len() - failed.len(),
        failed.len()
    );
    failed.is_empty() && !plan.tests.is_empty()
}

fn title(test: &Test) -> String {
    let program = test.program.file_name().unwrap_or_default();
    format!("{} {}", program.to_string_lossy(), test.name)
}

fn run(plan: &Plan, test: &Test, worker: usize) -> bool {
    let started = Instant::now();
    let log = format!("/tmp/output-{worker}");
    let outcome = run_in(plan, test, &log);
    let took = started.elapsed().as_secs_f32();
    let title = title(test);
    match &outcome {
        Ok(()) => println!("PASS [{took:8.3}s] {title}"),
        Err(why) => {
            let output = fs::read(&log).unwrap_or_default();
            let output = String::from_utf8_lossy(&output);
            let lines: Vec<_> = output.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            // In one piece, as other tests go on.
            println!(
                "FAIL [{took:8.3}s] {title}: {why:#}\n{}\n--- end of the output of {title}",
                shown.join("\n")
            );
        }
    }
    outcome.is_ok()
}

fn run_in(plan: &Plan, test: &Test, log: &str) -> Result<()> {
    let output = File::create(log).context("no file for the output")?;
    let mut child = Command::new(&test.program)
        .args(["--exact", "--nocapture", &test.name])
        .envs(&plan.environment)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .context("it cannot be started")?;
    let deadline = Instant::now() + Duration::from_secs(plan.seconds_per_test);
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{status}");
            return Ok(());
        }
        if Instant::now() > deadline {
            let group = Pid::from_raw(child.id().try_into()?);
            let _ = killpg(group, Signal::SIGKILL);
            child.wait()?;
            anyhow::bail!("not done after {} s", plan.seconds_per_test);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
