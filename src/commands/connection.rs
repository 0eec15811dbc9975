//! Commands that concern the connection alone: who is it, what does it speak, is anyone there.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::data::integer;
use super::errors;
use super::spec::{Flags, Spec, Work};
use super::view::{ClientInfo, ConnectionState, Door, REDIS_VERSION, View};
use crate::messages::client::Reply;
use crate::messages::ownership::Role;
use crate::resp::Protocol;

const OPEN: Flags =
    Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY);
const EASY: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);
const CLIENT: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const CONNECTION: Spec = Spec { group: "connection", categories: &["connection"], ..Spec::BASE };

/// This family's part of the table.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "hello",
        arity: -1,
        flags: OPEN,
        since: "6.0.0",
        summary: "Tells who this node is and who commands the mesh; chooses the protocol, says who the client is.",
        work: Work::Connection(hello),
        ..CONNECTION
    },
    Spec {
        name: "auth",
        arity: -2,
        flags: OPEN,
        summary: "Says who the client is.",
        work: Work::Connection(auth),
        ..CONNECTION
    },
    Spec {
        name: "ping",
        arity: -1,
        flags: Flags::FAST,
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        summary: "Is anyone there?",
        work: Work::Connection(ping),
        ..CONNECTION
    },
    Spec {
        name: "echo",
        arity: 2,
        flags: EASY,
        summary: "Says it back.",
        work: Work::Connection(|_, _, words| Reply::Bulk(words[1].clone()).into()),
        ..CONNECTION
    },
    Spec {
        name: "quit",
        arity: -1,
        flags: OPEN,
        summary: "Ends the connection.",
        work: Work::Connection(|_, _, _| Ran { reply: Reply::ok(), close: true }),
        ..CONNECTION
    },
    Spec {
        name: "reset",
        arity: 1,
        flags: OPEN,
        since: "6.2.0",
        summary: "Has the connection be as if it were new.",
        work: Work::Connection(reset),
        ..CONNECTION
    },
    Spec {
        name: "select",
        arity: 2,
        flags: EASY,
        summary: "Chooses a numbered database; there is one, 0.",
        work: Work::Connection(select),
        ..CONNECTION
    },
    Spec {
        name: "client",
        arity: -2,
        categories: &[],
        since: "2.4.0",
        summary: "About connections.",
        complexity: "See the subcommands",
        subcommands: SUBCOMMANDS,
        ..CONNECTION
    },
    Spec {
        name: "readonly",
        arity: 1,
        flags: EASY,
        group: "cluster",
        since: "3.0.0",
        summary: "Says that the client would read from any holder. Reads stay linearizable.",
        work: Work::Connection(|state, _, _| reads(state, true)),
        ..CONNECTION
    },
    Spec {
        name: "readwrite",
        arity: 1,
        flags: EASY,
        group: "cluster",
        since: "3.0.0",
        summary: "Takes READONLY back.",
        work: Work::Connection(|state, _, _| reads(state, false)),
        ..CONNECTION
    },
    Spec {
        name: "asking",
        arity: 1,
        flags: Flags::FAST,
        group: "cluster",
        since: "3.0.0",
        summary: "Has no effect here: moves are not seen by clients.",
        work: Work::Connection(|_, _, _| Reply::ok().into()),
        ..CONNECTION
    },
];

