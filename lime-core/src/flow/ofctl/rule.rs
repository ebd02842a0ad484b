//! Whole flows: rules, what deletes are about, and the lines of a file of changes.

use super::actions;
use super::error::{Problem, SyntaxError};
use super::items::{Item, check_length, error_at, items};
use super::matching::MatchReader;
use super::names;
use super::value;
use crate::PortNo;
use crate::flow::{
    ALL_TABLES, AddFlags, FlowMod, Match, Modify, Rule, RuleFilter, RuleFlags, TABLES,
};

/// A rule's priority when none is given, as in ovs-ofctl (OFP_DEFAULT_PRIORITY).
pub const DEFAULT_PRIORITY: u16 = 32_768;

/// Reads a rule: `table=0,priority=100,ip,nw_dst=10.0.0.2,actions=output:2`. It has passed [`Rule::check`].
pub fn parse_rule(text: &str) -> Result<Rule, SyntaxError> {
    let flow = read(text)?;
    if flow.add != AddFlags::default() {
        return Err(error_at(
            text,
            flow.add_at,
            Problem::Unsupported {
                name: "check_overlap or reset_counts".to_owned(),
                instead: "these belong to a change, not to a rule; leave them out".to_owned(),
            },
        ));
    }
    rule_of(text, flow)
}

fn rule_of(text: &str, flow: Flow<'_>) -> Result<Rule, SyntaxError> {
    if flow.out_port.is_some() || flow.out_group.is_some() {
        let problem = Problem::Unsupported {
            name: "out_port or out_group".to_owned(),
            instead: "only deletes have it; leave it out".to_owned(),
        };
        return Err(error_at(text, flow.add_at, problem));
    }
    let missing = || error_at(text, text.len(), Problem::MissingActions);
    let actions_item = flow.actions.ok_or_else(missing)?;
    if flow.cookie_mask.is_some() {
        return Err(error_at(
            text,
            flow.cookie_at,
            Problem::Unsupported {
                name: "cookie mask".to_owned(),
                instead: "a rule has one cookie; only deletes have masks".to_owned(),
            },
        ));
    }
    // The value is behind the name and one separator.
    let from = actions_item.at + actions_item.name.len() + 1;
    if !text[..from].ends_with('=') {
        return Err(actions_item.bad_value("a list behind an equals sign"));
    }
    let list = actions::read(text, from, &flow.matching)?;
    let rule = Rule {
        table: flow.table.unwrap_or(0),
        priority: flow.priority.unwrap_or(DEFAULT_PRIORITY),
        cookie: flow.cookie.unwrap_or(0),
        matching: flow.matching,
        meter: list.meter,
        actions: list.actions,
        clear_actions: list.clear_actions,
        write_actions: list.write_actions,
        write_metadata: list.write_metadata,
        goto_table: list.goto_table,
        idle_timeout: flow.idle_timeout.unwrap_or(0),
        hard_timeout: flow.hard_timeout.unwrap_or(0),
        flags: flow.flags,
        part: None,
    };
    match rule.check() {
        Ok(()) => Ok(rule),
        Err(error) => Err(actions_item.error(Problem::Rule(error))),
    }
}

