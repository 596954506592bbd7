//! Owns what is read from a kernel's build configuration. Knows its notation, `CONFIG_NAME=VALUE`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Far above any configuration; Debian's has a quarter of a megabyte.
const LARGEST: u64 = 4 * 1024 * 1024;
/// What Kconfig offers is 100 to 1000.
const SANE_HZ: std::ops::RangeInclusive<u32> = 24..=10_000;

/// How many times a second the kernel's timer ticks, if its configuration says so.
pub(super) fn timer_hz(path: &Path) -> Option<u32> {
    let lines = BufReader::new(File::open(path).ok()?.take(LARGEST)).lines();
    let hz = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("CONFIG_HZ=")?.trim().parse().ok())?;
    SANE_HZ.contains(&hz).then_some(hz)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str, expected: Option<u32>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        assert_eq!(timer_hz(file.path()), expected, "{config}");
    }

    #[test]
    fn the_tick_is_read_from_its_line() {
        check(
            "CONFIG_HZ_250=y\n# CONFIG_HZ_300 is not set\nCONFIG_HZ=250\n",
            Some(250),
        );
        check("CONFIG_HZ_250=y\n", None);
        check("CONFIG_HZ=0\n", None);
        check("CONFIG_HZ=much\n", None);
        assert_eq!(timer_hz("/nonexistent/config".as_ref()), None);
    }
}
