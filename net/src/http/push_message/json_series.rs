//! Finds the series of a push in its JSON text without decoding it, in steps.
//!
//! Only what is plain to see is found: one key `"series"` of the outermost object, whose value is an array of objects. Anything
//! else (the key twice or with escapes, other values, broken text) finds nothing, and the text is decoded whole, which also says
//! what is wrong with it.

use std::ops::Range;

/// Where the series of a push stand in its text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FoundSeries {
    /// The array, with its brackets.
    pub(super) array: Range<usize>,
    /// Its elements, in order.
    pub(super) elements: Vec<Range<usize>>,
}

/// Depth of the array: within the outermost object.
const ARRAY_DEPTH: usize = 2;

/// A scan under way.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a lexer's state is flags")]
pub(super) struct SeriesScan {
    position: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    objects_count: usize,
    string_start: usize,
    /// How many bytes of the string under way are those of `series`.
    key_matched: usize,
    /// The last string at depth 1 was `series`, and only a colon came since.
    after_key: bool,
    state: State,
    array_start: usize,
    element_start: usize,
    elements: Vec<Range<usize>>,
    array: Option<Range<usize>>,
    irregular: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Not within the array.
    #[default]
    Outside,
    /// Within it, before its first element.
    Empty,
    /// Within it, after a comma.
    BeforeElement,
    /// Within it, after an element.
    AfterElement,
}

const KEY: &[u8] = b"series";

impl SeriesScan {
    /// Looks at the next bytes of the text.
    pub(super) fn step(&mut self, piece: &[u8]) {
        for byte in piece {
            if self.in_string {
                self.within_string(*byte);
            } else {
                self.outside_strings(*byte);
            }
            self.position += 1;
        }
    }

    /// Objects so far.
    pub(super) fn objects_count(&self) -> usize {
        self.objects_count
    }

    /// The series, if the text has them where they are looked for.
    pub(super) fn finish(self) -> Option<FoundSeries> {
        let whole = !self.irregular && self.depth == 0 && !self.in_string;
        let Self { array, elements, .. } = self;
        array.filter(|_| whole).map(|array| FoundSeries { array, elements })
    }

    fn within_string(&mut self, byte: u8) {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            // A key written with escapes might still say `series`; then it would be there twice.
            self.irregular |= self.depth == 1;
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
            let len = self.position - self.string_start - 1;
            self.after_key = self.depth == 1 && len == KEY.len() && self.key_matched == len;
        } else if self.key_matched < KEY.len() && KEY[self.key_matched] == byte {
            self.key_matched += 1;
        }
    }

    fn outside_strings(&mut self, byte: u8) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => return,
            b'"' => {
                self.in_string = true;
                self.string_start = self.position;
                self.key_matched = 0;
            }
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => self.close(byte),
            b',' if self.in_array() => {
                self.irregular |= self.state != State::AfterElement;
                self.state = State::BeforeElement;
            }
            // A value that is no object.
            _ => self.irregular |= self.in_array(),
        }
        self.irregular |= byte == b'"' && self.in_array();
        self.after_key &= byte == b':';
    }

    fn in_array(&self) -> bool {
        self.depth == ARRAY_DEPTH && self.state != State::Outside
    }

    fn open(&mut self, byte: u8) {
        if byte == b'{' {
            self.objects_count += 1;
        }
        if self.in_array() {
            self.irregular |= byte != b'{' || self.state == State::AfterElement;
            self.element_start = self.position;
        } else if self.after_key {
            self.irregular |= byte != b'[' || self.array.is_some();
            self.state = State::Empty;
            self.array_start = self.position;
        }
        self.depth += 1;
    }

    fn close(&mut self, byte: u8) {
        if self.in_array() {
            self.irregular |= byte != b']' || self.state == State::BeforeElement;
            self.array = Some(self.array_start..self.position + 1);
            self.state = State::Outside;
        }
        self.irregular |= self.depth == 0;
        self.depth = self.depth.saturating_sub(1);
        if self.in_array() {
            self.elements.push(self.element_start..self.position + 1);
            self.state = State::AfterElement;
        }
    }
}
