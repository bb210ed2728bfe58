//! Go names without their type parameters: `slices.Sort[go.shape.int]` is `slices.Sort`.
//!
//! Since Go 1.21 a name carries the type parameters of any one of the shapes that share its code, whichever was called
//! (<https://github.com/golang/go/issues/64528>): they tell nothing and make one function many.

use memchr::memmem;

use super::super::{Profile, Span};

const SHAPE: &[u8] = b"[go.shape.";

/// Rewrites the strings that hold type parameters; their new text stands behind the message. Whether there were any.
///
/// One search over the bytes of the string table when there are none. `O(bytes)` in any case.
pub(in super::super) fn drop_type_parameters(profile: &mut Profile) -> bool {
    let Profile { bytes, strings, message_len, .. } = profile;
    let first = strings.iter().map(|row| row.start).min().unwrap_or(0) as usize;
    let mut at = 0;
    let mut hits = memmem::find_iter(&bytes[first..*message_len], SHAPE).map(|hit| first + hit);
    let mut rewritten: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut hit = hits.next();
    while let Some(position) = hit {
        // Rows stand in the order of the message, so hits and rows are walked side by side.
        while at < strings.len() && end(strings[at]) <= position {
            at += 1;
        }
        let Some(row) = strings.get(at) else { break };
        if position < row.start as usize || position + SHAPE.len() > end(*row) {
            hit = hits.next();
            continue;
        }
        rewritten.push((at, without_type_parameters(&bytes[row.start as usize..end(*row)])));
        while hit.is_some_and(|position| position < end(strings[at])) {
            hit = hits.next();
        }
    }
    for (row, text) in &rewritten {
        strings[*row] = Span { start: bytes.len() as u32, len: text.len() as u32 };
        bytes.extend_from_slice(text);
    }
    !rewritten.is_empty()
}

fn end(row: Span) -> usize {
    (row.start + row.len) as usize
}

/// Leaves out every `[go.shape.…]`, brackets inside it included; one that does not end stays.
fn without_type_parameters(name: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(start) = memmem::find(rest, SHAPE) {
        let Some(len) = bracketed_len(&rest[start..]) else { break };
        kept.extend_from_slice(&rest[..start]);
        rest = &rest[start + len..];
    }
    kept.extend_from_slice(rest);
    kept
}

/// Length up to the bracket that closes the first one.
fn bracketed_len(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    for (i, byte) in text.iter().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_parameters_are_left_out_and_all_else_stays() {
        for (name, kept) in [
            ("a/b.F[go.shape.int]", "a/b.F"),
            ("F[go.shape.struct { X []int }].func1[go.shape.string].g", "F.func1.g"),
            ("F[go.shape.map[string][]uint8,go.shape.int].m", "F.m"),
            ("F[...]", "F[...]"),
            ("F[go.shape.int", "F[go.shape.int"),
            ("F[go.shape.int].g[go.shape.[", "F.g[go.shape.["),
        ] {
            let text = String::from_utf8(without_type_parameters(name.as_bytes())).unwrap();
            assert_eq!(text, kept);
        }
    }

    fn profile(strings: &[&str]) -> Profile {
        let mut profile = Profile::default();
        for text in strings {
            // A byte that is no string's stands before each, as a tag does.
            profile.bytes.push(b'2');
            let start = profile.bytes.len() as u32;
            profile.bytes.extend_from_slice(text.as_bytes());
            profile.strings.push(Span { start, len: text.len() as u32 });
        }
        profile.message_len = profile.bytes.len();
        profile
    }

    #[test]
    fn only_rows_with_type_parameters_are_rewritten() {
        let before = ["", "main", "F[go.shape.int]", "G", "H[go.shape.a].x[go.shape.b]", "I"];
        let mut profile = profile(&before);
        let spans = profile.strings.clone();
        assert!(drop_type_parameters(&mut profile));
        let after: Vec<&str> = (0..6).map(|row| profile.string(row)).collect();
        assert_eq!(after, ["", "main", "F", "G", "H.x", "I"]);
        assert_eq!(profile.strings[3], spans[3]);
        assert!(!drop_type_parameters(&mut self::profile(&["", "main"])));
    }

    /// A string cut by the length limit may leave half of the mark before its first byte.
    #[test]
    fn a_mark_that_begins_before_a_row_is_none_of_it() {
        let mut profile = profile(&["F[go.shape.int]", "x"]);
        profile.strings[0].start += 3;
        profile.strings[0].len -= 3;
        assert!(!drop_type_parameters(&mut profile));
    }

    #[test]
    fn any_name_loses_only_bytes() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let name: Vec<u8> = bytes
                .iter()
                .flat_map(|b| match b % 4 {
                    0 => SHAPE,
                    1 => b"[",
                    2 => b"]",
                    _ => b"x",
                })
                .copied()
                .collect();
            let kept = without_type_parameters(&name);
            assert!(kept.len() <= name.len());
            let again = without_type_parameters(&kept);
            assert!(again.len() <= kept.len());
        });
    }
}
