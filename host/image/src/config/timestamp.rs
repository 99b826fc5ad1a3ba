//! Times as the image formats write them.

use crate::error::{Error, Kind};
use std::fmt;
use std::str::FromStr;

/// A time in whole seconds, from 1970 to the end of the year 9999, shown as RFC 3339 in UTC.
///
/// <https://www.rfc-editor.org/rfc/rfc3339#section-5.6>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// 9999-12-31T23:59:59Z: RFC 3339 has years of four digits.
const LAST_SECOND: u64 = 253_402_300_799;
const SECONDS_PER_DAY: u64 = 86_400;
/// From 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;
const DAYS_PER_400_YEARS: u64 = 146_097;

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

impl FromStr for Timestamp {
    type Err = Error;

    /// Fractions of a second are dropped; other offsets than `Z` are taken into account.
    fn from_str(text: &str) -> Result<Self, Error> {
        let syntax = |why| Error::from(Kind::Syntax { what: "a time", text: text.to_owned(), why });
        let seconds = parse(text).ok_or_else(|| syntax("it must be like 2006-01-02T15:04:05Z"))?;
        let seconds = u64::try_from(seconds).map_err(|_| syntax("it is before 1970"))?;
        Self::from_unix_seconds(seconds)
    }
}

/// Seconds since the beginning of 1970 of an RFC 3339 time.
fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked("2006-01-02".len())?;
    let (time, rest) = rest.strip_prefix(['T', 't', ' '])?.split_at_checked("15:04:05".len())?;
    let [year, month, day] = numbers(date, '-', ["0000".len(), 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2; 3])?;
    let offset = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let is_time =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    let seconds = (hour * 60 + minute) * 60 + second - offset_seconds(offset)?;
    is_time.then(|| days(year, month, day) * SECONDS_PER_DAY as i64 + seconds)
}

fn offset_seconds(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, offset) = text.split_at_checked(1)?;
    let [hours, minutes] = numbers(offset, ':', [2; 2])?;
    match sign {
        "+" => Some((hours * 60 + minutes) * 60),
        "-" => Some(-(hours * 60 + minutes) * 60),
        _ => None,
    }
}

/// Exactly `N` numbers of these many digits.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|p| p.len() == digits && p.bytes().all(|b| b.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Days from 1970-01-01 to a date; the inverse of [`date`], from the same source.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_400_YEARS as i64 + day_of_era - DAYS_BEFORE_1970 as i64
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970-01-01.
///
/// Counts in years that begin in March, so that the leap day is the last, and months have the
/// lengths 31 30 31 30 31 over and over: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
fn date(days: u64) -> (u64, u64, u64) {
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

    #[test]
    fn times_are_parsed_as_they_are_shown() {
        for seconds in [0, 951_782_400, 951_868_799, 1_767_225_600, LAST_SECOND] {
            let time = Timestamp::from_unix_seconds(seconds).unwrap();
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
    }

    #[test]
    fn offsets_and_fractions_are_understood() {
        for (text, seconds) in [
            ("1970-01-01T00:00:01.999999999Z", 1),
            ("1970-01-01T02:00:00+02:00", 0),
            ("1969-12-31T23:30:00-00:30", 0),
            ("2024-02-29T12:00:00z", 1_709_208_000),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().unix_seconds(), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2024",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "1969-01-01T00:00:00Z",
            "2024-01-01T00:00:00+2",
            "+024-01-01T00:00:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
