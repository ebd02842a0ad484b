//! Chooses the compiled kernel objects that this build embeds: the ones that `cargo xtask ebpf` made in
//! `target/ebpf` when they are of the present sources, else the committed ones when those are, else none.

#[path = "../switch-ebpf/digest.rs"]
#[allow(dead_code, reason = "shared with xtask")]
mod digest;

use std::{env, fs, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    match choose() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn choose() -> Result<(), String> {
    let var = |name: &str| env::var(name).map_err(|e| format!("{name}: {e}"));
    let root = PathBuf::from(var("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(var("OUT_DIR")?);
    let target = env::var("CARGO_TARGET_DIR").map_or_else(|_| root.join("target"), PathBuf::from);
    let (fresh, committed) = (target.join("ebpf"), root.join("switch-ebpf/prebuilt"));

    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CARGO_TARGET_DIR");
    for path in digest::SOURCES.iter().chain(&["switch-ebpf/digest.rs"]) {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }
    for folder in [&fresh, &committed] {
        let file = folder.join(digest::DIGEST_FILE);
        // A watched path that does not exist would make every build run this again.
        if file.exists() {
            println!("cargo:rerun-if-changed={}", file.display());
        }
    }

    let sources = digest::of_sources(&root).map_err(|e| format!("kernel-side sources: {e}"))?;
    let folder = if digest::matches(&fresh, &sources) {
        println!("kernel objects: the ones built in {}", fresh.display());
        fresh
    } else if digest::matches(&committed, &sources) {
        println!(
            "kernel objects: the committed ones in {}",
            committed.display()
        );
        committed
    } else {
        return Err(format!(
            "the compiled kernel objects in {} are not of the present sources (switch-ebpf, switch-abi); \
             run `cargo xtask ebpf --install` to build them",
            committed.display()
        ));
    };
    for object in digest::OBJECTS {
        fs::copy(folder.join(object), out.join(object))
            .map_err(|e| format!("{}: {e}", folder.join(object).display()))?;
    }
    Ok(())
}
