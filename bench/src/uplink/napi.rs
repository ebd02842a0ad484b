//! Where a device's frames are received: in a kernel thread of its own (`/sys/class/net/DEVICE/threaded`), on a chosen CPU.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result, ensure};
use lime_tests::lab::Netns;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;

use crate::priority::go_first;
use crate::programs::stay_on;
use crate::site::inside;

/// Has frames that arrive on `device`, whose name no other namespace has, received on `cpu`.
pub fn keep_on(ns: &Netns, device: &str, cpu: usize) -> Result<()> {
    inside(ns, || make_threaded(device))?
        .with_context(|| format!("cannot have a kernel thread receive for {device}"))?;
    let threads = threads_of(device)?;
    ensure!(
        !threads.is_empty(),
        "no kernel thread receives for {device} although it should"
    );
    for thread in threads {
        stay_on(thread, cpu)?;
        go_first(thread.as_raw() as libc::id_t)?;
    }
    Ok(())
}

/// Called in a thread that ends afterwards: with a view of `/sys` that has the devices of its namespace.
fn make_threaded(device: &str) -> Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
    mount(
        NOTHING,
        "/",
        NOTHING,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        NOTHING,
    )
    .context("make mounts private")?;
    mount(
        Some("sysfs"),
        "/sys",
        Some("sysfs"),
        MsFlags::empty(),
        NOTHING,
    )
    .context("mount sysfs")?;
    fs::write(format!("/sys/class/net/{device}/threaded"), "1")
        .context("write /sys/class/net/DEVICE/threaded (Linux 5.12 has it)")
}

/// Threads `napi/DEVICE-ID`.
fn threads_of(device: &str) -> Result<Vec<Pid>> {
    let prefix = format!("napi/{device}");
    // What the kernel keeps of a thread's name (TASK_COMM_LEN) may be less.
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")
        .context("cannot list /proc")?
        .flatten()
    {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        match fs::read_to_string(entry.path().join("comm")) {
            Ok(name) => {
                let name = name.trim_end();
                if name.starts_with(&prefix) || name.len() == 15 && prefix.starts_with(name) {
                    found.push(Pid::from_raw(pid));
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            // A process that has just ended.
            Err(_) => {}
        }
    }
    Ok(found)
}
