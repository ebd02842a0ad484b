//! The labs of this machine: one directory each under `REGISTRY`, locked (flock) by the process that owns the lab.
//!
//! A directory whose lock is free belongs to a lab whose owner died: [`sweep`] removes that lab. A lab's guardian process does
//! the same at once; the sweep is for machines where the guardian was killed too.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::error::{Context, LabError};
use super::names::{LabName, REGISTRY};

/// What others may want to know of a lab that is up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The owner's process id.
    pub owner: u32,
    /// Names of the hosts.
    pub hosts: Vec<String>,
    /// Names of the end hosts.
    pub end_hosts: Vec<String>,
    /// The coordinator's address, as reached from the hosts and from the core namespace.
    pub coordinator: String,
    /// Where the binaries are.
    pub bin_dir: std::path::PathBuf,
}

/// The owner's hold on a lab's name.
#[derive(Debug)]
pub(super) struct Registration {
    name: LabName,
    _lock: Flock<File>,
}

impl Registration {
    /// Takes the name. Fails when a lab of that name is up.
    pub(super) fn new(name: &LabName) -> Result<Self, LabError> {
        let _global = global_lock()?;
        let dir = name.registry();
        if dir.exists() {
            match try_lock(&dir) {
                Some(_free) => super::cleanup::remove(name, std::process::id()),
                None => return Err(LabError::NameTaken(name.to_string())),
            }
        }
        fs::create_dir_all(&dir).doing(|| format!("cannot make {}", dir.display()))?;
        let lock = try_lock(&dir).ok_or_else(|| LabError::NameTaken(name.to_string()))?;
        Ok(Self {
            name: name.clone(),
            _lock: lock,
        })
    }

    /// Publishes what the lab is made of.
    pub(super) fn publish(&self, record: &Record) -> Result<(), LabError> {
        let path = self.name.registry().join("lab.json");
        let text = serde_json::to_vec_pretty(record).map_err(io::Error::other);
        text.and_then(|t| fs::write(&path, t))
            .doing(|| format!("cannot write {}", path.display()))
    }
}

/// All labs that are up, with what they published.
pub fn list() -> Vec<(LabName, Record)> {
    let mut labs: Vec<_> = names()
        .filter(|name| try_lock(&name.registry()).is_none())
        .filter_map(|name| {
            let text = fs::read(name.registry().join("lab.json")).ok()?;
            Some((name, serde_json::from_slice(&text).ok()?))
        })
        .collect();
    labs.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    labs
}

/// Removes all labs whose owner is dead. Returns their names.
pub fn sweep() -> Result<Vec<LabName>, LabError> {
    let _global = global_lock()?;
    let dead: Vec<_> = names()
        .filter(|name| match try_lock(&name.registry()) {
            Some(_free) => {
                super::cleanup::remove(name, std::process::id());
                true
            }
            None => false,
        })
        .collect();
    Ok(dead)
}

/// Asks a lab's owner to take it down (SIGTERM), and waits until it has.
pub fn stop(name: &LabName, record: &Record) -> Result<(), LabError> {
    const PATIENCE: Duration = Duration::from_secs(15);
    let what = || format!("cannot end process {} of lab {name}", record.owner);
    // The lock says that the owner lives, so the number is still its own.
    if try_lock(&name.registry()).is_none() {
        let owner = Pid::from_raw(i32::try_from(record.owner).unwrap_or(0).max(2));
        kill(owner, Signal::SIGTERM).doing(what)?;
    }
    let deadline = Instant::now() + PATIENCE;
    while name.registry().exists() {
        if Instant::now() > deadline {
            return Err(io::Error::from(io::ErrorKind::TimedOut)).doing(what);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn names() -> impl Iterator<Item = LabName> {
    fs::read_dir(REGISTRY)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| LabName::parse(entry.file_name().to_str()?))
}

fn try_lock(dir: &Path) -> Option<Flock<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))
        .ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

/// Held while names are taken or swept, so that nobody sees a directory that is not locked yet.
pub(super) fn global_lock() -> Result<Flock<File>, LabError> {
    let what = || "cannot lock /run/lime/lock".to_owned();
    fs::create_dir_all("/run/lime").doing(what)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open("/run/lime/lock")
        .doing(what)?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, e)| e)
        .doing(what)
}
