//! `keyval ctl`: asks a running mesh, or orders it to do something.
//!
//! A thin client of the `MESH ...` commands at any node's plain door: what it prints, any Redis client can ask for. Here is how
//! people read the answers (`render`), and the code with which it ends: 1 where something is wrong.

mod render;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Client, ClientError};
use super::output::{complain, say, say_to};
use crate::messages::status::{Explanation, Location, Map, Nodes, OrderDone, Status, Verification, Watched};

/// Longer than any order takes to reach the commander and to be agreed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than it takes to read a mesh of any size through; a node that cannot compare says so long before.
const COMPARING: Duration = Duration::from_secs(3600);

/// Between two looks of a watcher.
const LOOK: Duration = Duration::from_millis(200);

/// Whom to ask, and what.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Plain door of any node.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6234", env = "KEYVAL_AT", global = true)]
    at: String,
    /// Print what the node answers, as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// The clients' password, if one is set.
    #[arg(long, env = "KEYVAL__CLIENT__PASSWORD", hide_env_values = true, global = true)]
    password: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// How the mesh is: what is wrong, and what it does about it. Ends with 1 if something is wrong.
    Status,
    /// Who is in the mesh, and what each holds.
    Nodes,
    /// Which node holds which slots. Ends with 1 if some are not served.
    Map,
    /// Where a key lies. Ends with 1 if it is not served.
    Locate {
        /// The key.
        key: String,
    },
    /// How a range or a node stands, and what led to it.
    Explain {
        /// range:N, slot:N, node:NAME, a number (a slot) or a node's name.
        #[arg(value_name = "RANGE|SLOT|NODE")]
        what: String,
    },
    /// Whether all holders hold the same, while clients go on. Ends with 1 if one differs or does not answer.
    Verify {
        /// range:N or slot:N; else all ranges.
        #[arg(value_name = "RANGE|SLOT")]
        what: Option<String>,
    },
    /// The commander hands over.
    StepDown {
        /// To this voter; else to the best one.
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
    },
    /// The process of this node has ended for good: take it off the roster at once.
    Drop {
        /// Its name or id.
        node: String,
    },
    /// This node gives away all it holds while clients go on, then leaves the mesh, and its process ends.
    Drain {
        /// Its name or id.
        node: String,
        /// Do nothing, and list which ranges would move.
        #[arg(long)]
        dry_run: bool,
    },
    /// A node that drains stays after all.
    Abort {
        /// Its name or id.
        node: String,
    },
    /// This node votes as soon as it has the whole log, if need be instead of another.
    Promote {
        /// Its name or id.
        node: String,
    },
    /// This node does not vote.
    Demote {
        /// Its name or id.
        node: String,
    },
    /// This node takes such a share of the data from now on, relative to others' weights, whatever its settings say.
    Weight {
        /// Its name or id.
        node: String,
        /// A number, 100 is usual; own: what its settings say.
        #[arg(value_name = "NUMBER|own")]
        weight: String,
    },
    /// This node is in this zone from now on, whatever its settings say; copies go to different zones where there are enough.
    Zone {
        /// Its name or id.
        node: String,
        /// A name; none: in no zone; own: where its settings say.
        #[arg(value_name = "NAME|none|own")]
        zone: String,
    },
    /// Moves that were put off are tried at once, and what is yet to move is listed. (A mesh balances itself: this makes it
    /// do nothing else than it would.)
    Rebalance {
        /// Do nothing, and list them.
        #[arg(long)]
        dry_run: bool,
    },
    /// For whoever starts all nodes anew, one after the other: whether the next one may go. Ends with 1 if not yet.
    Rolling {
        /// Look once, and say it.
        #[arg(long, required = true)]
        check: bool,
    },
    /// Clients' writes wait, in the whole mesh, and are refused as surely not applied when they have waited for client.park;
    /// reads go on.
    Pause,
    /// Clients' writes go on.
    Resume,
    /// What happens, as it happens, beginning with what is remembered.
    Watch {
        /// Begin after this number.
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: u64,
        /// End after what is remembered.
        #[arg(long)]
        once: bool,
    },
    /// Whether the node answers and knows who commands; for health checks. Ends with 1 if not.
    Health,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match obey(arguments, &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            if arguments.json {
                say(serde_json::json!({ "error": error.to_string() }));
            }
            complain(error);
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing is wrong.
fn obey(arguments: &Arguments, output: &mut dyn Write) -> Result<bool, ClientError> {
    let patience = if let Verb::Verify { .. } = arguments.verb { COMPARING } else { PATIENCE };
    let mut client = Client::connect(&arguments.at, arguments.password.as_deref(), patience)?;
    let mut asked = Asked { client: &mut client, json: arguments.json, output };
    match &arguments.verb {
        Verb::Status => asked.tell(&["MESH", "STATUS"], render::status, |status: &Status| status.well),
        Verb::Nodes => asked.tell(&["MESH", "NODES"], render::nodes, |_: &Nodes| true),
        Verb::Map => asked.tell(&["MESH", "MAP"], render::map, |map: &Map| map.runs.iter().all(|run| run.served)),
        Verb::Locate { key } => {
            asked.tell(&["MESH", "LOCATE", key], render::location, |location: &Location| location.served)
        }
        Verb::Explain { what } => asked.tell(&["MESH", "EXPLAIN", what], render::explanation, |_: &Explanation| true),
        Verb::Verify { what } => {
            let words: Vec<&str> = ["MESH", "VERIFY"].into_iter().chain(what.as_deref()).collect();
            let all = what.is_none();
            let render = |verification: &Verification| render::verification(verification, all);
            asked.tell(&words, render, |verification: &Verification| verification.well)
        }
        Verb::StepDown { to: None } => asked.order(&["STEPDOWN"], false),
        Verb::StepDown { to: Some(to) } => asked.order(&["STEPDOWN", to], false),
        Verb::Drop { node } => asked.order(&["DROP", node], false),
        Verb::Drain { node, dry_run } => asked.order(&["DRAIN", node], *dry_run),
        Verb::Abort { node } => asked.order(&["ABORT", node], false),
        Verb::Promote { node } => asked.order(&["PROMOTE", node], false),
        Verb::Demote { node } => asked.order(&["DEMOTE", node], false),
        Verb::Weight { node, weight } => asked.order(&["WEIGHT", node, weight], false),
        Verb::Zone { node, zone } => asked.order(&["ZONE", node, zone], false),
        Verb::Rebalance { dry_run } => asked.order(&["REBALANCE"], *dry_run),
        Verb::Rolling { .. } => {
            asked.tell(&["MESH", "STATUS"], render::rolling, |status: &Status| render::in_the_way(status).is_empty())
        }
        Verb::Pause => asked.order(&["PAUSE"], false),
        Verb::Resume => asked.order(&["RESUME"], false),
        Verb::Health => asked.tell(&["MESH", "STATUS"], render::health, |status: &Status| status.commander.is_some()),
        Verb::Watch { after, once } => asked.watch(*after, *once),
    }
}

struct Asked<'a> {
    client: &'a mut Client,
    json: bool,
    output: &'a mut dyn Write,
}

