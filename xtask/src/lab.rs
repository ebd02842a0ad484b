//! `cargo xtask lab`: labs for people.

use std::os::unix::process::CommandExt;
use std::process::Command as Process;

use anyhow::{Context, Result, bail, ensure};
use lime_tests::lab::{Lab, LabName, Netns, registry};

use crate::binaries;

/// Commands of `cargo xtask lab`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Build a lab and keep it up until Ctrl-C or `lab down`
    Up(Up),
    /// Take a lab down
    Down {
        /// Its name; not needed if only one is up
        name: Option<String>,
    },
    /// List the labs that are up
    List,
    /// A shell in a host, an end host, or `core` (where the coordinator runs), with `lime` in its path
    Shell {
        /// Name of the host or end host, or `core`
        host: String,
        /// The lab's name; not needed if only one is up
        #[arg(long)]
        name: Option<String>,
        /// Run this instead of a shell
        #[arg(last = true)]
        command: Vec<String>,
    },
}

/// Options of `cargo xtask lab up`.
#[derive(Debug, clap::Args)]
pub struct Up {
    /// Number of hosts, called a, b, c ...
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=200))]
    hosts: u8,
    /// Number of end hosts, called h1, h2 ...
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=200))]
    end_hosts: u8,
    /// The lab's name: lower-case letters and digits
    #[arg(long, default_value = "lab")]
    name: String,
    /// MTU of the underlay between the hosts
    #[arg(long, default_value_t = 9000, value_parser = clap::value_parser!(u32).range(576..=65000))]
    mtu: u32,
    /// Set offloads as ports in XDP mode need them
    #[arg(long)]
    xdp: bool,
}

/// Runs a command of `cargo xtask lab`.
pub fn run(command: &Command) -> Result<()> {
    binaries::need_root("the lab")?;
    match command {
        Command::Up(up) => tokio::runtime::Runtime::new()?.block_on(run_up(up)),
        Command::Down { name } => down(name.as_deref()),
        Command::List => {
            list();
            Ok(())
        }
        Command::Shell {
            host,
            name,
            command,
        } => shell(host, name.as_deref(), command),
    }
}

async fn run_up(up: &Up) -> Result<()> {
    let name = LabName::parse(&up.name).with_context(|| {
        format!(
            "`{}` cannot name a lab: 1 to 24 lower-case letters and digits",
            up.name
        )
    })?;
    binaries::build()?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let lab = Lab::builder()
        .name(name)
        .hosts(up.hosts.into())
        .end_hosts(up.end_hosts.into())
        .underlay_mtu(up.mtu)
        .xdp(up.xdp)
        // People change rules by the command line, which is not recorded.
        .unwatched()
        .build();
    let lab = tokio::select! {
        lab = lab => lab?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("interrupted"),
    };
    describe(&lab)?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    println!("Taking lab {} down.", lab.name());
    drop(lab);
    Ok(())
}

fn describe(lab: &Lab) -> Result<()> {
    println!(
        "Lab {} is up. Coordinator: http://{}\n",
        lab.name(),
        lime_tests::lab::COORDINATOR
    );
    for host in lab.hosts() {
        println!(
            "  host {:<4} underlay {}",
            host.name(),
            host.underlay_address()
        );
    }
    for end_host in lab.end_hosts() {
        println!(
            "  end host {:<4} {} {}  port device on every host: {}",
            end_host.name(),
            end_host.ipv4(),
            end_host.ipv6(),
            Lab::port_device(end_host.name())
        );
    }
    println!(
        "\nIn another terminal:\n  cargo xtask lab shell core         # `lime` is in the path there and knows the coordinator"
    );
    if let (Some(end_host), Some(host)) = (lab.end_hosts().first(), lab.hosts().first()) {
        println!(
            "  cargo xtask lab shell {:<12} # a shell in an end host",
            end_host.name()
        );
        println!(
            "\nA port gets its end host by the driver (lime port create NET/SWITCH --host HOST --device DEVICE --driver DRIVER):"
        );
        for end_host in lab.end_hosts() {
            println!("  {}: {}", end_host.name(), lab.driver(end_host.name())?);
        }
        println!("\nAll end hosts are plugged in at host {}.", host.name());
    }
    println!(
        "Ctrl-C, or `cargo xtask lab down {}`, takes it all down.",
        lab.name()
    );
    Ok(())
}

fn list() {
    let labs = registry::list();
    if labs.is_empty() {
        println!("No lab is up. Start one with `cargo xtask lab up`.");
    }
    for (name, record) in labs {
        println!(
            "{name}: hosts {}; end hosts {}; coordinator {}; process {}",
            record.hosts.join(" "),
            record.end_hosts.join(" "),
            record.coordinator,
            record.owner
        );
    }
}

fn down(name: Option<&str>) -> Result<()> {
    for swept in registry::sweep()? {
        println!("Removed what was left of lab {swept}.");
    }
    let (name, record) = choose(name)?;
    registry::stop(&name, &record)?;
    println!("Lab {name} is down.");
    Ok(())
}

fn shell(host: &str, name: Option<&str>, command: &[String]) -> Result<()> {
    let (name, record) = choose(name)?;
    let known = host == "core"
        || record
            .hosts
            .iter()
            .chain(&record.end_hosts)
            .any(|h| h == host);
    ensure!(
        known,
        "lab {name} has no `{host}`: it has core, hosts {} and end hosts {}",
        record.hosts.join(" "),
        record.end_hosts.join(" ")
    );
    let ns = Netns::open(&name.namespace(host))?;
    // This process is about to become the shell: its main thread is the one that must enter.
    ns.enter().context("cannot enter the namespace")?;
    let mut path = record.bin_dir.clone().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".into());
    let (program, args) = match command.split_first() {
        Some((program, args)) => (program.as_str(), args),
        None => (shell.as_str(), [].as_slice()),
    };
    let error = Process::new(program)
        .args(args)
        .env("PATH", path)
        .env("LIME_COORDINATOR", &record.coordinator)
        .env("PS1", format!("{name}/{host}# "))
        .exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}

/// The lab of that name, or the only one that is up.
fn choose(name: Option<&str>) -> Result<(LabName, registry::Record)> {
    let mut labs = registry::list();
    if let Some(name) = name {
        labs.retain(|(n, _)| n.as_str() == name);
        return labs
            .pop()
            .with_context(|| format!("no lab called `{name}` is up (`cargo xtask lab list`)"));
    }
    match labs.len() {
        0 => bail!("no lab is up: start one with `cargo xtask lab up`"),
        1 => labs.pop().context("no lab is up"),
        _ => bail!("several labs are up: name one (`cargo xtask lab list`)"),
    }
}