/// Reads what a delete is about: `table=1,tcp,cookie=0x10/0xf0`; nothing means every rule of every table. A `strict` delete is
/// about the rules of exactly this priority and match.
pub fn parse_filter(text: &str, strict: bool) -> Result<RuleFilter, SyntaxError> {
    let flow = read(text)?;
    let not_here = |what| error_at(text, 0, Problem::NotInDelete { what });
    if let Some(item) = flow.actions {
        return Err(item.error(Problem::NotInDelete { what: "actions" }));
    }
    if flow.idle_timeout.is_some() || flow.hard_timeout.is_some() {
        return Err(not_here("timeouts"));
    }
    if flow.flags != RuleFlags::default() || flow.add != AddFlags::default() {
        return Err(not_here("flags such as send_flow_rem"));
    }
    if flow.priority.is_some() && !strict {
        return Err(not_here("priority (only a strict one has)"));
    }
    let table = flow.table.unwrap_or(ALL_TABLES);
    if table >= TABLES && table != ALL_TABLES {
        let error = crate::flow::RuleError::NoSuchTable { table };
        return Err(error_at(text, 0, Problem::Rule(error)));
    }
    Ok(RuleFilter {
        table,
        priority: flow.priority.unwrap_or(DEFAULT_PRIORITY),
        cookie: flow.cookie.unwrap_or(0),
        cookie_mask: match flow.cookie {
            Some(_) => flow.cookie_mask.unwrap_or(u64::MAX),
            None => 0,
        },
        matching: flow.matching,
        out_port: flow.out_port,
        out_group: flow.out_group,
    })
}

/// Reads what rules are to do from now on: `table=1,tcp,actions=output:2`, the rules within this match; a `strict` one is about
/// the rule of exactly this priority and match. A cookie, perhaps with a mask, restricts it further.
pub fn parse_modify(text: &str, strict: bool) -> Result<Modify, SyntaxError> {
    let mut flow = read(text)?;
    let not_here = |what| error_at(text, 0, Problem::NotInModify { what });
    if flow.idle_timeout.is_some() || flow.hard_timeout.is_some() {
        return Err(not_here("timeouts"));
    }
    if flow.flags != RuleFlags::default() || flow.add.check_overlap {
        return Err(not_here("flags but reset_counts"));
    }
    if flow.priority.is_some() && !strict {
        return Err(not_here("priority (only a strict one has)"));
    }
    let cookie_mask = match flow.cookie {
        Some(_) => flow.cookie_mask.take().unwrap_or(u64::MAX),
        None => 0,
    };
    let reset_counts = flow.add.reset_counts;
    let rule = rule_of(text, flow)?;
    Ok(Modify {
        rule,
        cookie_mask,
        strict,
        reset_counts,
    })
}

/// Reads a rule to add, with `check_overlap` and `reset_counts` where they are wanted.
pub fn parse_add(text: &str) -> Result<FlowMod, SyntaxError> {
    let flow = read(text)?;
    let flags = flow.add;
    let rule = rule_of(text, flow)?;
    Ok(if flags == AddFlags::default() {
        FlowMod::Add(rule)
    } else {
        FlowMod::AddWith(rule, flags)
    })
}

/// Reads a line of a file of changes: a rule to add, perhaps with `add` in front, or `modify FLOW`, `modify_strict FLOW`,
/// `delete FILTER`, `delete_strict FILTER` (ovs-ofctl(8), "Flow Mod file").
pub fn parse_mod(text: &str) -> Result<FlowMod, SyntaxError> {
    let start = text.len() - text.trim_start().len();
    let word = text[start..]
        .split(char::is_whitespace)
        .next()
        .unwrap_or_default();
    // The word makes way for blanks, so that columns stay what they are.
    let rest = || {
        let mut rest = " ".repeat(start + word.len());
        rest.push_str(&text[start + word.len()..]);
        rest
    };
    match word {
        "add" => parse_add(&rest()),
        "delete" => Ok(FlowMod::Delete(parse_filter(&rest(), false)?)),
        "delete_strict" => Ok(FlowMod::DeleteStrict(parse_filter(&rest(), true)?)),
        "modify" => Ok(FlowMod::Modify(parse_modify(&rest(), false)?)),
        "modify_strict" => Ok(FlowMod::Modify(parse_modify(&rest(), true)?)),
        _ => parse_add(text),
    }
}

/// What was found in a flow.
struct Flow<'a> {
    table: Option<u8>,
    priority: Option<u16>,
    cookie: Option<u64>,
    cookie_mask: Option<u64>,
    cookie_at: usize,
    idle_timeout: Option<u16>,
    hard_timeout: Option<u16>,
    flags: RuleFlags,
    add: AddFlags,
    /// Where the last of these, or of `out_port` and `out_group`, is.
    add_at: usize,
    out_port: Option<PortNo>,
    out_group: Option<u32>,
    matching: Match,
    actions: Option<Item<'a>>,
}

