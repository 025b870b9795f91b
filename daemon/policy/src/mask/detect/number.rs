//! What consists of digits: cards, social security numbers, accounts, telephones, IPv4.

use std::ops::Range;

use super::{Add, Detector, before, is_word, run};

pub(super) fn find(text: &[u8], add: Add<'_>) {
    let mut at = 0;
    while let Some(start) = next_digit(text, at) {
        let end = run(text, start + 1, |byte| byte.is_ascii_digit());
        at = end;
        if let Some((detector, span)) = one(text, start..end) {
            at = at.max(span.end);
            add(detector, span);
        }
    }
}

/// What begins with this run of digits.
fn one(text: &[u8], digits: Range<usize>) -> Option<(Detector, Range<usize>)> {
    let Range { start, end } = digits;
    let length = end - start;
    let next = text.get(end).copied();
    let previous = before(text, start);
    if previous.is_some_and(|byte| byte.is_ascii_alphabetic()) {
        return (length >= 2).then(|| iban(text, start)).flatten();
    }
    if previous == Some(b'+') {
        return phone(text, start).map(|span| (Detector::Phone, span));
    }
    if is_word(previous) || joined(text, start) {
        return None;
    }
    if length <= 3 && next == Some(b'.') {
        return ipv4(text, start).map(|span| (Detector::Ipv4, span));
    }
    let separated = matches!(next, Some(b' ' | b'-'));
    if length == 3 && separated {
        return ssn(text, start).map(|span| (Detector::Ssn, span));
    }
    if (13..=19).contains(&length) || length == 4 && separated {
        return card(text, start).map(|span| (Detector::Card, span));
    }
    None
}

/// Whether a digit goes before, with a point or a dash between: the middle of something longer.
fn joined(text: &[u8], start: usize) -> bool {
    matches!(before(text, start), Some(b'.' | b'-'))
        && start >= 2
        && text[start - 2].is_ascii_digit()
}

/// Whether it goes on behind, as a word or as a fraction.
fn goes_on(text: &[u8], end: usize) -> bool {
    is_word(text.get(end).copied()) || text.get(end) == Some(&b'.') && is_digit(text, end + 1)
}

fn is_digit(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_digit)
}

fn next_digit(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let (blocks, _) = rest.as_chunks::<32>();
    // Written so that the compiler makes vectors of it.
    let has = |block: &[u8; 32]| {
        block.iter().fold(false, |any, byte| any | (byte.wrapping_sub(b'0') < 10))
    };
    let skipped = 32 * blocks.iter().take_while(|block| !has(block)).count();
    let found = rest[skipped..].iter().position(u8::is_ascii_digit)?;
    Some(from + skipped + found)
}

fn card(text: &[u8], start: usize) -> Option<Range<usize>> {
    let mut digits = [0; 19];
    let mut count = 0;
    let mut at = start;
    let mut best = None;
    let mut separator = None;
    loop {
        let end = run(text, at, |byte| byte.is_ascii_digit());
        let group = end - at;
        if count + group > digits.len() || separator.is_some() && !(2..=7).contains(&group) {
            break;
        }
        for digit in &text[at..end] {
            digits[count] = digit - b'0';
            count += 1;
        }
        if count >= 13 && is_card(&digits[..count]) && !goes_on(text, end) {
            best = Some(start..end);
        }
        let next = text.get(end).copied();
        let fits = separator.map_or(matches!(next, Some(b' ' | b'-')), |_| next == separator);
        if !fits || !is_digit(text, end + 1) {
            break;
        }
        separator = next;
        at = end + 1;
    }
    best
}

