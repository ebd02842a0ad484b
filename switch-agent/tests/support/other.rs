//! Another host: a network namespace at the far end of the underlay's wire.

use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};

use super::{Wire, ip};

/// Lives as long as its thread, which ends when this is dropped.
pub struct OtherHost {
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// A raw socket on its end of the wire.
    pub wire: Wire,
    pub mac: [u8; 6],
}

impl OtherHost {
    /// Takes `device` of the calling thread's namespace and gives it this address there.
    pub fn with_device(device: &str, address: &str) -> Self {
        let (device, address) = (device.to_owned(), address.to_owned());
        let (tid_tx, tid_rx) = mpsc::channel();
        let (go_tx, go_rx) = mpsc::channel::<()>();
        let (ready_tx, ready_rx) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let name = device.clone();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
            tid_tx.send(nix::unistd::gettid()).unwrap();
            go_rx.recv().unwrap();
            ip(&format!("address add {address} dev {name}"));
            ip(&format!("link set {name} up"));
            // sysfs shows the namespace that it was mounted in; the address is asked of the socket's own.
            let mac = mac(&name);
            ready_tx.send((Wire::open(&name), mac)).unwrap();
            let _ = ended.recv();
        });
        let tid = tid_rx.recv().unwrap();
        ip(&format!("link set {device} netns {tid}"));
        go_tx.send(()).unwrap();
        let (wire, mac) = ready_rx.recv().unwrap();
        Self {
            end: Some(end),
            thread: Some(thread),
            wire,
            mac,
        }
    }
}

fn mac(device: &str) -> [u8; 6] {
    let addresses = nix::ifaddrs::getifaddrs().unwrap();
    addresses
        .filter(|a| a.interface_name == device)
        .find_map(|a| a.address?.as_link_addr()?.addr())
        .unwrap()
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
