//! Sizes as people write them.

/// Parses `512MiB`, `16G`, `1.5GiB` or plain bytes. `K`, `M`, `G`, `T` with or without `iB` or `B`
/// are powers of 1024, as for `docker run --memory`; case does not matter.
///
/// # Errors
/// A message for people, when `text` is no size, or more than `u64` holds.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size; write it like 512MiB or 16GiB");
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction_digits = u32::try_from(fraction.len()).map_err(|_| wrong())?;
    let thousandths = 10_u128.checked_pow(fraction_digits).ok_or_else(wrong)?;
    let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    let bytes = digits.checked_mul(1 << shift).ok_or_else(wrong)? / thousandths;
    u64::try_from(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512MiB", 512 << 20),
            ("16G", 16 << 30),
            ("1.5 gib", 3 << 29),
            ("2tb", 2 << 40),
            ("100b", 100),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_named() {
        for text in ["", "G", "1X", "-1", "1.2.3", "99999999999999999999T", ".", "0x10", "1e9"] {
            let error = parse_size(text).unwrap_err();
            assert!(error.starts_with(&format!("`{text}` is no size")), "{error}");
        }
    }
}
