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

/// Whether a character is invisible, and so can change the text around it or make two names look alike: control
/// characters; Unicode's property Default_Ignorable_Code_Point, which includes Bidi_Control; the separators of lines
/// and paragraphs; and the interlinear annotation characters.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
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
            ("web\u{1bca0}".as_bytes(), "web\\u{1bca0}"),
        ] {
            assert_eq!(printable(raw), shown);
        }
    }

    /// Default_Ignorable_Code_Point, as in DerivedCoreProperties.txt of Unicode 14 to 16, which also gives the number
    /// of its code points.
    const DEFAULT_IGNORABLE: [(u32, u32); 17] = [
        (0xad, 0xad),
        (0x34f, 0x34f),
        (0x61c, 0x61c),
        (0x115f, 0x1160),
        (0x17b4, 0x17b5),
        (0x180b, 0x180f),
        (0x200b, 0x200f),
        (0x202a, 0x202e),
        (0x2060, 0x206f),
        (0x3164, 0x3164),
        (0xfe00, 0xfe0f),
        (0xfeff, 0xfeff),
        (0xffa0, 0xffa0),
        (0xfff0, 0xfff8),
        (0x1bca0, 0x1bca3),
        (0x1d173, 0x1d17a),
        (0xe0000, 0xe0fff),
    ];

    #[test]
    fn invisible_characters_are_the_default_ignorable_ones() {
        let of_property = |c: u32| DEFAULT_IGNORABLE.iter().any(|&(first, last)| (first..=last).contains(&c));
        assert_eq!((0..=0x10_ffff).filter(|&c| of_property(c)).count(), 4174);
        let others = |c: u32| matches!(c, 0..=0x1f | 0x7f..=0x9f | 0x2028..=0x2029 | 0xfff9..=0xfffb);
        for c in '\0'..=char::MAX {
            let number = u32::from(c);
            assert_eq!(is_invisible(c), of_property(number) || others(number), "{}", c.escape_unicode());
        }
        let bidi_control =
            ['\u{61c}'..='\u{61c}', '\u{200e}'..='\u{200f}', '\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
        assert!(bidi_control.into_iter().flatten().all(is_invisible));
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
