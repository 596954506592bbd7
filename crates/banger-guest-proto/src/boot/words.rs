//! Owns the words on the kernel's command line and their escapes. Knows the values only by their text forms.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::value::{ValueError, number};
use super::{BootConfig, BootConfigError, MAX_COMMAND_LINE};

const PREFIX: &str = "banger.";
const KEYS: [&str; 9] = [
    "hostname", "root", "root_fs", "disk", "channel", "net", "init", "time_ns", "debug",
];

pub(super) fn render(config: &BootConfig) -> String {
    let mut line = String::new();
    let mut word = |key: &str, value: &dyn Display| {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(PREFIX);
        line.push_str(key);
        line.push('=');
        escape(&value.to_string(), &mut line);
    };
    word("hostname", &config.hostname);
    word("root", &config.root);
    word("root_fs", &config.root_fs);
    if let Some(disk) = &config.disk {
        word("disk", disk);
    }
    word("channel", &config.channel);
    if let Some(net) = &config.net {
        word("net", net);
    }
    word("init", &config.init);
    if let Some(time_ns) = config.time_ns {
        word("time_ns", &time_ns);
    }
    if config.debug {
        word("debug", &1);
    }
    line
}

pub(super) fn parse(command_line: &str) -> Result<BootConfig, BootConfigError> {
    if command_line.len() > MAX_COMMAND_LINE {
        return Err(BootConfigError::TooLong(command_line.len()));
    }
    let words = Words::collect(command_line)?;
    Ok(BootConfig {
        hostname: words.needed("hostname")?,
        root: words.needed("root")?,
        root_fs: words.needed("root_fs")?,
        disk: words.wanted("disk")?,
        channel: words.needed("channel")?,
        net: words.wanted("net")?,
        init: words.needed("init")?,
        time_ns: words.number("time_ns")?,
        debug: words.number::<u8>("debug")?.is_some_and(|level| level > 0),
    })
}

/// The values by key, unescaped.
struct Words(BTreeMap<&'static str, String>);

impl Words {
    fn collect(command_line: &str) -> Result<Self, BootConfigError> {
        let mut words = BTreeMap::new();
        let ours = command_line
            .split_ascii_whitespace()
            .filter_map(|word| word.strip_prefix(PREFIX));
        for word in ours {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let key = KEYS
                .into_iter()
                .find(|known| *known == key)
                .ok_or_else(|| BootConfigError::Unknown(key.escape_debug().to_string()))?;
            let value = unescape(value).ok_or(BootConfigError::Value {
                key,
                source: ValueError::Escape,
            })?;
            if words.insert(key, value).is_some() {
                return Err(BootConfigError::Twice(key));
            }
        }
        Ok(Self(words))
    }

    fn wanted<T: FromStr<Err = ValueError>>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, BootConfigError> {
        let value = self.0.get(key).map(|value| value.parse());
        value
            .transpose()
            .map_err(|source| BootConfigError::Value { key, source })
    }

    fn needed<T: FromStr<Err = ValueError>>(
        &self,
        key: &'static str,
    ) -> Result<T, BootConfigError> {
        self.wanted(key)?.ok_or(BootConfigError::Missing(key))
    }

    fn number<T: FromStr>(&self, key: &'static str) -> Result<Option<T>, BootConfigError> {
        let value = self.0.get(key).map(|value| number(value));
        value
            .transpose()
            .map_err(|source| BootConfigError::Value { key, source })
    }
}

fn escape(value: &str, line: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._:/,=+@".contains(&byte) {
            line.push(char::from(byte));
        } else {
            line.push('%');
            line.push_str(&hex::encode([byte]));
        }
    }
}