const SUBCOMMANDS: &[Spec] = &[
    Spec {
        name: "client|id",
        arity: 2,
        flags: CLIENT,
        since: "5.0.0",
        summary: "Tells the connection's number.",
        work: Work::Connection(|state, _, _| Reply::Integer(state.id as i64).into()),
        ..CONNECTION
    },
    Spec {
        name: "client|setname",
        arity: 3,
        flags: CLIENT,
        since: "2.6.9",
        summary: "Names the connection.",
        work: Work::Connection(|state, _, words| ran(set_name(state, &words[2]))),
        ..CONNECTION
    },
    Spec {
        name: "client|getname",
        arity: 2,
        flags: CLIENT,
        since: "2.6.9",
        summary: "Tells the connection's name.",
        work: Work::Connection(get_name),
        ..CONNECTION
    },
    Spec {
        name: "client|setinfo",
        arity: 4,
        flags: CLIENT,
        since: "7.2.0",
        summary: "Tells the client's library (LIB-NAME) or its version (LIB-VER).",
        work: Work::Connection(|state, _, words| ran(set_info(state, words))),
        ..CONNECTION
    },
    Spec {
        name: "client|info",
        arity: 2,
        flags: CLIENT,
        tips: &["nondeterministic_output"],
        since: "6.2.0",
        summary: "Tells about this connection.",
        work: Work::Connection(info),
        ..CONNECTION
    },
    Spec {
        name: "client|list",
        arity: -2,
        flags: CLIENT.and(Flags::ADMIN),
        tips: &["nondeterministic_output"],
        since: "2.4.0",
        summary: "Tells about the connections of this node.",
        complexity: "O(N) in the number of connections",
        work: Work::Connection(|_, view, words| ran(list(view, words))),
        ..CONNECTION
    },
    Spec {
        name: "client|help",
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE),
        since: "5.0.0",
        summary: "Lists the subcommands.",
        work: Work::Connection(super::introspection::help),
        ..CONNECTION
    },
];

/// What a command that the session answers by itself came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// What the client is told, in the protocol that the connection speaks *after* the command.
    pub reply: Reply,
    /// Whether the connection ends when that is written.
    pub close: bool,
}

impl From<Reply> for Ran {
    fn from(reply: Reply) -> Self {
        Self { reply, close: false }
    }
}

/// What must be filled in in the view for a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// `View::clients`.
    pub clients: bool,
    /// `View::facts`.
    pub facts: bool,
}

/// What must be filled in in the view for this command; for most, nothing.
pub fn needs(spec: &Spec) -> Needs {
    Needs { clients: matches!(spec.name, "client|info" | "client|list"), facts: spec.name == "info" }
}

/// Carries out a command that the session answers by itself.
pub fn run(state: &mut ConnectionState, view: &View, spec: &Spec, words: &[Bytes]) -> Ran {
    match spec.work {
        Work::Connection(run) => run(state, view, words),
        _ => errors::wrong_number(spec.name).into(),
    }
}

pub(super) fn ran(result: Result<Reply, Reply>) -> Ran {
    result.unwrap_or_else(|error| error).into()
}

fn ping(_: &mut ConnectionState, _: &View, words: &[Bytes]) -> Ran {
    match &words[1..] {
        [] => Reply::Simple("PONG".into()).into(),
        [text] => Reply::Bulk(text.clone()).into(),
        _ => errors::wrong_number("ping").into(),
    }
}

fn reset(state: &mut ConnectionState, view: &View, _: &[Bytes]) -> Ran {
    let library = (std::mem::take(&mut state.library), std::mem::take(&mut state.library_version));
    *state = ConnectionState::new(state.id, view.me.password.is_some());
    (state.library, state.library_version) = library;
    Reply::Simple("RESET".into()).into()
}

fn select(_: &mut ConnectionState, view: &View, words: &[Bytes]) -> Ran {
    ran(integer(&words[1]).and_then(|number| match (number, view.door) {
        (0, _) => Ok(Reply::ok()),
        (_, Door::Plain) => Err(Reply::error("ERR DB index is out of range")),
        (_, Door::Cluster) => Err(Reply::error("ERR SELECT is not allowed in cluster mode")),
    }))
}

fn reads(state: &mut ConnectionState, readonly: bool) -> Ran {
    state.readonly = readonly;
    Reply::ok().into()
}

fn auth(state: &mut ConnectionState, view: &View, words: &[Bytes]) -> Ran {
    ran(match &words[1..] {
        [password] if view.me.password.is_some() => check(state, view, b"default", password),
        [_] => Err(Reply::error(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        )),
        [user, password] => check(state, view, user, password),
        _ => Err(errors::syntax()),
    }
    .map(|()| Reply::ok()))
}