/// By the ranges of issuers (ISO/IEC 7812-1) with their lengths, and the check digit.
fn is_card(digits: &[u8]) -> bool {
    let prefix = |length: usize| {
        digits[..length].iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit))
    };
    let length = digits.len();
    let issued = match prefix(4) {
        // Visa
        4000..=4999 => matches!(length, 13 | 16 | 19),
        // Mastercard
        5100..=5599 | 2221..=2720 => length == 16,
        // American Express
        3400..=3499 | 3700..=3799 => length == 15,
        // Diners Club
        3000..=3059 | 3095 | 3600..=3699 | 3800..=3999 => (14..=19).contains(&length),
        // JCB; Discover; UnionPay; Mir
        3528..=3589 | 6011 | 6440..=6599 | 6200..=6299 | 2200..=2204 => (16..=19).contains(&length),
        // Maestro
        5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763 => true,
        _ => false,
    };
    issued && luhn(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(*digit);
            if place % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Three, two and four digits, of an area, a group and a number that were ever given out.
fn ssn(text: &[u8], start: usize) -> Option<Range<usize>> {
    let window = text.get(start..start + 11)?;
    let (area, first, group, second, number) =
        (&window[..3], window[3], &window[4..6], window[6], &window[7..]);
    if first != second
        || ![area, group, number].iter().all(|part| part.iter().all(u8::is_ascii_digit))
    {
        return None;
    }
    let end = start + 11;
    let longer = text.get(end) == Some(&first) && is_digit(text, end + 1);
    let given =
        !matches!(area, b"000" | b"666" | [b'9', ..]) && group != b"00" && number != b"0000";
    (given && !longer && !goes_on(text, end)).then_some(start..end)
}

fn ipv4(text: &[u8], start: usize) -> Option<Range<usize>> {
    let mut at = start;
    for part in 0..4 {
        let end = run(&text[..text.len().min(at + 4)], at, |byte| byte.is_ascii_digit());
        let digits = &text[at..end];
        let value = digits.iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        if digits.is_empty() || value > 255 || digits.len() > 1 && digits[0] == b'0' {
            return None;
        }
        at = end;
        if part < 3 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
    }
    // Versions of packages go on: 1.2.3.4-1, 1.2.3.4~rc1, 1.2.3.4+dfsg. Ranges do with an address.
    let version = match text.get(at) {
        Some(b'~' | b'+') => true,
        Some(b'-') => {
            let end = run(&text[..text.len().min(at + 5)], at + 1, |byte| byte.is_ascii_digit());
            end > at + 1 && text.get(end) != Some(&b'.')
        }
        _ => false,
    };
    (!version && !goes_on(text, at)).then_some(start..at)
}

fn iban(text: &[u8], digits: usize) -> Option<(Detector, Range<usize>)> {
    let start = digits.checked_sub(2)?;
    let country = [text[start], text[start + 1]];
    if !country.iter().all(u8::is_ascii_uppercase) || is_word(before(text, start)) {
        return None;
    }
    let length = iban_length(country)?;
    // The check is of the number with its first four characters at the end, letters as two digits.
    let mut characters = [0_u8; 34];
    let mut count = 0;
    let mut at = start;
    while count < length {
        let byte = *text.get(at)?;
        if byte == b' ' && count % 4 == 0 && at > start && text[at - 1] != b' ' {
            at += 1;
            continue;
        }
        if !byte.is_ascii_digit() && !byte.is_ascii_uppercase() {
            return None;
        }
        characters[count] = byte;
        count += 1;
        at += 1;
    }
    if is_word(text.get(at).copied()) {
        return None;
    }
    let characters = &characters[..length];
    let rest = characters[4..].iter().chain(&characters[..4]).fold(0_u32, |rest, byte| {
        let value = char::from(*byte).to_digit(36).unwrap_or_default();
        (rest * if value < 10 { 10 } else { 100 } + value) % 97
    });
    (rest == 1).then_some((Detector::Iban, start..at))
}

/// From the registry of SWIFT.
fn iban_length(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FI" | b"FK" | b"FO" | b"GL" | b"NL" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"MN" | b"XK" => 20,
        b"CH" | b"CR" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"OM" | b"SO" | b"TL" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HN" | b"HU" | b"LB" | b"NI" | b"PL"
        | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}

/// Eight to fifteen digits, which people separate as they like.
fn phone(text: &[u8], digits: usize) -> Option<Range<usize>> {
    let start = digits - 1;
    if is_word(before(text, start)) || matches!(before(text, start), Some(b'+' | b')')) {
        return None;
    }
    let mut at = digits;
    let mut count = 0;
    let mut best = None;
    let mut code = 0_u32;
    loop {
        let end = run(&text[..text.len().min(at + 16)], at, |byte| byte.is_ascii_digit());
        for digit in text[at..end].iter().take(3_usize.saturating_sub(count)) {
            code = code * 10 + u32::from(digit - b'0');
        }
        count += end - at;
        if count > 15 {
            break;
        }
        if count >= 8 && !is_word(text.get(end).copied()) {
            best = Some(start..end);
        }
        let gap = run(&text[..text.len().min(end + 2)], end, |byte| b" -.()/".contains(&byte));
        if gap == end || !is_digit(text, gap) {
            break;
        }
        at = gap;
    }
    best.filter(|_| is_country(code))
}

/// Whether one of the country codes of E.164 begins with, or is, these three digits.
fn is_country(code: u32) -> bool {
    matches!(code / 100, 1 | 7)
        || matches!(
            code / 10,
            20 | 27
                | 30..=34
                | 36
                | 39..=41
                | 43..=49
                | 51..=58
                | 60..=66
                | 81
                | 82
                | 84
                | 86
                | 90..=95
                | 98
        )
        || matches!(
            code,
            211..=213
                | 216
                | 218
                | 220..=258
                | 260..=269
                | 290
                | 291
                | 297..=299
                | 350..=359
                | 370..=378
                | 380..=383
                | 385..=387
                | 389
                | 420
                | 421
                | 423
                | 500..=509
                | 590..=599
                | 670
                | 672..=683
                | 685..=692
                | 800
                | 808
                | 850
                | 852
                | 853
                | 855
                | 856
                | 870
                | 878
                | 880..=883
                | 886
                | 888
                | 960..=968
                | 970..=977
                | 979
                | 992..=996
                | 998
        )
}
