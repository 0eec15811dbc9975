//! `COMMAND`: the table, told to clients, which route by it.

use bytes::Bytes;

use super::connection::{Ran, ran};
use super::spec::{Flags, KeyPlaces, Spec, Work};
use super::table::{TABLE, lookup};
use super::view::{ConnectionState, View};
use super::{errors, glob};
use crate::messages::client::Reply;

const FLAGS: Flags = Flags::LOADING.and(Flags::STALE);
const INFO: Spec = Spec { flags: FLAGS, categories: &["connection"], since: "2.8.13", ..Spec::BASE };

/// This family's part of the table.
pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "command",
    arity: -1,
    tips: &["nondeterministic_output_order"],
    summary: "Tells about all commands.",
    complexity: "O(N) in the number of commands",
    subcommands: SUBCOMMANDS,
    work: Work::Connection(|_, _, _| Reply::Array(TABLE.iter().map(|spec| info(spec)).collect()).into()),
    ..INFO
}];

const SUBCOMMANDS: &[Spec] = &[
    Spec {
        name: "command|count",
        arity: 2,
        summary: "Tells how many commands there are.",
        work: Work::Connection(|_, _, _| Reply::Integer(TABLE.len() as i64).into()),
        ..INFO
    },
    Spec {
        name: "command|info",
        arity: -2,
        tips: &["nondeterministic_output_order"],
        summary: "Tells about some commands: arity, flags, keys.",
        complexity: "O(N) in the number of commands asked for",
        work: Work::Connection(infos),
        ..INFO
    },
    Spec {
        name: "command|docs",
        arity: -2,
        tips: &["nondeterministic_output_order"],
        since: "7.0.0",
        summary: "Tells what some commands are for.",
        complexity: "O(N) in the number of commands asked for",
        work: Work::Connection(all_docs),
        ..INFO
    },
    Spec {
        name: "command|list",
        arity: -2,
        tips: &["nondeterministic_output_order"],
        since: "7.0.0",
        summary: "Lists the names of commands.",
        complexity: "O(N) in the number of commands",
        work: Work::Connection(|_, _, words| ran(list(words))),
        ..INFO
    },
    Spec {
        name: "command|getkeys",
        arity: -4,
        summary: "Tells which words of a command are keys.",
        complexity: "O(N) in the number of words",
        work: Work::Connection(|_, _, words| ran(get_keys(&words[2..]))),
        ..INFO
    },
    Spec {
        name: "command|help",
        arity: 2,
        since: "5.0.0",
        summary: "Lists the subcommands.",
        work: Work::Connection(help),
        ..INFO
    },
];

fn infos(_: &mut ConnectionState, _: &View, words: &[Bytes]) -> Ran {
    let told = if words.len() == 2 {
        TABLE.iter().map(|spec| info(spec)).collect()
    } else {
        words[2..].iter().map(|name| find(name).map_or(Reply::Null, info)).collect()
    };
    Reply::Array(told).into()
}

/// The command of that name; `parent|own` names a subcommand.
fn find(name: &[u8]) -> Option<&'static Spec> {
    match name.iter().position(|byte| *byte == b'|') {
        None => lookup(name),
        Some(bar) => lookup(&name[..bar])?.subcommand(&name[bar + 1..]),
    }
}

/// The ten elements of `COMMAND INFO`.
fn info(spec: &Spec) -> Reply {
    let KeyPlaces { first, last, step } = spec.keys;
    let key_specs = if first == 0 { Vec::new() } else { vec![key_spec(spec)] };
    let subcommands: Vec<Reply> = spec.subcommands.iter().map(info).collect();
    Reply::Array(vec![
        Reply::text(spec.name),
        Reply::Integer(spec.arity.into()),
        Reply::Set(spec.flags.names().map(simple).collect()),
        Reply::Integer(first.into()),
        Reply::Integer(last.into()),
        Reply::Integer(step.into()),
        Reply::Set(spec.all_categories().map(|name| Reply::Simple(format!("@{name}").into())).collect()),
        Reply::Set(spec.tips.iter().map(|tip| Reply::text(*tip)).collect()),
        Reply::Set(key_specs),
        if subcommands.is_empty() { Reply::Set(subcommands) } else { Reply::Array(subcommands) },
    ])
}

