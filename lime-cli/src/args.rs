//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::commands::{
    bundle, completions, events, group, host, link, meter, migrate, network, packet_out, port,
    rule, stats, switch,
};

const AFTER_HELP: &str = "\
Names:
  NET              a network
  NET/SWITCH       a switch
  NET/SWITCH:PORT  a port of a switch, by its number

Exit codes:
  0  done
  1  error
  2  usage: arguments, names or flows that cannot be
  3  something named does not exist
  4  it exists already, or something else must be done first
  5  the coordinator or a host cannot be reached, or does not answer
  6  a migration was rolled back or failed";

/// Heading of the options that all commands have.
const GLOBAL: &str = "Options of all commands";

/// Runs virtual networks and moves them live between hosts.
#[derive(Debug, Parser)]
#[command(name = "lime", version, after_help = AFTER_HELP, propagate_version = true)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, ClapArgs)]
pub struct Global {
    /// Where the coordinator listens
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "URL",
        env = "LIME_COORDINATOR",
        default_value = "http://127.0.0.1:7600"
    )]
    pub coordinator: String,
    /// Print JSON: one value, or one per line where there is no end
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Seconds to wait for an answer; migrations take as long as they take
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub timeout: u32,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Networks
    #[command(subcommand)]
    Network(network::Command),
    /// Virtual switches and their instances
    #[command(subcommand)]
    Switch(switch::Command),
    /// Ports of switches
    #[command(subcommand)]
    Port(port::Command),
    /// Links between ports of two switches
    #[command(subcommand)]
    Link(link::Command),
    /// Hosts that run an agent
    #[command(subcommand)]
    Host(host::Command),
    /// Rules of a switch, in ovs-ofctl syntax
    #[command(subcommand)]
    Rule(rule::Command),
    /// Groups of a switch
    #[command(subcommand)]
    Group(group::Command),
    /// Change rules, groups and meters of a switch together, all or nothing
    Bundle(bundle::Command),
    /// Meters of a switch, in ovs-ofctl syntax
    #[command(subcommand)]
    Meter(meter::Command),
    /// Counters of ports
    Stats(stats::Command),
    /// Packets that rules send to the controller
    Events(events::Command),
    /// Send a packet out of a switch
    PacketOut(packet_out::Command),
    /// Move switches and what is on them to another host, live
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Print the completions of a shell
    Completions(completions::Command),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        let args =
            Args::try_parse_from(["lime", "network", "list", "--json", "--coordinator", "x"]);
        let args = args.unwrap();
        assert!(args.global.json);
        assert_eq!(args.global.coordinator, "x");
    }

    #[test]
    fn names_are_checked_by_the_command_line() {
        for bad in [
            &["lime", "switch", "show", "edge"][..],
            &["lime", "port", "delete", "acme/edge"],
            &["lime", "port", "delete", "acme/edge:0"],
            &["lime", "network", "create", "a/b"],
            &["lime", "rule", "del", "acme/edge"],
            &["lime", "rule", "add", "acme/edge"],
            &["lime", "migrate", "run", "acme", "--from", "a"],
            &[
                "lime", "migrate", "run", "acme", "--from", "a", "--to", "b", "--port", "edge=x",
            ],
            &["lime", "network", "list", "--timeout", "0"],
        ] {
            assert!(Args::try_parse_from(bad.iter()).is_err(), "{bad:?}");
        }
    }
}
