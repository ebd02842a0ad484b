// The digest over the kernel-side sources that says whether a compiled object is current. Included by
// `#[path]` in `xtask` (which writes it) and in `switch-agent/build.rs` (which checks it), hence without dependencies.

use std::{fs, io, path::Path};

/// File beside compiled objects that holds the digest of the sources they were built from.
pub const DIGEST_FILE: &str = "SOURCES.sha256";
/// Names of the compiled objects.
pub const OBJECTS: [&str; 2] = ["lime-switch.bpf.o", "lime-lab.bpf.o"];
/// What the objects are made from, relative to the workspace's root: files, and folders with all that is in them.
pub const SOURCES: [&str; 4] = [
    "switch-ebpf/Cargo.lock",
    "switch-ebpf/Cargo.toml",
    "switch-ebpf/src",
    "switch-abi/src",
];

/// SHA-256 over names and contents of all [`SOURCES`] under `root`, in hex.
///
/// # Errors
/// A source that can not be read.
pub fn of_sources(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    files.sort();
    let mut input = Vec::new();
    for file in files {
        let content = fs::read(&file)?;
        let name = file.strip_prefix(root).unwrap_or(&file);
        input.extend_from_slice(name.to_string_lossy().as_bytes());
        input.push(0);
        input.extend_from_slice(&(content.len() as u64).to_le_bytes());
        input.extend_from_slice(&content);
    }
    Ok(sha256(&input)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Whether the objects in `folder` were built from sources with this digest.
pub fn matches(folder: &Path, digest: &str) -> bool {
    OBJECTS.iter().all(|object| folder.join(object).is_file())
        && fs::read_to_string(folder.join(DIGEST_FILE)).is_ok_and(|found| found.trim() == digest)
}

fn collect(path: &Path, files: &mut Vec<std::path::PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else {
        // Reading it later names no file in its error; this does.
        fs::metadata(path)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        files.push(path.to_path_buf());
    }
    Ok(())
}

/// FIPS 180-4. A build script can not have this from a crate without making every user compile it.
fn sha256(input: &[u8]) -> [u8; 32] {
    // The first 32 bits of the fractional parts of the square (h) and cube (k) roots of the first primes.
    let mut h: [u32; 8] = [
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
        0x5be0cd19,
    ];
    let k = round_constants();
    let mut message = input.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend_from_slice(&(input.len() as u64 * 8).to_be_bytes());
    for block in message.as_chunks::<64>().0 {
        let mut w = [0u32; 64];
        for (word, bytes) in w.iter_mut().zip(block.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        for i in 16..64 {
            let s0 = w[i - 15].rotate_right(7) ^ w[i - 15].rotate_right(18) ^ (w[i - 15] >> 3);
            let s1 = w[i - 2].rotate_right(17) ^ w[i - 2].rotate_right(19) ^ (w[i - 2] >> 10);
            w[i] = w[i - 16]
                .wrapping_add(s0)
                .wrapping_add(w[i - 7])
                .wrapping_add(s1);
        }
        let mut v = h;
        for i in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let t1 = v[7]
                .wrapping_add(s1)
                .wrapping_add(choice)
                .wrapping_add(k[i])
                .wrapping_add(w[i]);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            let t2 = s0.wrapping_add(majority);
            v = [
                t1.wrapping_add(t2),
                v[0],
                v[1],
                v[2],
                v[3].wrapping_add(t1),
                v[4],
                v[5],
                v[6],
            ];
        }
        for (sum, word) in h.iter_mut().zip(v) {
            *sum = sum.wrapping_add(word);
        }
    }
    let mut digest = [0; 32];
    for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(h) {
        *bytes = word.to_be_bytes();
    }
    digest
}

/// The fractional parts of the cube roots of the first 64 primes: computed in integers rather than listed.
fn round_constants() -> [u32; 64] {
    let mut constants = [0; 64];
    let mut candidate: u128 = 1;
    for constant in &mut constants {
        candidate += 1;
        while (2..candidate).any(|divisor| candidate.is_multiple_of(divisor)) {
            candidate += 1;
        }
        // The cube root of candidate * 2^96 is that of candidate, with 32 fractional bits.
        let target = candidate << 96;
        let (mut low, mut high) = (0u128, 1u128 << 36);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if middle * middle * middle <= target {
                low = middle
            } else {
                high = middle
            }
        }
        *constant = low as u32;
    }
    constants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_gives_the_standards_examples() {
        let hex = |input: &[u8]| {
            sha256(input)
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect::<String>()
        };
        assert_eq!(
            hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hex(b""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
    }
}