/// There is one user, and, where no password is set, any will do.
fn check(state: &mut ConnectionState, view: &View, user: &[u8], password: &[u8]) -> Result<(), Reply> {
    let is_right = view.me.password.as_ref().is_none_or(|right| is_same(right.as_bytes(), password));
    if user != b"default" || !is_right {
        return Err(errors::wrong_pass());
    }
    state.authenticated = true;
    Ok(())
}

/// Compares in a time that depends on neither: what is compared are hashes, all bytes of them.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (Sha256::digest(one), Sha256::digest(other));
    one.iter().zip(other.iter()).fold(0, |different, (one, other)| different | (one ^ other)) == 0
}

fn hello(state: &mut ConnectionState, view: &View, words: &[Bytes]) -> Ran {
    // All or nothing: a HELLO that is refused changes nothing.
    let mut next = state.clone();
    ran(read_hello(&mut next, view, &words[1..]).map(|()| {
        *state = next;
        welcome(state, view)
    }))
}

fn read_hello(state: &mut ConnectionState, view: &View, words: &[Bytes]) -> Result<(), Reply> {
    let [version, options @ ..] = words else {
        return if state.authenticated { Ok(()) } else { Err(hello_needs_auth()) };
    };
    let version = crate::resp::integer(version)
        .ok_or_else(|| Reply::error("ERR Protocol version is not an integer or out of range"))?;
    state.protocol = match version {
        2 => Protocol::Resp2,
        3 => Protocol::Resp3,
        _ => return Err(Reply::error("NOPROTO unsupported protocol version")),
    };
    let mut options = options;
    while let [name, rest @ ..] = options {
        options = match (&name.to_ascii_uppercase()[..], rest) {
            (b"AUTH", [user, password, rest @ ..]) => {
                check(state, view, user, password)?;
                rest
            }
            (b"SETNAME", [name, rest @ ..]) => {
                set_name(state, name)?;
                rest
            }
            _ => {
                let name = String::from_utf8_lossy(name);
                return Err(Reply::error(format!("ERR Syntax error in HELLO option '{name}'")));
            }
        };
    }
    if state.authenticated { Ok(()) } else { Err(hello_needs_auth()) }
}

fn hello_needs_auth() -> Reply {
    Reply::error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
         option can be used to authenticate the client and select the RESP protocol version at the same time",
    )
}

/// What clients of Redis expect, then what is ours. In every state of the node: what is not known is null or zero.
fn welcome(state: &ConnectionState, view: &View) -> Reply {
    let published = view.published.as_deref();
    let text = |text: &str| Reply::text(text);
    let count = |number: u64| Reply::Integer(number as i64);
    let drones = published.map_or(0, |published| {
        published.dictionary.roster.values().filter(|member| member.node.role == Role::Drone).count()
    });
    let fields = [
        ("server", text("keyval")),
        ("version", text(REDIS_VERSION)),
        ("proto", Reply::Integer(state.protocol.number())),
        ("id", count(state.id)),
        ("mode", text(if view.door == Door::Plain { "standalone" } else { "cluster" })),
        ("role", text("master")),
        ("modules", Reply::Array(Vec::new())),
        ("mesh", view.mesh().map_or(Reply::Null, |mesh| Reply::text(mesh.to_string()))),
        ("term", count(published.map_or(0, |published| published.term.0))),
        ("commander", view.commander().map_or(Reply::Null, Reply::text)),
        ("dictionary", count(published.map_or(0, |published| published.dictionary.version.0))),
        ("drones", count(drones as u64)),
        ("state", text(view.state())),
    ];
    Reply::Map(fields.into_iter().map(|(name, value)| (Reply::text(name), value)).collect())
}

fn set_name(state: &mut ConnectionState, name: &Bytes) -> Result<Reply, Reply> {
    state.name = printable(name)
        .ok_or_else(|| Reply::error("ERR Client names cannot contain spaces, newlines or special characters."))?;
    Ok(Reply::ok())
}

