//! Sizes for people.

/// Units above the byte, each 1024 of the one before.
const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Bytes with one digit behind the point: `532 B`, `1.5 KiB`, `2.0 GiB`.
pub fn human_size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths, rounded half up, in integers: the same text everywhere.
    let mut unit = 0;
    while unit + 1 < UNITS.len() && tenths(bytes, unit) >= 10 * 1024 {
        unit += 1;
    }
    let tenths = tenths(bytes, unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

fn tenths(bytes: u64, unit: usize) -> u128 {
    let in_unit = 1_u128 << (10 * (unit + 1));
    (u128::from(bytes) * 10 + in_unit / 2) / in_unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(human_size(bytes), text, "{bytes}");
        }
    }
}
