//! Finds (and on request installs) a compiler that can build the kernel side: one with the sources of its own
//! `core`, and a `bpf-linker`.

use crate::{debian, process};
use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian's packages: rustc with its library sources, and the LLVM that `bpf-linker` must be built against.
const DEBIAN_PACKAGES: [&str; 6] = [
    "rustc-web",
    "rust-web-src",
    "cargo-web",
    "llvm-22-dev",
    "zlib1g-dev",
    "libzstd-dev",
];
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";
const BPF_LINKER_VERSION: &str = "0.13.0";
/// BTF is made from the debug information, so that must be there; it is stripped afterwards. v3 has 32-bit compares and atomic
/// compare-exchange (Linux 5.12). Packet headers lie at odd multiples of two: without the feature every field would be put together from bytes.
const RUSTFLAGS: [&str; 5] = [
    "-Clinker=bpf-linker",
    "-Clink-arg=--btf",
    "-Cdebuginfo=2",
    "-Ctarget-cpu=v3",
    "-Ctarget-feature=+allows-misaligned-mem-access",
];

/// A toolchain that builds for `bpfel-unknown-none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// rustup's nightly with the component `rust-src`.
    RustupNightly,
    /// `/usr/bin/rustc` with its sources, used with `RUSTC_BOOTSTRAP=1`.
    Distribution,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RustupNightly => "rustup's nightly",
            Self::Distribution => "the distribution's rustc",
        })
    }
}

impl Toolchain {
    /// `cargo` of this toolchain, with the environment it needs. The objects' line information gets names below `root`.
    pub fn cargo(self, root: &Path) -> Command {
        let mut command = match self {
            Self::RustupNightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo"]);
                command
            }
            Self::Distribution => {
                let mut command = Command::new("/usr/bin/cargo");
                command
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        // Set by the cargo that runs xtask, for its own toolchain.
        for variable in [
            "CARGO",
            "RUSTUP_TOOLCHAIN",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            command.env_remove(variable);
        }
        let mut flags: Vec<OsString> = RUSTFLAGS.iter().map(OsString::from).collect();
        for (folder, name) in [(Some(root.to_path_buf()), "."), (cargo_home(), "cargo")] {
            if let Some(folder) = folder {
                let mut flag = OsString::from("--remap-path-prefix=");
                flag.push(folder);
                flag.push("=");
                flag.push(name);
                flags.push(flag);
            }
        }
        command
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\x1f")))
            .env("PATH", path());
        command
    }

    fn is_usable(self) -> bool {
        match self {
            Self::RustupNightly => {
                sysroot(Command::new("rustup").args(["run", "nightly", "rustc"]))
            }
            Self::Distribution => {
                let cargo = Path::new("/usr/bin/cargo").exists();
                cargo
                    .then(|| sysroot(&mut Command::new("/usr/bin/rustc")))
                    .flatten()
            }
        }
        .is_some_and(|sysroot| {
            Path::new(&sysroot)
                .join("lib/rustlib/src/rust/library/core")
                .is_dir()
        })
    }
}

/// A usable toolchain; with `install`, one is made where there is none.
///
/// # Errors
/// Nothing usable; the message says what to run.
pub fn find(install: bool) -> Result<Toolchain> {
    let usable = || {
        [Toolchain::RustupNightly, Toolchain::Distribution]
            .into_iter()
            .find(|t| t.is_usable())
    };
    let toolchain = match usable() {
        Some(toolchain) => toolchain,
        None if install => {
            install_compiler()?;
            usable().context("what was just installed is still no usable toolchain")?
        }
        None => bail!(
            "no Rust toolchain here can build for BPF: run `cargo xtask ebpf --install`, or \
             `rustup toolchain install nightly --component rust-src` and `cargo install bpf-linker`"
        ),
    };
    if !runs("bpf-linker") {
        if !install {
            bail!("bpf-linker is missing: run `cargo xtask ebpf --install`");
        }
        install_linker(toolchain)?;
    }
    Ok(toolchain)
}

/// Debian's packages where there is apt-get, else rustup's.
fn install_compiler() -> Result<()> {
    if runs("apt-get") {
        return debian::install(&DEBIAN_PACKAGES)
            .context("as root? Or use rustup's nightly with rust-src");
    }
    if runs("rustup") {
        let mut rustup = Command::new("rustup");
        return process::succeed(rustup.args([
            "toolchain",
            "install",
            "nightly",
            "--component",
            "rust-src",
        ]));
    }
    bail!(
        "neither apt-get nor rustup is here: install a nightly Rust with rust-src, and bpf-linker"
    )
}

fn install_linker(toolchain: Toolchain) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.env("PATH", path());
    match toolchain {
        Toolchain::Distribution => cargo
            .args(["install", &format!("bpf-linker@{BPF_LINKER_VERSION}")])
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_PREFIX", DEBIAN_LLVM)
            .env("LLVM_SYS_221_PREFIX", DEBIAN_LLVM),
        Toolchain::RustupNightly => cargo.args(["install", "bpf-linker"]),
    };
    process::succeed(&mut cargo).context("installing bpf-linker")
}

/// The search path with cargo's own folder, where `cargo install` puts the linker.
fn path() -> OsString {
    let mut folders: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    folders.extend(cargo_home().map(|home| home.join("bin")));
    env::join_paths(folders).unwrap_or_default()
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
}

fn runs(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .env("PATH", path())
        .output()
        .is_ok_and(|output| output.status.success())
}

fn sysroot(rustc: &mut Command) -> Option<String> {
    let output = rustc
        .args(["--print", "sysroot"])
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
