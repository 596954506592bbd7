//! Owns the address of a network card, and its text. Knows no card.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Six bytes as `02:00:11:22:33:44`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// A text that is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network card's address is six bytes in hexadecimal digits, with colons between them")]
pub struct MacAddressError;

impl MacAddress {
    /// One that nobody has assigned and that no group has, made of five bytes.
    #[must_use]
    pub fn local([a, b, c, d, e]: [u8; 5]) -> Self {
        Self([0x02, a, b, c, d, e])
    }

    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let mut bytes = [0; 6];
        let mut words = text.split(':');
        for byte in &mut bytes {
            let word = words.next().ok_or(MacAddressError)?;
            *byte = parse_byte(word).ok_or(MacAddressError)?;
        }
        match words.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(MacAddressError),
        }
    }
}

fn parse_byte(word: &str) -> Option<u8> {
    let digits = word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u8::from_str_radix(word, 16).ok())?
}

impl TryFrom<String> for MacAddress {
    type Error = MacAddressError;

    fn try_from(text: String) -> Result<Self, MacAddressError> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_address_is_read_as_it_is_written(bytes: [u8; 5]) {
            let address = MacAddress::local(bytes);
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<MacAddress>();
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let check = |text: &str, wanted: Option<[u8; 6]>| {
            let address = text.parse().ok().map(MacAddress::octets);
            assert_eq!(address, wanted, "{text}");
        };
        check("02:00:11:22:33:fF", Some([2, 0, 0x11, 0x22, 0x33, 0xff]));
        check("02:00:11:22:33", None);
        check("02:00:11:22:33:44:55", None);
        check("02:00:11:22:33:+4", None);
        check("02-00-11-22-33-44", None);
        check("2:0:11:22:33:44", None);
        check("", None);
    }
}
