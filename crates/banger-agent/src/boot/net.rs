//! Owns the first network interface's addresses and route, over netlink. Knows no resolver.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;

use banger_guest_proto::boot::Net;
use banger_guest_proto::mac::MacAddress;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const CLASS_DIR: &str = "/sys/class/net";
const LOOPBACK: u32 = 1;

/// An interface that could not be configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetError {
    #[error("there is no network interface")]
    NoInterface,
    #[error("cannot {step}")]
    Step {
        step: &'static str,
        #[source]
        source: io::Error,
    },
}

/// The interface that the host made, whatever it is called by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    index: u32,
}

impl Card {
    /// Gives it another hardware address, as it is: what is connected stays so.
    pub(crate) fn rename(self, mac: MacAddress) -> Result<(), NetError> {
        Route::open()?.call("set the card's address", hardware_address(self.index, mac))
    }
}

/// Brings loopback up, and the first interface as it is asked for.
pub(super) fn configure(net: Option<&Net>) -> Result<Option<Card>, NetError> {
    let route = Route::open()?;
    route.call("bring up lo", link_up(LOOPBACK))?;
    let Some(net) = net else { return Ok(None) };
    let index = first_interface(Path::new(CLASS_DIR)).ok_or(NetError::NoInterface)?;
    route.call("set the interface's address", address(index, net))?;
    route.call("bring up the interface", link_up(index))?;
    if let Some(gateway) = net.gateway {
        route.call("set the default route", default_route(index, net, gateway))?;
    }
    Ok(Some(Card { index }))
}

/// The index of the interface that is no loopback and comes first by name.
fn first_interface(class: &Path) -> Option<u32> {
    let mut names: Vec<_> = fs::read_dir(class)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    names.sort();
    names.into_iter().find_map(|path| {
        let index = fs::read_to_string(path.join("ifindex"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        // Tunnels and bonds that a module brings along have no device behind them.
        (index != LOOPBACK && path.join("device").exists()).then_some(index)
    })
}

/// A socket to the kernel's routing.
struct Route(OwnedFd);

impl Route {
    fn open() -> Result<Self, NetError> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        );
        socket.map(Self).map_err(|error| NetError::Step {
            step: "open a netlink socket",
            source: error.into(),
        })
    }

    fn call(&self, step: &'static str, message: Message) -> Result<(), NetError> {
        self.exchange(&message.finish())
            .map_err(|source| NetError::Step { step, source })
    }

    fn exchange(&self, message: &[u8]) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.0, message, SendFlags::empty(), &kernel)?;
        let mut answer = [0; 1024];
        let (length, _) = rustix::net::recv(&self.0, &mut answer, RecvFlags::empty())?;
        parse_ack(&answer[..length])
    }
}

const HEADER_LEN: usize = 16;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
/// Request, acknowledge.
const CHANGE: u16 = 0x1 | 0x4;
/// The same, and create, replace.
const CREATE: u16 = CHANGE | 0x400 | 0x100;
const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const RTNH_F_ONLINK: u32 = 4;

