//! QEMU: run by emulation (no hardware help is needed), and stopped at a deadline.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::kernel::Kernel;

/// The program.
pub const QEMU: &str = "qemu-system-x86_64";

/// Port of the device by which the machine ends QEMU with an exit code.
pub const EXIT_PORT: u64 = 0x501;
/// Values written there; QEMU makes 2n+1 of them.
pub const EXIT_PASSED: u8 = 0x10;
/// As [`EXIT_PASSED`].
pub const EXIT_FAILED: u8 = 0x11;

/// Boots the machine, prints what it says, and gives whether it said that all is well.
///
/// # Errors
/// It ended in another way than by its own exit, or not before the deadline.
pub fn boot(kernel: &Kernel, initramfs: &Path, deadline: Duration) -> Result<bool> {
    let mut child = Command::new(QEMU)
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "4G",
        ])
        .args(["-serial", "stdio"])
        .arg("-device")
        .arg(format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1"))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", COMMAND_LINE])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{QEMU} cannot be run"))?;
    let console = child.stdout.take().context("a pipe that was asked for")?;
    let (sender, lines) = channel();
    let reader = std::thread::spawn(move || {
        let mut console = BufReader::new(console);
        let mut line = vec![];
        while console.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    let in_time = print(&lines, Instant::now() + deadline);
    if !in_time {
        // It may just have ended by itself.
        let _ = child.kill();
    }
    let status = child.wait().context("waiting for QEMU")?;
    drop(lines);
    let _ = reader.join();
    ensure!(
        in_time,
        "the virtual machine has not ended within {} s: the last lines say where it hangs",
        deadline.as_secs()
    );
    const PASSED: Option<i32> = exit_code(EXIT_PASSED);
    const FAILED: Option<i32> = exit_code(EXIT_FAILED);
    match status.code() {
        code if code == PASSED => Ok(true),
        code if code == FAILED => Ok(false),
        _ => bail!("the virtual machine died ({status}): the last lines say of what"),
    }
}

/// `panic`: a dead kernel ends QEMU. The rest is for speed, and for a clock that is not doubted because the host is slow.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nowatchdog tsc=reliable -- vm-guest";

const fn exit_code(written: u8) -> Option<i32> {
    Some(written as i32 * 2 + 1)
}

/// Prints lines until there are no more; false at the deadline.
fn print(lines: &Receiver<String>, deadline: Instant) -> bool {
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => println!("{line}"),
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}
