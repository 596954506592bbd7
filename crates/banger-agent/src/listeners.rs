//! Owns the list of sockets that wait for others, and whose they are. Parsing is apart from reading; opens no socket.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use banger_guest_proto::message::{Listener, Listeners, MAX_LISTENERS, Protocol};

/// So many open files are looked at in search of owners; a guest with more has sockets without one.
const MAX_LINKS: usize = 1 << 16;
/// A name has 15 bytes (proc(5)); a thread's may be anything.
const MAX_NAME: usize = 32;

/// What the kernel says of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    protocol: Protocol,
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// Everything that listens now.
pub(crate) fn listeners() -> Listeners {
    let tables = [
        ("tcp", Protocol::Tcp),
        ("tcp6", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("udp6", Protocol::Udp),
    ];
    let mut sockets = Vec::new();
    for (table, protocol) in tables {
        // A kernel without IPv6 has no such tables.
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        sockets.extend(parse(&text, protocol));
    }
    let more = sockets.len() > MAX_LISTENERS;
    sockets.truncate(MAX_LISTENERS);
    let owners = owners(&sockets);
    let mut listeners: Vec<_> = sockets
        .into_iter()
        .map(|socket| {
            let owner = owners.get(&socket.inode);
            Listener {
                protocol: socket.protocol,
                port: socket.port,
                address: socket.address,
                pid: owner.map(|(pid, _)| *pid),
                process: owner.map(|(_, name)| name.clone()),
            }
        })
        .collect();
    listeners.sort();
    listeners.dedup();
    Listeners { listeners, more }
}

/// The sockets of one of the kernel's tables that listen.
fn parse(table: &str, protocol: Protocol) -> impl Iterator<Item = Socket> {
    table
        .lines()
        .skip(1)
        .filter_map(move |line| socket(line, protocol))
}

fn socket(line: &str, protocol: Protocol) -> Option<Socket> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let listens = match protocol {
        Protocol::Tcp => "0A",
        // Bound, and connected to nobody.
        Protocol::Udp => "07",
    };
    if *fields.get(3)? != listens {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    Some(Socket {
        protocol,
        address: ip(address)?,
        port: u16::from_str_radix(port, 16)
            .ok()
            .filter(|port| *port != 0)?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// Addresses are words of 32 bits, each printed as this machine would read it.
fn ip(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for word in text.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let v4 = || <[u8; 4]>::try_from(bytes.as_slice()).map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = || <[u8; 16]>::try_from(bytes.as_slice()).map(|bytes| Ipv6Addr::from(bytes).into());
    v4().or_else(|_| v6()).ok()
}

/// Which processes have these sockets open: the first that is found of each.
fn owners(sockets: &[Socket]) -> HashMap<u64, (u32, String)> {
    let mut owners = HashMap::new();
    let mut links = MAX_LINKS;
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let files = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten();
        for file in files.flatten() {
            links = match links.checked_sub(1) {
                Some(links) => links,
                None => return owners,
            };
            let target = fs::read_link(file.path()).ok();
            let inode = target.and_then(|target| inode(target.to_str()?));
            if let Some(inode) = inode
                && sockets.iter().any(|socket| socket.inode == inode)
            {
                owners
                    .entry(inode)
                    .or_insert_with(|| (pid, process_name(pid)));
            }
        }
    }
    owners
}

/// A socket among a process's open files is `socket:[INODE]`.
fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn process_name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn only_what_listens_is_told() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4711 1 0\n\
             \x20  1: 0100007F:1F91 0100007F:0016 01 00000000:00000000 00:00000000 00000000  0 0 4712 1 0\n\
             \x20  2: 00000000000000000000000001000000:0016 0:0 0A 0:0 00:0 0  0 0 9 1 0\n\
             \x20  3: nonsense\n   4: 0100007F:ZZZZ 0 0A 0 0 0 0 0 1\n";
        let found: Vec<_> = parse(table, Protocol::Tcp)
            .map(|socket| (socket.address.to_string(), socket.port, socket.inode))
            .collect();
        assert_eq!(
            found,
            [("127.0.0.1".into(), 8080, 4711), ("::1".into(), 22, 9)]
        );
        assert_eq!(parse(table, Protocol::Udp).count(), 0);
    }

    #[test]
    fn our_own_sockets_are_found_and_are_ours() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let found = listeners();
        let check = |protocol, port| {
            let own = found
                .listeners
                .iter()
                .find(|l| l.protocol == protocol && l.port == port)
                .unwrap_or_else(|| panic!("{protocol:?} {port}: {found:?}"));
            assert_eq!(own.pid, Some(std::process::id()));
            assert!(own.process.is_some());
        };
        check(Protocol::Tcp, tcp.local_addr().unwrap().port());
        check(Protocol::Udp, udp.local_addr().unwrap().port());
    }
}
