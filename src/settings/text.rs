//! How a value of each kind is written: once, for files, environment and flags alike.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{LogFormat, OnTerm, Secret};
use crate::messages::ownership::{GiveUp, OnTotalLoss, ReplicationMode, Role};

/// The port of the peer door where an address in `mesh.join` names none.
const PEER_PORT: u16 = 16234;

/// A value with one way of being written.
pub(super) trait Text: Sized {
    /// The value of a text; what is wanted, where it is none.
    fn read(text: &str) -> Result<Self, String>;

    /// The text of a value, which gives the same value when it is read.
    fn show(&self) -> String;
}

/// A number of bytes.
#[derive(Clone, Copy)]
pub(super) struct Bytes(usize);

/// A part of the whole, in millionths.
#[derive(Clone, Copy)]
pub(super) struct Drift(u32);

impl Text for String {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.trim().to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Text for Secret {
    fn read(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

impl Text for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path is wanted".into()) } else { Ok(text.into()) }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Text for bool {
    fn read(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err("true or false is wanted".into()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole_numbers {
    ($($kind:ty),*) => {$(
        impl Text for $kind {
            fn read(text: &str) -> Result<Self, String> {
                let digits: String = text.trim().chars().filter(|letter| *letter != '_').collect();
                digits.parse().map_err(|_| format!("a whole number from 0 to {} is wanted", <$kind>::MAX))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

whole_numbers!(u8, u16, u32, usize);

/// A number, or `auto` for none.
impl Text for Option<usize> {
    fn read(text: &str) -> Result<Self, String> {
        if text.trim() == "auto" {
            return Ok(None);
        }
        usize::read(text).map(Some).map_err(|_| "a whole number or \"auto\" is wanted".into())
    }

    fn show(&self) -> String {
        self.map_or_else(|| "auto".into(), |number| number.to_string())
    }
}

impl Text for Duration {
    fn read(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text.trim())
            .map_err(|_| "a time with its unit is wanted, as in \"500ms\", \"1.5s\" or \"15min\"".to_owned())
            .or_else(|error| read_decimal(text.trim()).ok_or(error))
    }

    fn show(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

/// A span as `1.5s`, which people write and humantime does not read.
fn read_decimal(text: &str) -> Option<Duration> {
    let unit = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let number: f64 = text[..unit].trim().parse().ok()?;
    let one = humantime::parse_duration(&format!("1{}", text[unit..].trim())).ok()?;
    Duration::try_from_secs_f64(number * one.as_secs_f64()).ok()
}

/// A span, or `never` for none.
impl Text for Option<Duration> {
    fn read(text: &str) -> Result<Self, String> {
        if text.trim() == "never" {
            return Ok(None);
        }
        Duration::read(text).map(Some).map_err(|error| format!("{error}, or \"never\""))
    }

    fn show(&self) -> String {
        self.map_or_else(|| "never".into(), |span| span.show())
    }
}

impl Text for GiveUp {
    fn read(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(Self::ByCopies),
            "never" => Ok(Self::Never),
            span => Duration::read(span)
                .map(Self::After)
                .map_err(|_| "\"auto\", \"never\", or a time with its unit is wanted".into()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::ByCopies => "auto".into(),
            Self::Never => "never".into(),
            Self::After(span) => span.show(),
        }
    }
}

macro_rules! words {
    ($kind:ty: $($word:literal => $value:path),*) => {
        impl Text for $kind {
            fn read(text: &str) -> Result<Self, String> {
                match text.trim() {
                    $($word => Ok($value),)*
                    _ => Err(format!("one of {} is wanted", [$($word),*].join(", "))),
                }
            }

            fn show(&self) -> String {
                match self {
                    $($value => $word.into(),)*
                }
            }
        }
    };
}

words!(Role: "drone" => Self::Drone, "witness" => Self::Witness);
words!(OnTerm: "restart" => Self::Restart, "leave" => Self::Leave);
words!(ReplicationMode: "value" => Self::Value, "command" => Self::Command);
words!(OnTotalLoss: "recover" => Self::Recover, "wait" => Self::Wait);
words!(LogFormat: "text" => Self::Text, "plain" => Self::Plain);

/// Where to listen: `ip:port`, or `:port` for all addresses of the host.
impl Text for SocketAddr {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wanted = "an address is wanted, as in \"0.0.0.0:6234\", \"[::1]:6234\" or \":6234\"";
        if let Some(port) = text.strip_prefix(':') {
            let port: u16 = port.parse().map_err(|_| wanted)?;
            return Ok((Ipv4Addr::UNSPECIFIED, port).into());
        }
        text.replace("localhost:", "127.0.0.1:").parse().map_err(|_| wanted.into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Addresses, each `host:port`, `host` or `[ipv6]:port`, separated by commas.
impl Text for Vec<String> {
    fn read(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(read_address).collect()
    }

    fn show(&self) -> String {
        self.join(",")
    }
}

fn read_address(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is no address: host:port is wanted, or several separated by commas");
    let (host, port) = match text.rsplit_once(':') {
        // More colons without brackets: an IPv6 address alone.
        Some((host, _)) if host.contains(':') && !host.ends_with(']') => return Err(wrong()),
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (text, PEER_PORT),
    };
    let sound = !host.is_empty() && port != 0 && !host.contains(|letter: char| letter.is_whitespace() || letter == '/');
    if sound { Ok(format!("{host}:{port}")) } else { Err(wrong()) }
}

const UNITS: &[(&str, usize)] = &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Text for Bytes {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| text.strip_suffix(name).map(|number| (number.trim_end(), *unit)))
            .unwrap_or((text, 1));
        let number: Option<usize> = number.parse().ok();
        let bytes = number.and_then(|number| number.checked_mul(unit));
        bytes.map(Self).ok_or_else(|| "a number of bytes is wanted, as in \"64MiB\" or \"1GiB\"".into())
    }

    fn show(&self) -> String {
        let (name, unit) =
            UNITS.iter().find(|(_, unit)| self.0.is_multiple_of(*unit) && self.0 >= *unit).unwrap_or(&("B", 1));
        format!("{}{name}", self.0 / unit)
    }
}

impl From<usize> for Bytes {
    fn from(bytes: usize) -> Self {
        Self(bytes)
    }
}

impl From<Bytes> for usize {
    fn from(bytes: Bytes) -> Self {
        bytes.0
    }
}

impl Text for Drift {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (number, scale) = match text.strip_suffix('%') {
            Some(number) => (number.trim_end(), 1e4),
            None => (text, 1e6),
        };
        match number.parse::<f64>() {
            Ok(number) if (0.0..=1e6).contains(&(number * scale)) => Ok(Self((number * scale).round() as u32)),
            _ => Err("a part of the whole is wanted, as in \"5%\" or 0.05".into()),
        }
    }

    fn show(&self) -> String {
        format!("{}%", f64::from(self.0) / 1e4)
    }
}

impl From<u32> for Drift {
    fn from(ppm: u32) -> Self {
        Self(ppm)
    }
}

impl From<Drift> for u32 {
    fn from(drift: Drift) -> Self {
        drift.0
    }
}
