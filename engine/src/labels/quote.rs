//! Strings quoted as Go's `%q` does it: error texts and label sets read the same as Pyroscope's.

use std::fmt::{self, Write};

/// A string that displays as Go's `strconv.Quote` of it.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let mut from = 0;
        for (at, character) in self.0.char_indices() {
            if is_plain(character) {
                continue;
            }
            f.write_str(&self.0[from..at])?;
            from = at + character.len_utf8();
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\x07' => f.write_str("\\a")?,
                '\x08' => f.write_str("\\b")?,
                '\x0c' => f.write_str("\\f")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\x0b' => f.write_str("\\v")?,
                c if c < '\u{80}' => write!(f, "\\x{:02x}", u32::from(c))?,
                c if c < '\u{1_0000}' => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "\\U{:08x}", u32::from(c))?,
            }
        }
        f.write_str(&self.0[from..])?;
        f.write_char('"')
    }
}

/// Whether a character stands for itself. Rust's idea of a printable one serves for Go's, but for combining marks, which Go
/// prints.
fn is_plain(character: char) -> bool {
    match character {
        '"' | '\\' => false,
        ' '..='~' => true,
        c => !c.is_control() && (c.escape_debug().len() == 1 || is_combining(c)),
    }
}

fn is_combining(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{20d0}'..='\u{20ff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_those_of_go() {
        for (text, quoted) in [
            ("", r#""""#),
            ("plain 'x'", r#""plain 'x'""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\x07\x08\x0c\n\r\t\x0b\0\x7f", r#""\a\b\f\n\r\t\v\x00\x7f""#),
            ("é世界😀", r#""é世界😀""#),
            ("\u{a0}\u{200b}\u{feff}", r#""\u00a0\u200b\ufeff""#),
            ("e\u{301}", "\"e\u{301}\""),
        ] {
            assert_eq!(Quoted(text).to_string(), quoted);
        }
    }
}
