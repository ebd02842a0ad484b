//! Network namespaces: made, named, entered and removed without `ip`.
//!
//! A namespace is entered with `setns(CLONE_NEWNET)` only, by a thread of its own: the mount namespace stays, and with it bpffs.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::error::{Context, LabError};
use super::names::NETNS_DIR;

/// A named network namespace. Cheap to clone; the name is removed by [`super::cleanup`], not by dropping this.
#[derive(Clone, Debug)]
pub struct Netns {
    name: Arc<str>,
    file: Arc<File>,
}

impl Netns {
    /// Makes a namespace and names it.
    pub fn create(name: &str) -> Result<Self, LabError> {
        let path = path_of(name);
        let target = path.clone();
        prepare_directory()?;
        // unshare changes the calling thread's namespace: a thread that ends with it.
        let made = std::thread::spawn(move || -> io::Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::options().create_new(true).write(true).open(&target)?;
            mount(
                Some("/proc/thread-self/ns/net"),
                &target,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?;
            // Nothing but end hosts may speak IPv6 on its own: neither routers' solicitations nor multicast listener reports.
            fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").or_else(not_found_ok)?;
            fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").or_else(not_found_ok)
        })
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
        made.doing(|| format!("cannot make the network namespace {name}"))?;
        Self::open(name)
    }

    /// A namespace that is there.
    pub fn open(name: &str) -> Result<Self, LabError> {
        let path = path_of(name);
        let file = File::open(&path).doing(|| format!("cannot open {}", path.display()))?;
        Ok(Self {
            name: name.into(),
            file: Arc::new(file),
        })
    }

    /// Its name under `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The descriptor, for `setns` in a child and for netlink.
    pub fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Moves the calling thread into the namespace, for good.
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(self.as_fd(), CloneFlags::CLONE_NEWNET)?)
    }

    /// Starts a thread inside the namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        thread: &str,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let ns = self.clone();
        std::thread::Builder::new()
            .name(thread.to_owned())
            .spawn(move || {
                ns.enter()
                    .expect("an open namespace can be entered by root");
                f()
            })
    }

    /// Runs `f` in a thread inside the namespace and waits for it. Inside a tokio runtime, `f` may make sockets of that runtime.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        let runtime = tokio::runtime::Handle::try_current().ok();
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    let _context = runtime.as_ref().map(|r| r.enter());
                    self.enter()?;
                    Ok(f())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sets a sysctl under `/proc/sys/net/` for this namespace.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        let path = Path::new("/proc/sys/net").join(key);
        self.run(|| fs::write(&path, value))
            .and_then(|r| r)
            .doing(|| format!("cannot set {} in {}", path.display(), self.name))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn not_found_ok(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound {
        return Ok(()); // a kernel without IPv6
    }
    Err(e)
}

fn path_of(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

/// Makes `/run/netns` a shared mount of itself, as `ip netns add` does: if that came later, it would hide and so leak our names.
fn prepare_directory() -> Result<(), LabError> {
    let what = || format!("cannot prepare {NETNS_DIR}");
    fs::create_dir_all(NETNS_DIR).doing(what)?;
    let _lock = super::registry::global_lock()?;
    let share = || {
        mount(
            None::<&str>,
            NETNS_DIR,
            None::<&str>,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            None::<&str>,
        )
    };
    match share() {
        Err(Errno::EINVAL) => {
            mount(
                Some(NETNS_DIR),
                NETNS_DIR,
                None::<&str>,
                MsFlags::MS_BIND | MsFlags::MS_REC,
                None::<&str>,
            )
            .doing(what)?;
            share().doing(what)
        }
        other => other.doing(what),
    }
}

/// Removes a namespace's name; the namespace goes when nobody is in it any more.
pub(super) fn remove(name: &str) {
    let path = path_of(name);
    // Once per mount on it; MNT_DETACH: also when somebody has it open.
    while umount2(&path, MntFlags::MNT_DETACH).is_ok() {}
    let _ = fs::remove_file(&path);
}
