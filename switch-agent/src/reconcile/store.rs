//! The last description of each network that was applied, on disk: what a restarted agent goes on with before it hears from the coordinator.
//!
//! One file per network: magic (8 bytes), CRC-32 of the rest (4, little-endian), then the `Configure` message. A file is replaced by
//! renaming, so there is always a whole one. A damaged file counts as none: the coordinator sends the description again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lime_core::NetworkId;
use lime_proto::v1;
use prost::Message;
use thiserror::Error;
use tracing::warn;

const MAGIC: &[u8; 8] = b"LIMEnet1";
/// No description is larger, bytes.
const MAX_SIZE: u64 = 64 << 20;

/// Why the state directory cannot be used.
#[derive(Debug, Error)]
#[error("state directory: {action} {path}")]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The state directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Makes the directory if needed.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(|source| StoreError {
            action: "making",
            path: directory.into(),
            source,
        })?;
        Ok(Self {
            directory: directory.into(),
        })
    }

    fn path(&self, network: NetworkId) -> PathBuf {
        self.directory.join(format!("network-{network}"))
    }

    /// Keeps a description, in place of the network's former one.
    ///
    /// # Errors
    /// It is not on disk; the former one still is.
    pub fn save(&self, configure: &v1::Configure) -> Result<(), StoreError> {
        let path = self.path(NetworkId(configure.network));
        let new = path.with_extension("new");
        let message = configure.encode_to_vec();
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(MAGIC)?;
            file.write_all(&crc32fast::hash(&message).to_le_bytes())?;
            file.write_all(&message)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|source| StoreError {
            action: "writing",
            path: path.clone(),
            source,
        })
    }

    /// The network's description, if there is a whole one.
    pub fn load(&self, network: NetworkId) -> Option<v1::Configure> {
        let path = self.path(network);
        match read(&path) {
            Ok(configure) if configure.network == network.0 => Some(configure),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(path = %path.display(), %error, "saved network cannot be read; waiting for the coordinator's");
                None
            }
        }
    }

    /// Forgets a network.
    ///
    /// # Errors
    /// Its file is still there.
    pub fn remove(&self, network: NetworkId) -> Result<(), StoreError> {
        let path = self.path(network);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError {
                action: "removing",
                path,
                source,
            }),
            _ => Ok(()),
        }
    }

    /// Forgets all networks but these.
    ///
    /// # Errors
    /// The directory cannot be read, or a file cannot be removed.
    pub fn keep_only(&self, networks: &[NetworkId]) -> Result<(), StoreError> {
        let error = |source| StoreError {
            action: "reading",
            path: self.directory.clone(),
            source,
        };
        for entry in fs::read_dir(&self.directory).map_err(error)? {
            let name = entry.map_err(error)?.file_name();
            let id = name
                .to_str()
                .and_then(|n| n.strip_prefix("network-"))
                .and_then(|n| n.parse().ok())
                .map(NetworkId);
            if let Some(id) = id.filter(|id| !networks.contains(id)) {
                self.remove(id)?;
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<v1::Configure> {
    let damaged = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    if fs::metadata(path)?.len() > MAX_SIZE {
        return Err(damaged("the file is too large"));
    }
    let bytes = fs::read(path)?;
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| damaged("not a saved network"))?;
    let (checksum, message) = rest
        .split_first_chunk::<4>()
        .ok_or_else(|| damaged("the file is cut"))?;
    if crc32fast::hash(message) != u32::from_le_bytes(*checksum) {
        return Err(damaged("the checksum is wrong"));
    }
    v1::Configure::decode(message).map_err(|_| damaged("not a description of a network"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("lime-store-{}-{name}", std::process::id())))
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn configure(network: u32) -> v1::Configure {
        v1::Configure {
            network,
            generation: 3,
            vni: 9,
            ..Default::default()
        }
    }

    #[test]
    fn what_is_saved_comes_back() {
        let dir = Dir::new("round-trip");
        let store = Store::open(&dir.0).unwrap();
        store.save(&configure(1)).unwrap();
        store.save(&configure(2)).unwrap();
        assert_eq!(store.load(NetworkId(1)), Some(configure(1)));
        store.keep_only(&[NetworkId(1)]).unwrap();
        assert_eq!(store.load(NetworkId(2)), None);
        store.remove(NetworkId(1)).unwrap();
        store.remove(NetworkId(1)).unwrap();
        assert_eq!(store.load(NetworkId(1)), None);
    }

    #[test]
    fn no_damaged_file_is_taken() {
        let dir = Dir::new("damaged");
        let store = Store::open(&dir.0).unwrap();
        store.save(&configure(1)).unwrap();
        let path = store.path(NetworkId(1));
        let whole = fs::read(&path).unwrap();
        for n in 0..whole.len() {
            fs::write(&path, &whole[..n]).unwrap();
            assert_eq!(store.load(NetworkId(1)), None, "cut at {n}");
            let mut flipped = whole.clone();
            flipped[n] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert_eq!(store.load(NetworkId(1)), None, "flipped at {n}");
        }
    }
}
