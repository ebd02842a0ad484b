//! What ARCHITECTURE.md says about the code is so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

fn sources() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
        ])
        .current_dir(root())
        .output()
        .expect("git is installed");
    assert!(
        listed.status.success(),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let names = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    let files: Vec<PathBuf> = names
        .split_terminator('\0')
        .map(|n| root().join(n))
        .filter(|p| p.exists())
        .collect();
    assert!(files.len() > 100, "git lists the sources");
    files
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref())
        .unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

/// Direct dependencies (not those for tests or builds) by crate, from `cargo metadata`.
fn dependencies() -> Vec<(String, BTreeSet<String>)> {
    let out = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value =
        serde_json::from_slice(&out.stdout).expect("cargo prints JSON");
    let text = |v: &serde_json::Value| v.as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|p| {
            let normal = p["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .filter(|d| d["kind"].is_null());
            (text(&p["name"]), normal.map(|d| text(&d["name"])).collect())
        })
        .collect()
}

#[test]
fn every_invariant_names_tests_that_exist() {
    let page = read(root().join("ARCHITECTURE.md"));
    let code: String = sources().iter().map(read).collect();
    let invariants: Vec<&str> = page
        .lines()
        .filter(|l| l.starts_with("- Invariant:"))
        .collect();
    assert!(invariants.len() >= 10);
    for invariant in invariants {
        let (_, guards) = invariant
            .rsplit_once('(')
            .expect("an invariant names its test in brackets");
        let tests: Vec<&str> = guards
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|t| !t.starts_with("cargo "))
            .collect();
        assert!(guards.contains('`'), "no test guards: {invariant}");
        for test in tests {
            assert!(
                code.contains(&format!("fn {test}(")),
                "no test is called {test}: {invariant}"
            );
        }
    }
}

#[test]
fn lime_core_is_pure() {
    let (_, deps) = dependencies()
        .into_iter()
        .find(|(n, _)| n == "lime-core")
        .expect("lime-core");
    let allowed = ["serde", "strsim", "thiserror"].map(str::to_owned).into();
    assert!(
        deps.is_subset(&allowed),
        "lime-core depends on {:?}",
        deps.difference(&allowed)
    );
    let of_core = |f: &&PathBuf| {
        let production = !f.ends_with("tests.rs") && !f.ends_with("simulation.rs");
        production && f.starts_with(root().join("lime-core/src"))
    };
    for file in sources().iter().filter(of_core) {
        let text = read(file);
        for io in [
            "std::net::Tcp",
            "std::fs",
            "std::thread",
            "Instant::now",
            "SystemTime",
            "async fn",
            "println!",
        ] {
            assert!(!text.contains(io), "{} has {io}", file.display());
        }
    }
}

#[test]
fn dependencies_point_one_way() {
    let kernel = ["aya", "rtnetlink", "netlink-packet-route"];
    for (name, deps) in dependencies() {
        let tests = ["lime-tests", "lime-bench", "xtask"].contains(&name.as_str());
        if !tests {
            assert!(
                !deps.contains("lime-coordinator"),
                "{name} depends on the coordinator"
            );
            assert!(
                !deps.contains("switch-agent"),
                "{name} depends on the agent"
            );
        }
        if !tests && name != "switch-agent" && name != "switch-abi" {
            for k in kernel {
                assert!(!deps.contains(k), "{name} touches the kernel: {k}");
            }
        }
    }
}

#[test]
fn files_are_rooms() {
    for file in sources() {
        let lines = read(&file).lines().count();
        assert!(
            lines <= 800,
            "{} has {lines} lines: find the seam",
            file.display()
        );
    }
}