impl Asked<'_> {
    /// Asks, prints the answer as wished, and says whether it is a good one.
    fn tell<T: DeserializeOwned + Serialize>(
        &mut self,
        words: &[&str],
        render: impl Fn(&T) -> String,
        is_well: impl Fn(&T) -> bool,
    ) -> Result<bool, ClientError> {
        let answer: T = self.client.json(words)?;
        say_to(self.output, if self.json { to_json(&answer) } else { render(&answer) });
        Ok(is_well(&answer))
    }

    /// Gives an order, or asks what would come of it.
    fn order(&mut self, words: &[&str], dry_run: bool) -> Result<bool, ClientError> {
        let words: Vec<&str> = ["MESH"].iter().chain(words).copied().chain(dry_run.then_some("DRYRUN")).collect();
        self.tell(&words, render::done, |_: &OrderDone| true)
    }

    /// Asks again and again. The node holds the answer until something happens.
    fn watch(&mut self, mut after: u64, once: bool) -> Result<bool, ClientError> {
        loop {
            let asked = Instant::now();
            let watched: Watched = self.client.json(&["MESH", "WATCH", &after.to_string()])?;
            if watched.missed > 0 && !self.json {
                say_to(self.output, format_args!("({} earlier events are not remembered any more)", watched.missed));
            }
            for event in &watched.events {
                say_to(self.output, if self.json { to_json(event) } else { render::event(event) });
            }
            after = watched.last;
            if once {
                return Ok(true);
            }
            // One that does not hold it is not to be asked as fast as it can answer.
            if watched.events.is_empty() && asked.elapsed() < LOOK {
                thread::sleep(LOOK); // between looks
            }
        }
    }
}

fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data always has an encoding")
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;
    use crate::messages::status::{NodeCounts, NodeName, RangeCounts};

    /// A door that gives one answer to whatever is said, for one connection; what was said comes back.
    fn door(answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let said = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut said = [0; 1024];
            let length = stream.read(&mut said).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&said[..length]).into_owned()
        });
        (at, said)
    }

    fn order(verb: Verb, answer: &'static str) -> (Result<bool, ClientError>, String) {
        let (at, said) = door(answer);
        let heard = obey(&Arguments { at, json: true, password: None, verb }, &mut Vec::new());
        (heard, said.join().unwrap())
    }

    fn bulk(text: &str) -> &'static str {
        Box::leak(format!("${}\r\n{text}\r\n", text.len()).into_boxed_str())
    }

    fn status(well: bool, commander: bool) -> &'static str {
        let commander = commander.then(|| crate::messages::status::Commander {
            id: "1".into(),
            name: "n".into(),
            client: "h:1".into(),
        });
        let status = Status {
            me: NodeName::default(),
            state: "up".into(),
            mesh: None,
            term: 1,
            version: 1,
            commander,
            nodes: NodeCounts::default(),
            ranges: RangeCounts::default(),
            progress: None,
            well,
            problems: Vec::new(),
        };
        bulk(&to_json(&status))
    }

    #[test]
    fn the_code_says_whether_something_is_wrong() {
        assert!(order(Verb::Status, status(true, false)).0.unwrap());
        assert!(!order(Verb::Status, status(false, true)).0.unwrap());
        // Health is about the node alone.
        assert!(order(Verb::Health, status(false, true)).0.unwrap());
        assert!(!order(Verb::Health, status(true, false)).0.unwrap());
    }

    #[test]
    fn orders_are_mesh_commands() {
        let (heard, said) = order(Verb::Drop { node: "node-2".into() }, bulk(r#"{"lines":["dropped"]}"#));
        assert!(heard.unwrap());
        assert_eq!(said, "*3\r\n$4\r\nMESH\r\n$4\r\nDROP\r\n$6\r\nnode-2\r\n");
        let (heard, said) = order(Verb::StepDown { to: None }, "-REFUSED nobody else votes\r\n");
        assert_eq!(heard.unwrap_err().to_string(), "REFUSED nobody else votes");
        assert_eq!(said, "*2\r\n$4\r\nMESH\r\n$8\r\nSTEPDOWN\r\n");
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        let (heard, _) = order(Verb::Status, "HTTP/1.1 400 Bad Request\r\n\r\n");
        assert!(heard.unwrap_err().to_string().contains("no plain door"));
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let asked = Arguments { at: nobody.clone(), json: false, password: None, verb: Verb::Nodes };
        let error = obey(&asked, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with(&nobody) && error.contains("--at"), "{error}");
    }

    #[test]
    fn the_password_is_said_first() {
        let (at, said) = door("-WRONGPASS no\r\n");
        let asked = Arguments { at, json: false, password: Some("p".into()), verb: Verb::Nodes };
        assert_eq!(obey(&asked, &mut Vec::new()).unwrap_err().to_string(), "WRONGPASS no");
        assert_eq!(said.join().unwrap(), "*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n");
    }
}