/// A netlink message under construction, in native byte order as netlink wants it.
#[derive(Debug)]
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[&[u8]]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend(body.concat());
        Self(bytes)
    }

    /// Adds an attribute, which begins and ends at a multiple of four bytes.
    fn attribute<const N: usize>(mut self, kind: u16, value: [u8; N]) -> Self {
        let length = u16::try_from(4 + N).expect("our values are short");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(&value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).expect("our messages are short");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn link_up(index: u32) -> Message {
    let (index, up) = (index.to_ne_bytes(), IFF_UP.to_ne_bytes());
    Message::new(RTM_NEWLINK, CHANGE, &[&[0; 4], &index, &up, &up])
}

fn hardware_address(index: u32, mac: MacAddress) -> Message {
    let head: &[&[u8]] = &[&[0; 4], &index.to_ne_bytes(), &[0; 8]];
    Message::new(RTM_NEWLINK, CHANGE, head).attribute(1, mac.octets())
}

fn address(index: u32, net: &Net) -> Message {
    let (own, mask) = (net.address.to_bits(), netmask(net.prefix));
    let broadcast = Ipv4Addr::from_bits(own | !mask);
    Message::new(
        RTM_NEWADDR,
        CREATE,
        &[&[AF_INET, net.prefix, 0, 0], &index.to_ne_bytes()],
    )
    .attribute(2, net.address.octets())
    .attribute(1, net.address.octets())
    .attribute(4, broadcast.octets())
}

fn default_route(index: u32, net: &Net, gateway: Ipv4Addr) -> Message {
    let (table, protocol, scope, unicast) = (254, 3, 0, 1);
    let on_link = (gateway.to_bits() ^ net.address.to_bits()) & netmask(net.prefix) != 0;
    let flags = if on_link { RTNH_F_ONLINK } else { 0 };
    let head = [AF_INET, 0, 0, 0, table, protocol, scope, unicast];
    Message::new(RTM_NEWROUTE, CREATE, &[&head, &flags.to_ne_bytes()])
        .attribute(5, gateway.octets())
        .attribute(4, index.to_ne_bytes())
}

fn netmask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// An acknowledgement is an error message, whose number is zero when all went well.
fn parse_ack(answer: &[u8]) -> io::Result<()> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = answer.get(4..6).ok_or_else(malformed)?;
    if kind != NLMSG_ERROR.to_ne_bytes() {
        return Err(malformed());
    }
    let code = answer
        .get(HEADER_LEN..HEADER_LEN + 4)
        .ok_or_else(malformed)?;
    match i32::from_ne_bytes(code.try_into().expect("the slice has four bytes")) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_its_length_and_its_attributes() {
        let message = address(2, &Net::qemu_user()).finish();
        assert_eq!(message.len(), 16 + 8 + 3 * 8);
        assert_eq!(message[..4], 48_u32.to_ne_bytes());
        assert_eq!(message[16..24], [AF_INET, 24, 0, 0, 2, 0, 0, 0]);
        assert_eq!(message[28..32], [10, 0, 2, 15]);
        assert_eq!(message[44..], [10, 0, 2, 255]);
    }

    #[test]
    fn an_attribute_ends_at_a_multiple_of_four_bytes() {
        let mac = MacAddress::local([0, 0x11, 0x22, 0x33, 0x44]);
        let message = hardware_address(2, mac).finish();
        assert_eq!(message.len(), 16 + 16 + 12);
        assert_eq!(message[20..24], 2_u32.to_ne_bytes());
        assert_eq!(message[32..34], 10_u16.to_ne_bytes());
        assert_eq!(message[36..], [2, 0, 0x11, 0x22, 0x33, 0x44, 0, 0]);
    }

    #[test]
    fn a_gateway_outside_of_the_network_is_on_link() {
        let check = |prefix, gateway: [u8; 4], flags: u32| {
            let net = Net {
                prefix,
                ..Net::qemu_user()
            };
            let message = default_route(2, &net, gateway.into()).finish();
            assert_eq!(message[24..28], flags.to_ne_bytes());
        };
        check(24, [10, 0, 2, 2], 0);
        check(32, [10, 0, 2, 2], RTNH_F_ONLINK);
        check(0, [192, 168, 1, 1], 0);
    }

    #[test]
    fn an_acknowledgement_is_told_from_an_error() {
        let answer = |code: i32| {
            let mut answer = vec![0; HEADER_LEN];
            answer[4] = 2;
            answer.extend(code.to_ne_bytes());
            parse_ack(&answer).map_err(|error| error.raw_os_error())
        };
        assert_eq!(answer(0), Ok(()));
        assert_eq!(answer(-17), Err(Some(17)));
        assert!(parse_ack(&[0; 10]).is_err());
    }
}
