//! Dates as HTTP has them: `Sun, 06 Nov 1994 08:49:37 GMT`, always in GMT.
//!
//! Of the three forms only the one that may still be sent. <https://datatracker.ietf.org/doc/html/rfc9110#section-5.6.7>

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SECONDS_OF_A_DAY: u64 = 24 * 3600;

/// Seconds since 1970; `None` for what is no such date or is before.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(", ")?;
    let words: Vec<&str> = rest.split(' ').collect();
    let &[day, month, year, time, "GMT"] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let days = days_since_1970(number(year, 9999)?, month, number(day, 31)?)?;
    let times: Vec<&str> = time.split(':').collect();
    let &[hour, minute, second] = times.as_slice() else { return None };
    // A leap second has the number 60.
    let of_day = number(hour, 23)? * 3600 + number(minute, 59)? * 60 + number(second, 60)?;
    Some(days * SECONDS_OF_A_DAY + of_day)
}

fn number(text: &str, max: u64) -> Option<u64> {
    text.parse().ok().filter(|number| *number <= max)
}

/// In the Gregorian calendar; `month` from 0.
fn days_since_1970(year: u64, month: usize, day: u64) -> Option<u64> {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let leap_years_before = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    if year < 1970 || day == 0 {
        return None;
    }
    let of_months: [u64; 12] = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let of_years = (year - 1970) * 365 + leap_years_before(year) - leap_years_before(1970);
    Some(of_years + of_months[..month].iter().sum::<u64>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `date -u -d ... +%s` says.
    #[test]
    fn dates() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", Some(1_709_251_200)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 24:00:00 GMT", None),
            ("Sun, 06 Nov 99999999999999 08:49:37 GMT", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