fn unescape(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let mut byte = [0];
            hex::decode_to_slice(tail.get(..2)?, &mut byte).ok()?;
            bytes.push(byte[0]);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::super::{Channel, DeviceRef, Init, Net};
    use super::*;
    use proptest::prelude::*;

    fn device() -> impl Strategy<Value = DeviceRef> {
        ("[a-zA-Z0-9_-]{1,20}", any::<bool>()).prop_map(|(name, serial)| {
            let name = name.parse().unwrap();
            if serial {
                DeviceRef::Serial(name)
            } else {
                DeviceRef::Dev(name)
            }
        })
    }

    fn channel() -> impl Strategy<Value = Channel> {
        prop_oneof![
            "[a-z.]{3,20}".prop_map(|name| Channel::VirtioSerial(name.parse().unwrap())),
            any::<u32>().prop_map(Channel::Vsock),
        ]
    }

    fn init() -> impl Strategy<Value = Init> {
        prop_oneof![
            Just(Init::Auto),
            Just(Init::Agent),
            Just(Init::Systemd),
            "/[^\0]{0,60}".prop_map(Init::Path),
        ]
    }

    fn net() -> impl Strategy<Value = Net> {
        (
            any::<std::net::Ipv4Addr>(),
            0_u8..=32,
            any::<Option<std::net::Ipv4Addr>>(),
            proptest::collection::vec(any::<std::net::IpAddr>(), 0..=3),
        )
            .prop_map(|(address, prefix, gateway, dns)| Net {
                address,
                prefix,
                gateway,
                dns,
            })
    }

    fn config() -> impl Strategy<Value = BootConfig> {
        let devices = (device(), proptest::option::of(device()));
        let rest = (
            proptest::option::of(net()),
            init(),
            any::<Option<u64>>(),
            any::<bool>(),
        );
        ("[a-z0-9]{1,63}", devices, channel(), rest).prop_map(
            |(hostname, (root, disk), channel, (net, init, time_ns, debug))| BootConfig {
                hostname: hostname.parse().unwrap(),
                root,
                root_fs: "ext4".parse().unwrap(),
                disk,
                channel,
                net,
                init,
                time_ns,
                debug,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_understood(config in config()) {
            let line = format!("console=ttyS0 quiet {} panic=-1\n", config.render());
            prop_assert_eq!(BootConfig::parse(&line), Ok(config));
        }

        #[test]
        fn words_need_no_quoting(config in config()) {
            prop_assert!(config.render().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
            prop_assert!(!config.render().contains('"'));
        }

        #[test]
        fn no_command_line_panics(line in "(banger\\.[a-z_]{1,8}=[ -~]{0,20} ?){0,6}|.{0,80}") {
            let _ = BootConfig::parse(&line);
        }
    }

    const GOOD: &str = "banger.hostname=web banger.root=serial:base banger.root_fs=ext4 \
        banger.channel=vsock:1024 banger.init=auto";

    #[test]
    fn mistakes_are_named() {
        let check = |line: &str, expected: &str| {
            assert_eq!(BootConfig::parse(line).unwrap_err().to_string(), expected);
        };
        check("", "banger.hostname is missing");
        check(
            &GOOD.replace("banger.init=auto", ""),
            "banger.init is missing",
        );
        check(
            &format!("{GOOD} banger.init=agent"),
            "banger.init occurs twice",
        );
        check(
            &format!("{GOOD} banger.colour=red"),
            "no such word: banger.colour",
        );
        check(
            &format!("{GOOD} banger.disk=/dev/../sda"),
            "banger.disk is not understood",
        );
        check(
            &format!("{GOOD} banger.time_ns=-1"),
            "banger.time_ns is not understood",
        );
        check(
            &format!("{GOOD} banger.net=10.0.0.1/33"),
            "banger.net is not understood",
        );
        check(
            &format!("{GOOD} banger.disk=%f"),
            "banger.disk is not understood",
        );
        check(
            &"x".repeat(2049),
            "the command line has 2049 bytes, more than 2048",
        );
    }

    #[test]
    fn foreign_words_are_skipped() {
        let line = format!("BOOT_IMAGE=/x root=/dev/sda bangers=1 {GOOD} -- banger");
        assert_eq!(BootConfig::parse(&line), BootConfig::parse(GOOD));
    }
}
