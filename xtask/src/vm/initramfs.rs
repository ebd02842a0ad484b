//! The virtual machine's file system: an archive that the kernel unpacks into memory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Kinds of files (inode(7)).
const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// An archive in the making.
pub struct Initramfs {
    out: BufWriter<File>,
    /// What is in it.
    names: BTreeSet<PathBuf>,
    inode: u32,
}

impl Initramfs {
    /// An empty one with the directories that everything expects.
    pub fn create(path: &Path) -> Result<Self> {
        let out = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        let mut this = Self {
            out: BufWriter::new(out),
            names: BTreeSet::new(),
            inode: 0,
        };
        for directory in ["/proc", "/sys", "/dev", "/tmp", "/run", "/var", "/root"] {
            this.directory(Path::new(directory))?;
        }
        Ok(this)
    }

    /// Adds bytes.
    pub fn bytes(&mut self, name: &Path, bytes: &[u8]) -> Result<()> {
        if let Some(parent) = name.parent() {
            self.directory(parent)?;
        }
        self.entry(name, EXECUTABLE, bytes)
    }

    /// Adds a file.
    pub fn file(&mut self, name: &Path, from: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.bytes(name, &bytes)
    }

    /// Adds a program without its debug information, and the libraries that it is linked to.
    pub fn program(&mut self, name: &Path, from: &Path) -> Result<()> {
        let stripped = std::env::temp_dir().join(format!("lime-strip-{}", std::process::id()));
        let status = Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .args([&stripped, from])
            .status();
        let result = match status {
            Ok(status) if status.success() => self.file(name, &stripped),
            // As it is, then: only bigger.
            _ => self.file(name, from),
        };
        let _ = fs::remove_file(&stripped);
        result?;
        self.libraries(from)
    }

    /// Adds a program that is installed outside, under its name, to `/bin`.
    pub fn installed(&mut self, name: &str) -> Result<()> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        let mut directories = std::env::split_paths(&path).chain(usual);
        let Some(found) = directories.find_map(|d| Some(d.join(name)).filter(|p| p.is_file()))
        else {
            bail!("{name} is not installed");
        };
        self.program(&Path::new("/bin").join(name), &found)
    }

    fn libraries(&mut self, program: &Path) -> Result<()> {
        let output = Command::new("ldd")
            .arg(program)
            .output()
            .context("ldd cannot be run")?;
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text.lines() {
            // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)`, `/lib64/ld-linux-x86-64.so.2 (0x...)`
            let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) else {
                continue;
            };
            if !self.names.contains(Path::new(path)) {
                self.file(Path::new(path), Path::new(path))?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, name: &Path) -> Result<()> {
        if name == Path::new("/") || self.names.contains(name) {
            return Ok(());
        }
        if let Some(parent) = name.parent() {
            self.directory(parent)?;
        }
        self.entry(name, DIRECTORY, &[])
    }

    fn entry(&mut self, name: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
        self.names.insert(name.to_owned());
        self.inode += 1;
        let relative = name.to_string_lossy();
        let relative = relative.trim_start_matches('/');
        let length = u32::try_from(bytes.len()).context("a file of more than 4 GB")?;
        let mut entry = cpio::newc::Builder::new(relative)
            .mode(mode)
            .ino(self.inode)
            .write(&mut self.out, length);
        entry.write_all(bytes)?;
        entry.finish()?;
        Ok(())
    }

    /// Closes it.
    pub fn finish(self) -> Result<()> {
        let mut out = cpio::newc::trailer(self.out)?;
        out.flush()?;
        Ok(())
    }
}
