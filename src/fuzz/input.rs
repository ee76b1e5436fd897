//! Fuzz input as numbers and choices, and what characters may do. Independent of the code under test.

/// Whether a component of a name may have this character.
pub fn is_plain(c: char) -> bool {
    matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-')
}

/// Whether a character moves a terminal's cursor, ends the line or reverses text.
pub fn steers(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The input. Once it is used up all bytes are 0.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    /// One of these.
    pub fn of<'b, T>(&mut self, choice: &'b [T]) -> &'b T {
        &choice[usize::from(self.byte()) % choice.len()]
    }

    /// Mostly small, sometimes near the limit of a server, a counter or a sum.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ ..0x80 => small.into(),
            0x80..0xc0 => u64::from(self.byte()) << (self.byte() % 64),
            0xc0..0xd0 => (1 << 53) - 128 + u64::from(self.byte()),
            0xd0..0xe0 => u64::MAX - u64::from(self.byte()),
            _ => self.raw(),
        }
    }

    /// Eight bytes as they are.
    pub fn raw(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }
}
