//! The address that a node tells others.
//!
//! Where a door listens at every address of the host (0.0.0.0), somebody must choose the one that others should dial. The
//! system knows from which it would speak to them: a UDP socket that is connected to an address of the block kept for
//! documentation (RFC 5737, RFC 3849) shows it, and sends nothing. Where there is no way out at all, the host's own name is
//! looked up, as container engines write it into the hosts file; where that fails too, only this host is left. A host with
//! several addresses, or behind a port mapping, sets `announce`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

/// What others are told, as host:port: as set, with the listening port where none is set; else the listening address.
pub(super) fn announced(listen: SocketAddr, announce: &str) -> String {
    match (announce, port_of(announce)) {
        ("", _) if listen.ip().is_unspecified() => SocketAddr::new(own_address(listen.ip()), listen.port()).to_string(),
        ("", _) => listen.to_string(),
        (host_and_port, Some(_)) => host_and_port.to_owned(),
        (host, None) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{}", listen.port()),
        (host, None) => format!("{host}:{}", listen.port()),
    }
}

/// Whether this is one address: host or host:port, not that of every interface.
pub(super) fn is_concrete(announce: &str) -> bool {
    let host = match announce.rsplit_once(':') {
        Some((host, port)) if port_of(announce).is_some() && port != "0" => host,
        Some(_) if announce.parse::<Ipv6Addr>().is_ok() => announce,
        Some(_) => return false,
        None => announce,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let unspecified = bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    !bare.is_empty()
        && !unspecified
        && !bare.contains(|letter: char| letter.is_whitespace() || matches!(letter, '/' | ','))
}

/// The host's name as the system has it.
pub(super) fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    (!name.is_empty() && name != "localhost" && name != "(none)").then_some(name)
}

fn port_of(address: &str) -> Option<u16> {
    let (host, port) = address.rsplit_once(':')?;
    // Without brackets, the last part of an IPv6 address is no port.
    if host.contains(':') && !host.ends_with(']') {
        return None;
    }
    port.parse().ok()
}

fn own_address(listen: IpAddr) -> IpAddr {
    let by_route = || match listen {
        IpAddr::V4(_) => route_from((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(192, 0, 2, 1), 9).into()),
        IpAddr::V6(_) => {
            route_from((Ipv6Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into())
        }
    };
    by_route().or_else(|| by_host_name(listen)).unwrap_or(match listen {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    })
}

fn route_from(any: SocketAddr, outside: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(outside).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

fn by_host_name(listen: IpAddr) -> Option<IpAddr> {
    let mut addresses = (host_name()?.as_str(), 0).to_socket_addrs().ok()?.map(|address| address.ip());
    addresses.find(|address| address.is_ipv4() == listen.is_ipv4() && !address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announce(listen: &str, announce: &str) -> String {
        announced(listen.parse().unwrap(), announce)
    }

    #[test]
    fn what_is_announced_is_complete() {
        assert_eq!(announce("10.0.0.7:6234", ""), "10.0.0.7:6234");
        assert_eq!(announce("0.0.0.0:6234", "a.example"), "a.example:6234");
        assert_eq!(announce("0.0.0.0:6234", "a.example:7"), "a.example:7");
        assert_eq!(announce("[::]:6234", "2001:db8::1"), "[2001:db8::1]:6234");
        assert_eq!(announce("[::]:6234", "[2001:db8::1]:7"), "[2001:db8::1]:7");
        assert_eq!(announce("[::1]:6234", ""), "[::1]:6234");
    }

    #[test]
    fn every_interface_is_no_address_to_dial() {
        let found: SocketAddr = announce("0.0.0.0:6234", "").parse().unwrap();
        assert!(!found.ip().is_unspecified() && found.port() == 6234);
        for wrong in ["0.0.0.0", "0.0.0.0:6234", "[::]:6234", "a b", "a:0", "a:99999", ":6234", "http://a/"] {
            assert!(!is_concrete(wrong), "{wrong}");
        }
        for right in ["a", "10.0.0.7", "a.example:6234", "2001:db8::1", "[2001:db8::1]:7"] {
            assert!(is_concrete(right), "{right}");
        }
    }
}
