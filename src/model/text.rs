//! Untrusted bytes made printable, and numbers as Xen writes them.

use std::str::FromStr;

/// A raw name for a terminal: text as it is; escapes for bytes that are no text, or that could control the terminal,
/// break the row, or be invisible.
pub fn printable(raw: &[u8]) -> String {
    let mut out = String::new();
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                c if c.is_control() => out += &format!("\\x{:02x}", u32::from(c)),
                c if is_invisible(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out += &format!("\\x{byte:02x}");
        }
    }
    out
}

/// Controls, and most of Unicode's Default_Ignorable_Code_Point: characters that are invisible themselves, but can
/// change the text around them.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A number as Xen's tools and the kernel write it: no sign, no space, no leading zero.
pub fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let are_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| are_digits && (text == "0" || !text.starts_with('0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_names_cannot_control_a_terminal() {
        for (raw, shown) in [
            (&b"build server"[..], "build server"),
            ("z\u{fc}rich".as_bytes(), "z\u{fc}rich"),
            (b"a\nb\tc", "a\\x0ab\\x09c"),
            (b"\x1b[2J", "\\x1b[2J"),
            (b"\xff\xfeok", "\\xff\\xfeok"),
            ("\u{9b}31m".as_bytes(), "\\x9b31m"),
            ("abc\u{202e}fed".as_bytes(), "abc\\u{202e}fed"),
        ] {
            assert_eq!(printable(raw), shown);
        }
    }

    #[test]
    fn decimal_numbers() {
        for (text, number) in [("0", Some(0)), ("51712", Some(51712)), ("4294967295", Some(u32::MAX))] {
            assert_eq!(decimal(text), number, "{text}");
        }
        for text in ["", "00", "01", "+1", "-1", " 1", "1 ", "x", "4294967296"] {
            assert_eq!(decimal::<u32>(text), None, "{text}");
        }
    }
}
