//! `cargo xtask ebpf`: builds the kernel objects from source and keeps the committed ones current.
//!
//! Fresh objects go to `target/ebpf`, from where the build of `switch-agent` takes them; `--commit` copies them
//! over the committed ones. Two kinds of toolchain do: rustup's nightly with `rust-src`, or a distribution's rustc
//! with the sources of its own standard library. Both need `bpf-linker`.

#[path = "../../switch-ebpf/digest.rs"]
mod digest;
mod toolchain;

use crate::process;
use anyhow::{Context, Result, bail};
use std::{fs, path::Path, process::Command};

/// Options of `cargo xtask ebpf`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Install what the build needs and this machine lacks (needs root for Debian's packages)
    #[arg(long)]
    pub install: bool,
    /// Build nothing: fail unless the committed objects are of the present sources
    #[arg(long, conflicts_with_all = ["install", "commit"])]
    pub check: bool,
    /// Also replace the committed objects by the ones built
    #[arg(long)]
    pub commit: bool,
}

/// Runs `cargo xtask ebpf`.
///
/// # Errors
/// No toolchain, a failed build, or (with `check`) committed objects of other sources.
pub fn run(args: &Args) -> Result<()> {
    let root = process::root();
    let committed = root.join("switch-ebpf/prebuilt");
    if args.check {
        let sources = digest::of_sources(&root).context("kernel-side sources")?;
        if !digest::matches(&committed, &sources) {
            bail!(
                "the committed kernel objects are not of the present sources: run `cargo xtask ebpf --commit` and commit {}",
                committed.display()
            );
        }
        println!(
            "The committed kernel objects are of the present sources ({}).",
            &sources[..12]
        );
        return Ok(());
    }
    let fresh = process::target_dir().join("ebpf");
    build(&root, &fresh, args.install)?;
    if args.commit {
        copy_objects(&fresh, &committed)?;
        println!("Replaced the committed objects in {}.", committed.display());
    }
    Ok(())
}

/// Builds both objects into `fresh`, with the digest of what they were built from.
fn build(root: &Path, fresh: &Path, install: bool) -> Result<()> {
    let toolchain = toolchain::find(install)?;
    println!("Building the kernel objects with {toolchain} ...");
    let build_dir = process::target_dir().join("ebpf-build");
    let mut cargo = toolchain.cargo(root);
    cargo
        .current_dir(root.join("switch-ebpf"))
        .args([
            "build",
            "--release",
            "-Z",
            "build-std=core",
            "--target",
            "bpfel-unknown-none",
            "--target-dir",
        ])
        .arg(&build_dir);
    process::succeed(&mut cargo)?;
    // Taken after the build, which may have completed the lock file. A source edited meanwhile makes the objects stale, not wrong.
    let sources = digest::of_sources(root).context("kernel-side sources")?;

    fs::create_dir_all(fresh).with_context(|| format!("creating {}", fresh.display()))?;
    let stamp = fresh.join(digest::DIGEST_FILE);
    // While the objects are being replaced, nobody must take them.
    if stamp.exists() {
        fs::remove_file(&stamp).with_context(|| format!("removing {}", stamp.display()))?;
    }
    for object in digest::OBJECTS {
        let built = build_dir
            .join("bpfel-unknown-none/release")
            .join(object.trim_end_matches(".bpf.o"));
        strip(&built, &fresh.join(object))?;
    }
    fs::write(&stamp, format!("{sources}\n"))
        .with_context(|| format!("writing {}", stamp.display()))?;
    println!(
        "Built {} in {} ({}).",
        digest::OBJECTS.join(" and "),
        fresh.display(),
        &sources[..12]
    );
    Ok(())
}

/// Copies without DWARF, which only the linker needed (for the BTF, which stays).
fn strip(from: &Path, to: &Path) -> Result<()> {
    for tool in ["llvm-objcopy-22", "llvm-objcopy", "rust-objcopy"] {
        let status = Command::new(tool)
            .arg("--strip-debug")
            .arg(from)
            .arg(to)
            .status();
        if status.is_ok_and(|status| status.success()) {
            return Ok(());
        }
    }
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    println!(
        "note: no llvm-objcopy here, so {} keeps its debug sections",
        to.display()
    );
    Ok(())
}

fn copy_objects(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for file in digest::OBJECTS.iter().chain(&[digest::DIGEST_FILE]) {
        fs::copy(from.join(file), to.join(file)).with_context(|| format!("copying {file}"))?;
    }
    Ok(())
}
