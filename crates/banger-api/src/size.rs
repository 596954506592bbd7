//! Sizes as people write them: `512M`, `8G`, `4GiB`. Powers of two; a bare number is MiB.

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no size: write 512M, 8G or 4GiB (a bare number means MiB)")]
pub struct SizeError(String);

/// Parses a size into bytes.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let refuse = || SizeError(text.chars().take(40).collect());
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "b" => 0,
        "k" | "kb" | "kib" => 10,
        "" | "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(refuse()),
    };
    let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(refuse)
}

/// Renders bytes with the largest unit that keeps at most one decimal.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let (whole, tenth) = (tenths / 10, tenths % 10);
    if tenth == 0 || whole >= 100 {
        format!("{whole} {}", UNITS[unit])
    } else {
        format!("{whole}.{tenth} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_and_bare_numbers_are_mib() {
        let cases = [
            ("512", Some(512 << 20)),
            ("512M", Some(512 << 20)),
            ("8g", Some(8 << 30)),
            ("4GiB", Some(4 << 30)),
            ("64KB", Some(64 << 10)),
            ("1b", Some(1)),
            ("0", None),
            ("-1", None),
            ("", None),
            ("G", None),
            ("1.5G", None),
            ("99999999999T", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text).ok(), bytes, "{text:?}");
        }
    }

    #[test]
    fn shown_sizes_are_short() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1 << 30, "1 GiB"),
            ((3 << 30) / 2, "1.5 GiB"),
            (123_456_789, "117 MiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(format_size(bytes), text);
        }
    }
}
