//! Dates and times in PostgreSQL's range, which is wider than that of calendars in libraries.
//!
//! Binary values count from 2000-01-01. Text is read in ISO style alone: others leave it open which
//! number is the day.

/// Of a day.
const DAY: i64 = 86_400_000_000;
/// The first day of the Julian calendar's count, before which PostgreSQL has none.
const FIRST: i64 = -2_451_545;

/// Whether a text ends with its distance to UTC.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    With,
    Without,
}

pub(super) fn year_of_date(days: i32) -> Option<i32> {
    if matches!(days, i32::MIN | i32::MAX) {
        return None;
    }
    begin(days.into())?.try_into().ok()
}

pub(super) fn year_of_timestamp(micros: i64) -> Option<i64> {
    if matches!(micros, i64::MIN | i64::MAX) {
        return None;
    }
    begin(micros.div_euclid(DAY))?.checked_mul(DAY)
}

/// The first day of the year of this day.
fn begin(days: i64) -> Option<i64> {
    let first = to_days(year_of(days), 1, 1);
    (first >= FIRST).then_some(first)
}

/// Days since 2000-01-01 in the proleptic Gregorian calendar; the year before 1 is 0.
fn to_days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have the day that comes and goes at their end.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year
        - 730_425
}

fn year_of(days: i64) -> i64 {
    // An average year is off by one at most.
    let guess = 2000 + (days * 400).div_euclid(146_097);
    if to_days(guess, 1, 1) > days {
        guess - 1
    } else if to_days(guess + 1, 1, 1) <= days {
        guess + 1
    } else {
        guess
    }
}

fn month_day(days: i64) -> (i64, i64, i64) {
    let year = year_of(days);
    let month = (1..=12).rev().find(|month| to_days(year, *month, 1) <= days).unwrap_or(1);
    (year, month, days - to_days(year, month, 1) + 1)
}

pub(super) fn read_date(text: &str) -> Option<i32> {
    let (text, before) = era(text);
    days(text, before)?.try_into().ok()
}

/// Microseconds in UTC.
pub(super) fn read_timestamp(text: &str, zone: Zone) -> Option<i64> {
    let (text, before) = era(text);
    let (date, time) = text.split_once(' ')?;
    let (micros, west) = match zone {
        Zone::With => read_timetz(time)?,
        Zone::Without => (read_time(time)?, 0),
    };
    days(date, before)?.checked_mul(DAY)?.checked_add(micros + i64::from(west) * 1_000_000)
}

/// Of the day; a day has 24:00.
pub(super) fn read_time(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let [hour, minute, second] = colons(clock)?;
    let digits = fraction.len() <= 6 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || minute > 59 || second > 60 {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    let micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction;
    (micros <= DAY).then_some(micros)
}

/// And seconds west of Greenwich.
pub(super) fn read_timetz(text: &str) -> Option<(i64, i32)> {
    let at = text.find(['+', '-'])?;
    let (time, zone) = text.split_at(at);
    let (sign, zone) = zone.split_at(1);
    let [hour, minute, second] = colons(zone)?;
    if hour > 15 || minute > 59 || second > 59 {
        return None;
    }
    let distance = i32::try_from((hour * 60 + minute) * 60 + second).ok()?;
    Some((read_time(time)?, if sign == "+" { -distance } else { distance }))
}

pub(super) fn date_text(days: i32) -> String {
    let (date, era) = date(days.into());
    date + era
}

/// With a zone, in UTC.
pub(super) fn timestamp_text(micros: i64, zone: Zone) -> String {
    let (date, era) = date(micros.div_euclid(DAY));
    let time = time_text(micros.rem_euclid(DAY));
    let zone = if zone == Zone::With { "+00" } else { "" };
    format!("{date} {time}{zone}{era}")
}

pub(super) fn time_text(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    format!("{hour:02}:{minute:02}:{second:02}{}", fraction.trim_end_matches('0'))
}

pub(super) fn timetz_text(micros: i64, west: i32) -> String {
    let sign = if west > 0 { '-' } else { '+' };
    let far = west.abs();
    let time = time_text(micros);
    let (hour, minute, second) = (far / 3600, far / 60 % 60, far % 60);
    match (minute, second) {
        (0, 0) => format!("{time}{sign}{hour:02}"),
        (_, 0) => format!("{time}{sign}{hour:02}:{minute:02}"),
        _ => format!("{time}{sign}{hour:02}:{minute:02}:{second:02}"),
    }
}

fn date(days: i64) -> (String, &'static str) {
    let (year, month, day) = month_day(days);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |text| (text, true))
}

fn days(text: &str, before: bool) -> Option<i64> {
    let mut parts = text.split('-').map(|part| number(part, 7));
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let year = if before { 1 - year } else { year };
    if parts.next().is_some() || text.find('-')? < 4 || !(1..=12).contains(&month) {
        return None;
    }
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let first = to_days(year, month, 1);
    let valid = (1..=to_days(next_year, next, 1) - first).contains(&day);
    (valid && first + day > FIRST).then_some(first + day - 1)
}

/// Hours, with minutes and seconds or without.
fn colons(text: &str) -> Option<[i64; 3]> {
    let mut out = [0; 3];
    let mut parts = text.split(':');
    out[0] = number(parts.next()?, 2)?;
    for (place, part) in out[1..].iter_mut().zip(&mut parts) {
        *place = number(part, 2)?;
    }
    parts.next().is_none().then_some(out)
}

fn number(text: &str, longest: usize) -> Option<i64> {
    let digits = text.len() <= longest && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}
