//! A distribution's kernel: its package is fetched and taken apart once, into `target/vm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{debian, process};

/// Drivers that the tests need and Debian builds as modules, in an order in which they can be loaded.
const MODULES: [&str; 4] = [
    "drivers/net/veth.ko",
    "drivers/net/tun.ko",
    "net/sched/sch_ingress.ko",
    "net/sched/cls_bpf.ko",
];

/// A package that was fetched by other means.
const PACKAGE_FILE: &str = "LIME_KERNEL_DEB";

/// A kernel that can be booted.
pub struct Kernel {
    /// `6.1.0-56-amd64`, or the like.
    pub release: String,
    /// The compressed image.
    pub image: PathBuf,
    /// Modules, in the order in which they are to be loaded.
    pub modules: Vec<PathBuf>,
}

/// The newest kernel `version` (6.1) of Debian, from the cache if it is there.
///
/// # Errors
/// Says what to do where the package cannot be had.
pub fn fetch(version: &str, cache: &Path) -> Result<Kernel> {
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    if let Some(file) = std::env::var_os(PACKAGE_FILE) {
        let unpacked = cache.join("given");
        // It may be another one than last time.
        let _ = fs::remove_dir_all(&unpacked);
        unpack(Path::new(&file), &unpacked)?;
        return find(&unpacked);
    }
    let package = newest_package(version)?;
    let unpacked = cache.join(&package);
    if !unpacked.exists() {
        println!("Fetching {package} ...");
        let file = download(&package, cache)?;
        let result = unpack(&file, &unpacked);
        let _ = fs::remove_file(&file);
        result?;
    }
    find(&unpacked)
}

fn newest_package(version: &str) -> Result<String> {
    let pattern = format!(
        r"^linux-image-{}\.[0-9.]+-[0-9]+-amd64$",
        version.replace('.', r"\.")
    );
    let search = || -> Result<Option<String>> {
        let output = Command::new("apt-cache")
            .args(["search", "--names-only", &pattern])
            .output()
            .with_context(|| help(version, "apt-cache cannot be run"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let names = text.lines().filter_map(|l| l.split(' ').next());
        Ok(names.max_by_key(|name| numbers(name)).map(str::to_owned))
    };
    if let Some(found) = search()? {
        return Ok(found);
    }
    // On a fresh machine nothing is known before this.
    println!("Updating the list of Debian's packages ...");
    debian::apt_get(&["update", "-qq"])?;
    search()?.with_context(|| help(version, "this machine's package sources have none"))
}

/// 6.1.0-9 is older than 6.1.0-10.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok())
        .collect()
}

fn help(version: &str, why: &str) -> String {
    format!(
        "no kernel {version}: {why}. It is in Debian's packages linux-image-{version}.*-amd64 (Debian 12 for 6.1): \
         get one and name its file in {PACKAGE_FILE}"
    )
}

fn download(package: &str, cache: &Path) -> Result<PathBuf> {
    // apt-get names the file as it likes: in a directory of its own there is no doubt which it is.
    let directory = cache.join("download");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    process::succeed(
        Command::new("apt-get")
            // As root, the user that apt-get would download as may not write here.
            .args(["-o", "APT::Sandbox::User=root", "download", "-qq", package])
            .current_dir(&directory),
    )?;
    let file = fs::read_dir(&directory)?
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "deb"))
        .with_context(|| format!("apt-get download {package} left no file"))?;
    Ok(file)
}

/// Takes what is needed out of a package. All of it or nothing is in `to` afterwards.
fn unpack(package: &Path, to: &Path) -> Result<()> {
    let partly = to.with_extension("partly");
    let _ = fs::remove_dir_all(&partly);
    fs::create_dir_all(&partly)?;
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("dpkg-deb cannot be run")?;
    let from = archive.stdout.take().context("a pipe that was asked for")?;
    let mut tar = Command::new("tar");
    tar.arg("--directory")
        .arg(&partly)
        .args(["-x", "--wildcards", "./boot/vmlinuz-*"])
        .args(MODULES.map(|m| format!("*/kernel/{m}")))
        .stdin(from);
    let extracted = process::succeed(&mut tar);
    let read = archive.wait().context("dpkg-deb")?;
    ensure!(
        read.success(),
        "{} is not a Debian package, or is damaged",
        package.display()
    );
    extracted?;
    fs::rename(&partly, to).with_context(|| format!("cannot make {}", to.display()))
}

fn find(unpacked: &Path) -> Result<Kernel> {
    let boot = unpacked.join("boot");
    let image = fs::read_dir(&boot)
        .with_context(|| format!("cannot list {}", boot.display()))?
        .flatten()
        .map(|e| e.path())
        .next()
        .with_context(|| format!("no kernel in {}", boot.display()))?;
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let release = name.trim_start_matches("vmlinuz-").to_owned();
    let all = unpacked.join("lib/modules").join(&release).join("kernel");
    let modules = MODULES.map(|m| all.join(m)).to_vec();
    for module in &modules {
        ensure!(module.exists(), "{} is missing", module.display());
    }
    Ok(Kernel {
        release,
        image,
        modules,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_by_number() {
        let names = ["linux-image-6.1.0-9-amd64", "linux-image-6.1.0-56-amd64"];
        let newest = names.iter().max_by_key(|n| numbers(n));
        assert_eq!(newest, Some(&names[1]));
    }
}
