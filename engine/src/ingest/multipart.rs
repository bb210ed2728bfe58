//! `multipart/form-data` in memory: parts are slices of the body, nothing is copied.
//!
//! Reads what RFC 7578 and Go's reader read: a preamble, delimiter lines with blanks behind them, CRLF or bare LF. A part's
//! content is everything up to the line break before the next delimiter line; it is taken as it is, whatever its
//! `Content-Transfer-Encoding` says.

use bytes::Bytes;
use memchr::memmem::Finder;

/// Parts of one form. SDKs send one to three; a body of nothing but delimiters must not cost more than its bytes.
pub(super) const PARTS_MAX: usize = 1000;

/// Bytes of the header lines of one part.
pub(super) const PART_HEADER_BYTES_MAX: usize = 16 << 10;

/// Why a form cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormError {
    #[error("malformed multipart content type header")]
    NoBoundary,
    #[error("multipart form does not begin with its boundary")]
    NoFirstDelimiter,
    #[error("multipart form ends without its closing boundary")]
    NotClosed,
    #[error("header of a part is longer than {PART_HEADER_BYTES_MAX} bytes or does not end")]
    PartHeader,
    #[error("multipart form has more than {PARTS_MAX} parts")]
    TooManyParts,
}

/// The first part of each name, by the names asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Form(Vec<(String, Bytes)>);

impl Form {
    /// Splits a body.
    pub(super) fn parse(content_type: &str, body: &Bytes) -> Result<Self, FormError> {
        let boundary = parameter(content_type, "boundary").filter(|b| !b.is_empty());
        let delimiter = format!("--{}", boundary.ok_or(FormError::NoBoundary)?);
        let finder = Finder::new(delimiter.as_bytes());
        let mut parts = Vec::new();
        let first = next_delimiter(body, 0, &finder).ok_or(FormError::NoFirstDelimiter)?;
        let mut delimiter = first;
        while !delimiter.closes {
            if parts.len() == PARTS_MAX {
                return Err(FormError::TooManyParts);
            }
            let content_start = end_of_header(body, delimiter.end)?;
            // An empty part has no line break of its own: the one that ends the header also begins the delimiter.
            let next =
                next_delimiter(body, content_start.saturating_sub(2).max(delimiter.end), &finder)
                    .ok_or(FormError::NotClosed)?;
            let content = body.slice(content_start..next.start.max(content_start));
            if let Some(name) = part_name(&body[delimiter.end..content_start]) {
                parts.push((name, content));
            }
            delimiter = next;
        }
        Ok(Self(parts))
    }

    /// Content of the first part of this name.
    pub(super) fn part(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, content)| content)
    }
}

/// A delimiter line.
#[derive(Clone, Copy)]
struct Delimiter {
    /// Where the line break before it begins: the end of the content.
    start: usize,
    /// Behind its own line break.
    end: usize,
    /// It has two more dashes: the last.
    closes: bool,
}

/// The first delimiter line at or behind `from`.
fn next_delimiter(body: &[u8], from: usize, finder: &Finder<'_>) -> Option<Delimiter> {
    let mut search = from;
    while let Some(at) = finder.find(&body[search..]).map(|at| search + at) {
        let behind = at + finder.needle().len();
        search = at + 1;
        let start = match &body[..at] {
            [] => Some(0),
            [.., b'\r', b'\n'] => Some(at - 2),
            [.., b'\n'] => Some(at - 1),
            _ => None,
        };
        let (Some(start), Some((end, closes))) = (start, end_of_delimiter(body, behind)) else {
            continue;
        };
        return Some(Delimiter { start, end, closes });
    }
    None
}

/// Behind the line break of a delimiter line, and whether it closes the form; `None` when the line goes on otherwise.
fn end_of_delimiter(body: &[u8], behind: usize) -> Option<(usize, bool)> {
    if body[behind..].starts_with(b"--") {
        return Some((behind + 2, true)); // what follows is the epilogue
    }
    let blanks = body[behind..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let line_break = behind + blanks;
    match &body[line_break..] {
        [b'\r', b'\n', ..] => Some((line_break + 2, false)),
        [b'\n', ..] => Some((line_break + 1, false)),
        _ => None,
    }
}

/// Behind the empty line that ends a part's header.
fn end_of_header(body: &[u8], from: usize) -> Result<usize, FormError> {
    let window = &body[from..body.len().min(from + PART_HEADER_BYTES_MAX)];
    let mut line_start = 0;
    while let Some(len) = memchr::memchr(b'\n', &window[line_start..]) {
        let line = &window[line_start..line_start + len];
        line_start += len + 1;
        if line.is_empty() || line == b"\r" {
            return Ok(from + line_start);
        }
    }
    Err(FormError::PartHeader)
}

/// `name` of the part's `Content-Disposition`.
fn part_name(header: &[u8]) -> Option<String> {
    let header = String::from_utf8_lossy(header);
    header.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case("content-disposition").then(|| parameter(value, "name"))?
    })
}

