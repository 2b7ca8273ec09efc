//! Texts of others (names of tables, routes, cookies) within one line of a file, a message or a terminal; and numbers with what
//! they count. Pure.

use std::fmt::Display;

/// Whether a character may end a line, change its direction, or be an order to a terminal.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with a space for each such character.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if is_unprintable(c) { ' ' } else { c })
        .collect()
}

/// Sentences as one. Behind one that ends with a statement, no other semicolon.
pub(crate) fn joined<S: AsRef<str>>(sentences: &[S]) -> String {
    let mut all = String::new();
    for sentence in sentences {
        if !all.is_empty() {
            all.push_str(if all.ends_with(';') { " " } else { "; " });
        }
        all.push_str(sentence.as_ref());
    }
    all
}

/// A number with the word for what it counts: of one, or of any other number of them.
pub(crate) fn counted<N: Copy + Display + PartialEq + From<u8>>(number: N, one: &str, more: &str) -> String {
    let word = if number == N::from(1) { one } else { more };
    format!("{number} {word}")
}