fn read(text: &str) -> Result<Flow<'_>, SyntaxError> {
    check_length(text)?;
    let mut flow = Flow {
        table: None,
        priority: None,
        cookie: None,
        cookie_mask: None,
        cookie_at: 0,
        idle_timeout: None,
        hard_timeout: None,
        flags: RuleFlags::default(),
        add: AddFlags::default(),
        add_at: 0,
        out_port: None,
        out_group: None,
        matching: Match::any(),
        actions: None,
    };
    let mut matching = MatchReader::default();
    for item in items(text, 0, &['='])? {
        match item.name.to_ascii_lowercase().as_str() {
            // All that follows is actions.
            "actions" | "action" => {
                if item.value.is_none() {
                    item.value("a list, or drop")?;
                }
                flow.actions = Some(item);
                break;
            }
            "table" if item.value.is_some_and(|v| v.eq_ignore_ascii_case("all")) => {
                flow.table = Some(ALL_TABLES);
            }
            "table" => flow.table = Some(item.number(u8::MAX)?),
            "priority" => flow.priority = Some(item.number(u16::MAX)?),
            "idle_timeout" => flow.idle_timeout = Some(item.number(u16::MAX)?),
            "hard_timeout" => flow.hard_timeout = Some(item.number(u16::MAX)?),
            "send_flow_rem" => flow.flags.send_flow_removed = flag(&item)?,
            "no_packet_counts" => flow.flags.no_packet_counts = flag(&item)?,
            "no_byte_counts" => flow.flags.no_byte_counts = flag(&item)?,
            "check_overlap" => {
                flow.add.check_overlap = flag(&item)?;
                flow.add_at = item.at;
            }
            "reset_counts" => {
                flow.add.reset_counts = flag(&item)?;
                flow.add_at = item.at;
            }
            "out_port" => {
                flow.out_port = Some(actions::read_port(&item)?);
                flow.add_at = item.at;
            }
            "out_group" => {
                flow.out_group = Some(item.number(crate::flow::GROUP_MAX)?);
                flow.add_at = item.at;
            }
            "cookie" => {
                (flow.cookie, flow.cookie_mask) = read_cookie(&item)?;
                flow.cookie_at = item.at;
            }
            name if names::SKIPPED.contains(&name) => {}
            name => {
                if !matching.take(&item)? {
                    return Err(unknown(&item, name));
                }
            }
        }
    }
    flow.matching = matching.finish()?;
    Ok(flow)
}

fn flag(item: &Item<'_>) -> Result<bool, SyntaxError> {
    item.alone()?;
    Ok(true)
}

fn read_cookie(item: &Item<'_>) -> Result<(Option<u64>, Option<u64>), SyntaxError> {
    let expected = "a 64-bit number, in deletes perhaps with a mask behind it (/0xff)";
    let text = item.value(expected)?;
    let number =
        |text| value::bounded::<u64>(text, u64::MAX.into()).ok_or_else(|| item.bad_value(expected));
    Ok(match text.split_once('/') {
        None => (Some(number(text)?), None),
        Some((cookie, mask)) => (Some(number(cookie)?), Some(number(mask)?)),
    })
}

fn unknown(item: &Item<'_>, name: &str) -> SyntaxError {
    if let Some(instead) = names::unsupported_key(name) {
        return item.unsupported(instead);
    }
    let first_word = name.split(':').next().unwrap_or_default();
    if names::ACTIONS.contains(&first_word) {
        return item.unsupported("actions come last, behind actions=");
    }
    item.error(Problem::UnknownKey {
        nearest: names::nearest_key(name),
        name: item.name.to_owned(),
    })
}
