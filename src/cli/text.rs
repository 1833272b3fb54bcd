//! Text that may hold anything a manifest holds, made safe for a terminal.

use std::fmt::Write;

/// `text` with control characters (escape sequences among them) written out, line breaks excepted.
pub(super) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        // Bidirectional overrides can make a line read as another one.
        let misleading =
            matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
        if (letter.is_control() && letter != '\n') || misleading {
            // Writing into a String cannot fail.
            let _ = write!(safe, "\\u{{{:x}}}", u32::from(letter));
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// `1 error`, `2 errors`.
pub(super) fn counted(number: usize, word: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {word}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_reach_a_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\u{202e}c\nd\té"), "a\\u{1b}[31mb\\u{202e}c\nd\\u{9}é");
    }

    #[test]
    fn numbers_agree_with_their_words() {
        assert_eq!((counted(0, "file"), counted(1, "file")), ("0 files".into(), "1 file".into()));
    }
}
