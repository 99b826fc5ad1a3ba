//! Times as the image formats write them.

use crate::error::{Error, Kind};
use std::fmt;

/// A time in whole seconds, from 1970 to the end of the year 9999, shown as RFC 3339 in UTC.
///
/// <https://www.rfc-editor.org/rfc/rfc3339#section-5.6>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// 9999-12-31T23:59:59Z: RFC 3339 has years of four digits.
const LAST_SECOND: u64 = 253_402_300_799;
const SECONDS_PER_DAY: u64 = 86_400;

impl Timestamp {
    /// The time this many seconds after the beginning of 1970.
    ///
    /// # Errors
    /// After the year 9999.
    pub fn from_unix_seconds(seconds: u64) -> Result<Self, Error> {
        if seconds > LAST_SECOND {
            let text = seconds.to_string();
            return Err(Kind::Syntax { what: "a time", text, why: "it is after the year 9999" }.into());
        }
        Ok(Self(seconds))
    }

    /// Seconds since the beginning of 1970.
    pub fn unix_seconds(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0 / SECONDS_PER_DAY);
        let second = self.0 % SECONDS_PER_DAY;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970-01-01.
///
/// Counts in years that begin in March, so that the leap day is the last, and months have the
/// lengths 31 30 31 30 31 over and over: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
fn date(days: u64) -> (u64, u64, u64) {
    /// From 0000-03-01 to 1970-01-01.
    const DAYS_BEFORE_1970: u64 = 719_468;
    const DAYS_PER_400_YEARS: u64 = 146_097;
    let days = days + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days / DAYS_PER_400_YEARS, days % DAYS_PER_400_YEARS);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `date -u -d @N +%FT%TZ` says.
    #[test]
    fn known_times() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST_SECOND, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp::from_unix_seconds(seconds).unwrap().to_string(), expected);
        }
        let error = Timestamp::from_unix_seconds(LAST_SECOND + 1).unwrap_err();
        assert_eq!(error.to_string(), "\"253402300800\" is not a time: it is after the year 9999");
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut last = date(0);
        for days in 1..146_097 {
            let (year, month, day) = date(days);
            let next = day == last.2 + 1 && (year, month) == (last.0, last.1);
            let next_month = day == 1 && last.2 >= 28 && (year * 12 + month) == last.0 * 12 + last.1 + 1;
            assert!(next || next_month, "{last:?} {year} {month} {day}");
            last = (year, month, day);
        }
        assert_eq!(last, (2369, 12, 31));
    }
}
