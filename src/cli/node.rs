//! `keyval node`: one node of a mesh.
//!
//! Reads the settings, says what is wrong with them in one line, sets up the log, and hands over to the actors.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::output::{complain, say};
use super::parent;
use crate::actors;
use crate::settings::{LogFormat, LogSettings, Settings, Sources};

/// What can be said to a node on its command line; flags overrule the environment, that the file, that the defaults.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Settings file (TOML); config/default.toml explains every key.
    #[arg(long, value_name = "FILE", env = "KEYVAL_CONFIG")]
    config: Option<PathBuf>,
    /// Set any key, as in --set failure_timeout=1s. Lists are separated by commas.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// Name for people (node.name).
    #[arg(long)]
    name: Option<String>,
    /// drone, or witness: votes and holds no data (node.role).
    #[arg(long)]
    role: Option<String>,
    /// Where identity and agreed log are kept (node.data_dir).
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Rack or region (node.zone).
    #[arg(long)]
    zone: Option<String>,
    /// Plain door (client.listen).
    #[arg(long, value_name = "HOST:PORT")]
    client: Option<String>,
    /// Cluster door (cluster.listen).
    #[arg(long, value_name = "HOST:PORT")]
    cluster: Option<String>,
    /// Console (console.listen).
    #[arg(long, value_name = "HOST:PORT")]
    console: Option<String>,
    /// Peer door (peer.listen).
    #[arg(long, value_name = "HOST:PORT")]
    peer: Option<String>,
    /// Peer doors of nodes to join (mesh.join).
    #[arg(long, value_name = "HOST:PORT,...")]
    join: Vec<String>,
    /// Found a mesh if nobody to join knows one (mesh.found).
    #[arg(long)]
    found: bool,
    /// Read and check the settings, print them, and end.
    #[arg(long)]
    check: bool,
    /// The process with which this one ends.
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<i32>,
    /// Plant this bug in the machines of this node; `keyval sim plants` lists them. Nodes that `keyval local` or `keyval chaos`
    /// starts hear of it by the environment.
    #[cfg(feature = "planted")]
    #[arg(long, value_name = "NAME", env = "KEYVAL_PLANT")]
    plant: Option<crate::planted::Bug>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match start(arguments) {
        Ok(code) => code,
        Err(why) => {
            complain(why);
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<ExitCode, String> {
    if let Some(parent) = arguments.parent {
        parent::end_with(parent)?;
    }
    let settings = Settings::load(&arguments.sources()).map_err(|error| error.to_string())?;
    let filter = filter(&settings.log)?;
    if arguments.check {
        settings.entries().iter().for_each(|(key, value)| say(format_args!("{key} = {value:?}")));
        return Ok(ExitCode::SUCCESS);
    }
    set_up_log(&settings.log, filter);
    #[cfg(feature = "planted")]
    crate::planted::plant(arguments.plant);
    Ok(actors::run(settings))
}

impl Arguments {
    fn sources(&self) -> Sources {
        let join = (!self.join.is_empty()).then(|| self.join.join(","));
        let found = self.found.then(|| "true".to_owned());
        let own = [
            ("node.name", &self.name),
            ("node.role", &self.role),
            ("node.data_dir", &self.data_dir),
            ("node.zone", &self.zone),
            ("client.listen", &self.client),
            ("cluster.listen", &self.cluster),
            ("console.listen", &self.console),
            ("peer.listen", &self.peer),
            ("mesh.join", &join),
            ("mesh.found", &found),
        ];
        let own = own.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        Sources { file: self.config.clone(), environment: None, flags: self.set.iter().cloned().chain(own).collect() }
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("SECTION.KEY=VALUE is wanted")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

fn filter(log: &LogSettings) -> Result<EnvFilter, String> {
    let wanted =
        "error, warn, info, debug or trace is wanted, or parts with levels as in \"info,keyval::machines=debug\"";
    EnvFilter::builder().parse(&log.level).map_err(|error| format!("log.level = {:?}: {error}; {wanted}", log.level))
}

/// Lines go to the standard error; the standard output belongs to whoever started the node.
fn set_up_log(log: &LogSettings, filter: EnvFilter) {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
    match log.format {
        LogFormat::Text => lines.init(),
        LogFormat::Plain => lines.without_time().with_target(false).init(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        node: Arguments,
    }

    #[test]
    fn flags_are_settings() {
        let line =
            Line::parse_from(["node", "--set", "node.name=a=b", "--join", "a:1,b:2", "--join", "c", "--name", "n"]);
        let sources = line.node.sources();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(sources.flags, [pair("node.name", "a=b"), pair("node.name", "n"), pair("mesh.join", "a:1,b:2,c")]);
        let settings = Settings::load(&Sources { environment: Some(Vec::new()), ..sources }).unwrap();
        assert_eq!((settings.node.name.as_str(), settings.mesh.join.len()), ("n", 3));
    }

    #[test]
    fn a_level_that_is_none_is_named() {
        let log = LogSettings { level: "info,keyval=loud".into(), format: LogFormat::Text };
        assert!(filter(&log).unwrap_err().starts_with("log.level = \"info,keyval=loud\": "));
        assert!(filter(&LogSettings { level: "info,keyval::machines=debug".into(), ..log }).is_ok());
    }
}
