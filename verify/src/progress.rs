//! What a long run has done so far, on the disk: a run that was killed goes on behind the last world that it finished.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::explore::Report;

/// A world that was walked through without a violation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// The run that it is of: the same program with the same options.
    pub run: u64,
    /// The scenario.
    pub name: String,
    /// Different states.
    pub states: u64,
    /// Steps taken.
    pub steps: u64,
    /// All states were seen.
    pub complete: bool,
    /// How long it took, seconds.
    pub seconds: f64,
}

/// The file, one line of JSON for each world.
#[derive(Debug)]
pub struct Progress {
    path: PathBuf,
    run: u64,
    finished: Vec<Finished>,
}

/// A number for a program and its options: what was done by another one does not count.
pub fn run_of(program: &Path, options: &str) -> io::Result<u64> {
    let mut hasher = foldhash::quality::FixedState::default().build_hasher();
    hasher.write(&fs::read(program)?);
    hasher.write(options.as_bytes());
    // JSON's numbers are exact up to 2^53.
    Ok(hasher.finish() >> 11)
}

impl Progress {
    /// What the file has of this run. A line that does not read is one that was being written.
    pub fn open(path: &Path, run: u64) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let lines = text.lines().filter_map(|l| serde_json::from_str(l).ok());
        Ok(Self {
            path: path.into(),
            run,
            finished: lines.filter(|f: &Finished| f.run == run).collect(),
        })
    }

    /// What was done of a world before.
    pub fn of(&self, name: &str) -> Option<&Finished> {
        self.finished.iter().find(|f| f.name == name)
    }

    /// Time spent on what is finished.
    pub fn time(&self) -> Duration {
        Duration::from_secs_f64(self.finished.iter().map(|f| f.seconds).sum())
    }

    /// A world is finished. On the disk when this returns.
    pub fn add(&mut self, name: &str, report: &Report) -> io::Result<()> {
        let finished = Finished {
            run: self.run,
            name: name.to_owned(),
            states: report.states,
            steps: report.steps,
            complete: report.complete,
            seconds: report.time.as_secs_f64(),
        };
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        // Behind half a line of a run that was killed, a new one.
        writeln!(file, "\n{}", serde_json::to_string(&finished)?)?;
        file.sync_data()?;
        self.finished.push(finished);
        Ok(())
    }

    /// The run is over: the next one begins at the beginning.
    pub fn end(self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_run_goes_on_and_another_does_not() {
        let name = format!("lime-verify-progress-{}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        let report = Report {
            states: 7,
            complete: true,
            time: Duration::from_millis(1500),
            ..Default::default()
        };
        let mut progress = Progress::open(&path, 1).unwrap();
        progress.add("one", &report).unwrap();
        // Killed while writing.
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"run\":1,\"name\":\"tw").unwrap();
        let mut progress = Progress::open(&path, 1).unwrap();
        assert_eq!(
            progress.of("one").map(|f| (f.states, f.complete)),
            Some((7, true))
        );
        assert_eq!(progress.of("two"), None);
        assert_eq!(progress.time(), Duration::from_millis(1500));
        progress.add("two", &report).unwrap();
        let progress = Progress::open(&path, 1).unwrap();
        assert!(progress.of("one").is_some() && progress.of("two").is_some());
        let other = Progress::open(&path, 2).unwrap();
        assert_eq!(other.of("one"), None, "other options");
        progress.end().unwrap();
        assert!(!path.exists());
    }
}
