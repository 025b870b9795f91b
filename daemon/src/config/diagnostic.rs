//! How a mistake in the configuration is shown: its place, the line, a caret, what may be meant.

use std::{ops::Range, path::Path};

/// `unknown field` errors name what is allowed; a near miss gets a suggestion.
pub(super) fn suggest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(wrong) = quoted.next().filter(|_| message.starts_with("unknown ")) else {
        return message.to_owned();
    };
    match nearest(wrong, quoted) {
        Some(name) => format!("{message}\ndid you mean `{name}`?"),
        None => message.to_owned(),
    }
}

/// What may have been meant.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = known.map(|name| (distance(wrong, name), name)).min()?;
    (distance <= 2.max(wrong.len() / 3)).then_some(name)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (corner + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            corner = above;
        }
    }
    row[b.len()]
}

/// The message with file, line, column, the line itself and a caret under the mistake.
pub(super) fn point_at(path: &Path, text: &str, span: Range<usize>, message: &str) -> String {
    let start = span.start.min(text.len());
    let before = text.get(..start).unwrap_or_default();
    let line_number = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
    let column = before.get(line_start..).unwrap_or_default().chars().count();
    let room = line.chars().count().saturating_sub(column).max(1);
    let width = text.get(start..span.end.min(text.len())).map_or(1, |t| t.chars().count());
    let carets = "^".repeat(width.clamp(1, room));
    let gutter = " ".repeat(line_number.to_string().len());
    let pad = " ".repeat(column);
    let (first, rest) = message.split_once('\n').unwrap_or((message, ""));
    let mut shown = format!(
        "{path}:{line_number}:{}: {first}\n{gutter} |\n{line_number} | {line}\n{gutter} | {pad}{carets}",
        column + 1,
        path = path.display(),
    );
    if !rest.is_empty() {
        shown.push('\n');
        shown.push_str(rest);
    }
    shown
}
