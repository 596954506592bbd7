//! A name server of a story's own, which knows every name and one address for all of them.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    process, thread,
};

/// Where resolvers look for name servers.
const PORT: u16 = 53;
const HEADER: usize = 12;
/// An answer, no error, as asked.
const FLAGS: [u8; 2] = [0x81, 0x80];
const ADDRESS_RECORD: [u8; 2] = [0, 1];

/// Serves on an address of the loopback that no other story has, until the test's end. Only root
/// can have that port.
pub fn serve_names(answer: Ipv4Addr) -> io::Result<Ipv4Addr> {
    let [.., high, low] = process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 83, high, low);
    let socket = UdpSocket::bind((address, PORT))?;
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut question) {
            if let Some(answer) = answer_to(&question[..length], answer) {
                // Whoever hangs up first misses it.
                let _ = socket.send_to(&answer, asker);
            }
        }
    });
    Ok(address)
}

/// The question itself, and the address where one is asked for.
fn answer_to(question: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let name = question.get(HEADER..)?.iter().position(|&byte| byte == 0)?;
    let end = HEADER + name + 5;
    let asked = question.get(HEADER..end)?;
    let is_address = asked.get(name + 1..name + 3)? == ADDRESS_RECORD;
    let mut answer = question.get(..2)?.to_vec();
    answer.extend(FLAGS);
    answer.extend([0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    answer.extend(asked);
    if is_address {
        // The name of the question, an address of the internet, for a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_for_an_address_is_answered_with_it() {
        let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.extend(b"\x03web\x04test\0\0\x01\0\x01");
        let answer = answer_to(&question, Ipv4Addr::new(192, 0, 2, 7)).unwrap();
        assert_eq!(answer[..8], [7, 7, 0x81, 0x80, 0, 1, 0, 1]);
        assert!(answer.ends_with(&[0, 4, 192, 0, 2, 7]));
        question[HEADER + 11] = 28;
        let none = answer_to(&question, Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(none[6..8], [0, 0]);
        assert_eq!(answer_to(&question[..20], Ipv4Addr::LOCALHOST), None);
    }
}
