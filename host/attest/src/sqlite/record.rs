//! Records: a row's columns. <https://www.sqlite.org/fileformat2.html#record_format>

use super::bytes::varint;

/// Most columns, as in SQLite (`SQLITE_MAX_COLUMN`'s default).
const MAX_COLUMNS: usize = 2000;

/// A column's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// None; also that of an `INTEGER PRIMARY KEY`, which is the row's key.
    Null,
    /// A whole number.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text, in UTF-8 if the writer was honest.
    Text(&'a [u8]),
    /// Bytes.
    Blob(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn text(&self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn blob(&self) -> Option<&'a [u8]> {
        match self {
            Self::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// A record's values: first the types of all, then the bytes of all.
pub(super) fn record(payload: &[u8]) -> Result<Vec<Value<'_>>, &'static str> {
    const SHORT: &str = "a record that ends early";
    let (header_size, mut at) = varint(payload, 0).ok_or(SHORT)?;
    let header_end = usize::try_from(header_size).ok().filter(|end| *end <= payload.len()).ok_or(SHORT)?;
    let mut body = &payload[header_end.max(at)..];
    let mut values = Vec::new();
    while at < header_end {
        let (serial_type, next) = varint(&payload[..header_end], at).ok_or(SHORT)?;
        let (value, rest) = value(serial_type, body)?;
        if values.len() == MAX_COLUMNS {
            return Err("a record of too many columns");
        }
        values.push(value);
        (at, body) = (next, rest);
    }
    Ok(values)
}

/// The value of a type at the beginning of some bytes, and what follows it.
fn value(serial_type: i64, body: &[u8]) -> Result<(Value<'_>, &[u8]), &'static str> {
    let serial_type = u64::try_from(serial_type).map_err(|_| "a column of a negative type")?;
    let size = match serial_type {
        0 | 8 | 9 => 0,
        1..=4 => serial_type,
        5 => 6,
        6 | 7 => 8,
        10 | 11 => return Err("a column of a reserved type"),
        12.. => (serial_type - 12) / 2,
    };
    let size = usize::try_from(size).ok().filter(|size| *size <= body.len());
    let (bytes, rest) = body.split_at(size.ok_or("a column that ends outside of its record")?);
    let value = match serial_type {
        0 => Value::Null,
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        7 => Value::Real(f64::from_bits(integer(bytes).cast_unsigned())),
        1..=6 => Value::Integer(integer(bytes)),
        even if even % 2 == 0 => Value::Blob(bytes),
        _ => Value::Text(bytes),
    };
    Ok((value, rest))
}

/// A signed number of one to eight bytes.
fn integer(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type() {
        let payload =
            [&[9, 0, 1, 2, 5, 8, 9, 15, 16][..], &[0xff], &[0x01, 0x00], &[0x80, 0, 0, 0, 0, 0], b"x", b"yz"]
                .concat();
        let expected = [
            Value::Null,
            Value::Integer(-1),
            Value::Integer(256),
            Value::Integer(-(1 << 47)),
            Value::Integer(0),
            Value::Integer(1),
            Value::Text(b"x"),
            Value::Blob(b"yz"),
        ];
        assert_eq!(record(&payload).unwrap(), expected);
        let real = [&[2, 7][..], &1.5f64.to_be_bytes()].concat();
        assert_eq!(record(&real).unwrap(), [Value::Real(1.5)]);
    }

    #[test]
    fn damage() {
        let cases: &[(&[u8], &str)] = &[
            (&[], "a record that ends early"),
            (&[3, 0], "a record that ends early"),
            (&[2, 0x81], "a record that ends early"),
            (&[2, 10], "a column of a reserved type"),
            (&[2, 1], "a column that ends outside of its record"),
            (&[2, 14], "a column that ends outside of its record"),
            (&[10, 255, 255, 255, 255, 255, 255, 255, 255, 255], "a column of a negative type"),
        ];
        for (payload, why) in cases {
            assert_eq!(record(payload).unwrap_err(), *why, "{payload:x?}");
        }
        assert_eq!(record(&[0]).unwrap(), []);
    }
}
