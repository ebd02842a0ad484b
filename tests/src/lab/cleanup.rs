//! Takes a lab down, given nothing but its name: run by the owner, by its guardian, and by the sweep, in any order and more than once.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::names::{LabName, NETNS_DIR};
use super::netns;

/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Removes everything of the lab `name`: the processes in its namespaces (but `keep`, the caller), its namespaces with their devices,
/// its pins, logs and store, and its entry in the registry. Never fails: what is not there need not be removed.
pub fn remove(name: &LabName, keep: u32) {
    let namespaces = namespaces(name);
    kill_inside(&namespaces, keep);
    for ns in &namespaces {
        netns::remove(ns);
    }
    let _ = fs::remove_dir_all(name.bpffs());
    if std::env::var_os("LIME_LAB_KEEP_LOGS").is_none() {
        let _ = fs::remove_dir_all(name.scratch());
    }
    let _ = fs::remove_dir_all(name.registry());
}

/// Names of the lab's namespaces that are there.
pub fn namespaces(name: &LabName) -> Vec<String> {
    let prefix = name.prefix();
    fs::read_dir(NETNS_DIR)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| n.starts_with(&prefix))
        .collect()
}

fn kill_inside(namespaces: &[String], keep: u32) {
    let inodes: Vec<u64> = namespaces
        .iter()
        .filter_map(|n| Some(fs::metadata(Path::new(NETNS_DIR).join(n)).ok()?.ino()))
        .collect();
    if inodes.is_empty() {
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let inside = processes_in(&inodes, keep);
        if inside.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in inside {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // Killed processes leave their namespace when they are scheduled next; there is no event to wait for on others' children.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Processes whose main thread is in one of these namespaces. (A process that merely has threads there, such as a lab's owner,
/// is not meant.)
fn processes_in(inodes: &[u64], keep: u32) -> Vec<i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != keep as i32 && *pid != std::process::id() as i32)
        .filter(|pid| {
            // Follows the link to nsfs. A zombie has no namespaces any more.
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| inodes.contains(&m.ino()))
        })
        .collect()
}