fn get_name(state: &mut ConnectionState, _: &View, _: &[Bytes]) -> Ran {
    if state.name.is_empty() { Reply::Null.into() } else { Reply::text(state.name.as_str()).into() }
}

fn set_info(state: &mut ConnectionState, words: &[Bytes]) -> Result<Reply, Reply> {
    let (place, name) = match &words[2].to_ascii_uppercase()[..] {
        b"LIB-NAME" => (&mut state.library, "lib-name"),
        b"LIB-VER" => (&mut state.library_version, "lib-ver"),
        _ => {
            let name = String::from_utf8_lossy(&words[2]);
            return Err(Reply::error(format!("ERR Unrecognized option '{name}'")));
        }
    };
    *place = printable(&words[3])
        .ok_or_else(|| Reply::error(format!("ERR {name} cannot contain spaces, newlines or special characters.")))?;
    Ok(Reply::ok())
}

/// The bytes as text that can stand in a line of `CLIENT LIST`.
fn printable(bytes: &[u8]) -> Option<String> {
    let is_printable = bytes.iter().all(|byte| (b'!'..=b'~').contains(byte));
    is_printable.then(|| String::from_utf8_lossy(bytes).into_owned())
}

fn info(state: &mut ConnectionState, view: &View, _: &[Bytes]) -> Ran {
    let known = view.clients.iter().find(|client| client.state.id == state.id).cloned().unwrap_or_default();
    Reply::Verbatim(line(&ClientInfo { state: state.clone(), ..known }, view)).into()
}

fn list(view: &View, words: &[Bytes]) -> Result<Reply, Reply> {
    let mut ids = None;
    let mut kind = b"NORMAL".to_vec();
    match &words[2..] {
        [] => {}
        [option, name] if option.eq_ignore_ascii_case(b"TYPE") => kind = client_kind(name)?,
        [option, list @ ..] if option.eq_ignore_ascii_case(b"ID") && !list.is_empty() => {
            let id = |word: &Bytes| crate::resp::integer(word).filter(|id| *id > 0);
            let list: Option<Vec<i64>> = list.iter().map(id).collect();
            ids = Some(list.ok_or_else(|| Reply::error("ERR Invalid client ID"))?);
        }
        _ => return Err(errors::syntax()),
    }
    let is_asked = |client: &&ClientInfo| {
        kind == b"NORMAL" && ids.as_ref().is_none_or(|ids| ids.contains(&(client.state.id as i64)))
    };
    Ok(Reply::Verbatim(view.clients.iter().filter(is_asked).map(|client| line(client, view)).collect()))
}

fn client_kind(name: &[u8]) -> Result<Vec<u8>, Reply> {
    let kind = name.to_ascii_uppercase();
    // The names are the protocol's; all our clients are of the first kind.
    if [&b"NORMAL"[..], b"MASTER", b"REPLICA", b"SLAVE", b"PUBSUB"].contains(&&kind[..]) {
        return Ok(kind);
    }
    Err(Reply::error(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(name))))
}

/// A client in one line. Fields whose matter we do not have tell what a client at rest would.
fn line(client: &ClientInfo, view: &View) -> String {
    let state = &client.state;
    let seconds = |since: u64| view.now.wall_ms.saturating_sub(since) / 1000;
    format!(
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db=0 sub=0 psub=0 ssub=0 multi=-1 watch=0 qbuf={} \
         qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem={} tot-mem={} events=r cmd={} user=default \
         redir=-1 resp={} lib-name={} lib-ver={}\n",
        state.id,
        client.address,
        client.door_address,
        state.name,
        seconds(client.since_ms),
        seconds(client.active_ms),
        if state.readonly { "r" } else { "N" },
        client.input_bytes,
        client.output_bytes,
        client.input_bytes + client.output_bytes,
        if client.command.is_empty() { "NULL" } else { &client.command },
        state.protocol.number(),
        state.library,
        state.library_version,
    )
}
