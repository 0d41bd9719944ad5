//! Calendar time in UTC, as part of a run's name.

use std::time::{SystemTime, UNIX_EPOCH};

/// A time in UTC as `20251231T235959Z`, which sorts by time and needs no quoting in a shell. Time before 1970 counts as
/// 1970.
pub fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = date(seconds / 86400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// A time as [`utc`] writes it in the form of RFC 3339: `2025-12-31T23:59:59Z`; nothing of another text.
pub fn rfc3339(utc: &str) -> Option<String> {
    let [year, month, day, hour, minute, second] = parts(utc)?;
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// The seconds from 1970 to a time as [`utc`] writes it; nothing of another text, and of a time before.
pub fn seconds_since_1970(utc: &str) -> Option<u64> {
    let [year, month, day, hour, minute, second] = parts(utc)?;
    Some(days(year, month, day)? * 86400 + hour * 3600 + minute * 60 + second)
}

/// Year, month, day, hour, minute and second of a time as [`utc`] writes it.
fn parts(utc: &str) -> Option<[u64; 6]> {
    let number = |from: usize, to: usize| utc.get(from..to).filter(|text| text.bytes().all(|c| c.is_ascii_digit()));
    let number = |from, to| number(from, to)?.parse().ok();
    let shape = utc.len() == 16 && utc.get(8..9) == Some("T") && utc.ends_with('Z');
    let parts = [number(0, 4)?, number(4, 6)?, number(6, 8)?, number(9, 11)?, number(11, 13)?, number(13, 15)?];
    let [_, month, day, hour, minute, second] = parts;
    let there = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    (shape && there).then_some(parts)
}

/// The days from 1970-01-01 to a date: Hinnant, as for [`date`], days_from_civil.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// The date that is `days` after 1970-01-01. Counted in years that start in March, in which the leap day is the last,
/// and in eras of 400 of them: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn known_times() {
        // From date -u -d @N +%Y%m%dT%H%M%SZ.
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (1_735_689_599, "20241231T235959Z"),
            (1_763_637_000, "20251120T111000Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        assert_eq!(utc(UNIX_EPOCH - Duration::from_secs(1)), "19700101T000000Z");
    }

    #[test]
    fn a_time_that_was_written_is_read() {
        for seconds in [0, 86_399, 951_782_400, 951_868_800, 1_735_689_599, 4_107_542_400] {
            let text = utc(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(seconds_since_1970(&text), Some(seconds), "{text}");
        }
        assert_eq!(rfc3339("20251120T111005Z").as_deref(), Some("2025-11-20T11:10:05Z"));
        for bad in ["", "20251120T1110050Z", "20251320T111005Z", "2025112éT11005Z", "19691231T235959Z"] {
            assert_eq!(seconds_since_1970(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_day_of_800_years_follows_the_one_before() {
        let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..800 * 365 {
            assert_eq!(date(days), (year, month, day));
            let length = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize - 1];
            (month, day) = if day == length { (month + 1, 1) } else { (month, day + 1) };
            (year, month) = if month == 13 { (year + 1, 1) } else { (year, month) };
        }
    }
}
