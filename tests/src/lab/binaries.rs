//! Where the programs under test are.

use std::path::PathBuf;

use super::error::LabError;

/// The directory with `lime-agent`, `lime-coordinator`, `lime` and `lime-lab-guard`: `LIME_BIN_DIR`, or where the running program is
/// (cargo puts test programs one directory deeper).
pub fn directory() -> PathBuf {
    if let Some(dir) = std::env::var_os("LIME_BIN_DIR") {
        return dir.into();
    }
    let mut dir = std::env::current_exe().unwrap_or_default();
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    dir
}

/// The path of one of them.
pub fn find(binary: &'static str) -> Result<PathBuf, LabError> {
    let directory = directory();
    let path = directory.join(binary);
    if path.is_file() {
        Ok(path)
    } else {
        Err(LabError::MissingBinary { binary, directory })
    }
}