/// A parameter of a header value: `form-data; name="profile"; filename=x`.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (key, behind) = rest.split_once('=')?;
        let (text, next) = parameter_value(behind.trim_start());
        if key.trim().eq_ignore_ascii_case(wanted) {
            return Some(text);
        }
        rest = next.split_once(';')?.1;
    }
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut unquoted = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (unquoted, &quoted[at + 1..]),
            '\\' => unquoted.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => unquoted.push(c),
        }
    }
    (unquoted, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    fn part(body: &str, name: &str) -> Result<Option<String>, FormError> {
        let form = Form::parse(TYPE, &Bytes::copy_from_slice(body.as_bytes()))?;
        Ok(form.part(name).map(|content| String::from_utf8(content.to_vec()).unwrap()))
    }

    #[test]
    fn parts_are_read_by_name_and_the_first_counts() {
        let body = "preamble\r\n--XX\r\nContent-Disposition: form-data; name=\"a\"; filename=\"f\"\r\n\
                    Content-Type: x/y\r\n\r\none\r\n--XX \t\r\ncontent-disposition: form-data; filename=q; name=b\r\n\r\n\
                    t--XX\r\nwo\r\n\r\n--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nlater\r\n--XX--\r\nepilogue";
        assert_eq!(part(body, "a"), Ok(Some("one".to_owned())));
        assert_eq!(part(body, "b"), Ok(Some("t--XX\r\nwo\r\n".to_owned())));
        assert_eq!(part(body, "c"), Ok(None));
    }

    #[test]
    fn line_breaks_may_be_bare() {
        let body = "--XX\nContent-Disposition: form-data; name=a\n\none\ntwo\n--XX--";
        assert_eq!(part(body, "a"), Ok(Some("one\ntwo".to_owned())));
    }

    #[test]
    fn a_part_may_be_empty() {
        let header = "Content-Disposition: form-data; name=a\r\n\r\n";
        assert_eq!(part(&format!("--XX\r\n{header}\r\n--XX--"), "a"), Ok(Some(String::new())));
        assert_eq!(part(&format!("--XX\r\n{header}--XX--"), "a"), Ok(Some(String::new())));
    }

    #[test]
    fn a_broken_form_is_refused_in_words() {
        let header = "Content-Disposition: form-data; name=a\r\n\r\n";
        let cases = [
            ("", FormError::NoFirstDelimiter),
            ("x--XX\r\n", FormError::NoFirstDelimiter),
            ("--XXY\r\n", FormError::NoFirstDelimiter),
            ("--XX\r\n", FormError::PartHeader),
            ("--XX\r\nContent-Disposition: x", FormError::PartHeader),
        ];
        for (body, error) in cases {
            assert_eq!(part(body, "a"), Err(error), "{body:?}");
        }
        assert_eq!(part(&format!("--XX\r\n{header}cut"), "a"), Err(FormError::NotClosed));
        let many = format!("--XX\r\n{header}").repeat(PARTS_MAX + 1) + "--XX--";
        assert_eq!(part(&many, "a"), Err(FormError::TooManyParts));
        let long = format!("--XX\r\nX: {}\r\n\r\n\r\n--XX--", "y".repeat(PART_HEADER_BYTES_MAX));
        assert_eq!(part(&long, "a"), Err(FormError::PartHeader));
    }

    #[test]
    fn the_boundary_comes_from_the_content_type() {
        let cases = [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("multipart/form-data; charset=utf-8; Boundary=\"a;\\\"b\"; x=y", Some("a;\"b")),
            ("multipart/form-data;boundary= abc ;x", Some("abc")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary", None),
        ];
        for (content_type, boundary) in cases {
            assert_eq!(parameter(content_type, "boundary").as_deref(), boundary, "{content_type}");
        }
        let empty = Form::parse("multipart/form-data; boundary=", &Bytes::new());
        assert_eq!(empty, Err(FormError::NoBoundary));
    }

    #[test]
    fn what_was_written_is_read_back() {
        bolero::check!().with_type().for_each(|(contents, cut): &(Vec<Vec<u8>>, u16)| {
            // No content may hold the delimiter: the writer of a form chooses its boundary so.
            let contents: Vec<_> = contents
                .iter()
                .take(8)
                .filter(|content| memchr::memmem::find(content, b"--XX").is_none())
                .collect();
            let mut body = Vec::new();
            for (i, content) in contents.iter().enumerate() {
                body.extend_from_slice(
                    format!("--XX\r\nContent-Disposition: form-data; name=\"p{i}\"\r\n\r\n")
                        .as_bytes(),
                );
                body.extend_from_slice(content);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"--XX--\r\n");
            let form = Form::parse(TYPE, &body.clone().into()).unwrap();
            for (i, content) in contents.iter().enumerate() {
                assert_eq!(form.part(&format!("p{i}")).unwrap(), content.as_slice());
            }
            body.truncate(usize::from(*cut));
            let _ = Form::parse(TYPE, &body.into());
        });
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        bolero::check!().with_type().for_each(|(content_type, body): &(String, Vec<u8>)| {
            let _ = Form::parse(content_type, &body.clone().into());
            let _ = Form::parse(TYPE, &body.clone().into());
            let _ =
                Form::parse(TYPE, &[b"--XX\r\n", body.as_slice(), b"\r\n--XX--"].concat().into());
        });
    }
}