/// Where the keys stand, in the form of Redis 7: a place to begin, and from there the last place and the step.
fn key_spec(spec: &Spec) -> Reply {
    let KeyPlaces { first, last, step } = spec.keys;
    let number = |name: &str, value: i32| (Reply::text(name), Reply::Integer(value.into()));
    let map = |kind: &str, spec: Vec<(Reply, Reply)>| {
        Reply::Map(vec![(Reply::text("type"), Reply::text(kind)), (Reply::text("spec"), Reply::Map(spec))])
    };
    let relative = if last < 0 { last } else { last - first };
    let range = vec![number("lastkey", relative), number("keystep", step), number("limit", 0)];
    Reply::Map(vec![
        (Reply::text("flags"), Reply::Set(spec.key_flags.iter().map(|flag| simple(flag)).collect())),
        (Reply::text("begin_search"), map("index", vec![number("index", first)])),
        (Reply::text("find_keys"), map("range", range)),
    ])
}

fn simple(text: &'static str) -> Reply {
    Reply::Simple(text.into())
}

fn all_docs(_: &mut ConnectionState, _: &View, words: &[Bytes]) -> Ran {
    let asked: Vec<&Spec> = match &words[2..] {
        [] => TABLE.to_vec(),
        names => names.iter().filter_map(|name| find(name)).collect(),
    };
    Reply::Map(asked.into_iter().map(|spec| (Reply::text(spec.name), docs(spec))).collect()).into()
}

fn docs(spec: &Spec) -> Reply {
    let text = |name: &str, value: &str| (Reply::text(name), Reply::text(value));
    let mut fields = vec![
        text("summary", spec.summary),
        text("since", spec.since),
        text("group", spec.group),
        text("complexity", spec.complexity),
    ];
    if let Some((since, instead)) = spec.deprecated {
        fields.push((Reply::text("doc_flags"), Reply::Set(vec![simple("deprecated")])));
        fields.push(text("deprecated_since", since));
        fields.push(text("replaced_by", instead));
    }
    if !spec.subcommands.is_empty() {
        let subcommands = spec.subcommands.iter().map(|sub| (Reply::text(sub.name), docs(sub))).collect();
        fields.push((Reply::text("subcommands"), Reply::Map(subcommands)));
    }
    Reply::Map(fields)
}

fn list(words: &[Bytes]) -> Result<Reply, Reply> {
    let names = |wanted: &dyn Fn(&Spec) -> bool| {
        let all = TABLE.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands));
        Reply::Array(all.filter(|spec| wanted(spec)).map(|spec| Reply::text(spec.name)).collect())
    };
    match &words[2..] {
        [] => Ok(Reply::Array(TABLE.iter().map(|spec| Reply::text(spec.name)).collect())),
        [filter, by, value] if filter.eq_ignore_ascii_case(b"FILTERBY") => match &by.to_ascii_uppercase()[..] {
            // There are no modules.
            b"MODULE" => Ok(Reply::Array(Vec::new())),
            b"ACLCAT" => {
                Ok(names(&|spec| spec.all_categories().any(|name| value.eq_ignore_ascii_case(name.as_bytes()))))
            }
            b"PATTERN" => {
                let pattern = value.to_ascii_lowercase();
                Ok(names(&|spec| glob::matches(&pattern, spec.name.as_bytes())))
            }
            _ => Err(errors::syntax()),
        },
        _ => Err(errors::syntax()),
    }
}

fn get_keys(words: &[Bytes]) -> Result<Reply, Reply> {
    let mut spec = lookup(&words[0]).ok_or_else(|| Reply::error("ERR Invalid command specified"))?;
    if let (false, Some(name)) = (spec.subcommands.is_empty(), words.get(1)) {
        spec = spec.subcommand(name).ok_or_else(|| Reply::error("ERR Invalid command specified"))?;
    }
    if spec.keys == KeyPlaces::NONE {
        return Err(Reply::error("ERR The command has no key arguments"));
    }
    if !spec.takes(words.len()) {
        return Err(Reply::error("ERR Invalid number of arguments specified for command"));
    }
    Ok(Reply::Array(super::keys(spec, words).map(|key| Reply::Bulk(key.clone())).collect()))
}

/// `HELP` of any command that has subcommands: its part of the table in prose.
pub(super) fn help(_: &mut ConnectionState, _: &View, words: &[Bytes]) -> Ran {
    let Some(parent) = lookup(&words[0]) else { return errors::unknown_command(words).into() };
    let name = parent.name.to_ascii_uppercase();
    let mut lines = vec![format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
    for sub in parent.subcommands {
        lines.push(sub.own_name().to_ascii_uppercase());
        lines.push(format!("    {}", sub.summary));
    }
    Reply::Array(lines.into_iter().map(|line| Reply::Simple(line.into())).collect()).into()
}
