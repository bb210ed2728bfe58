//! `multipart/form-data` in memory: parts are slices of the body, nothing is copied.
//!
//! Reads what RFC 7578 and Go's reader read: a preamble, delimiter lines with blanks behind them, CRLF or bare LF. A part's
//! content is everything up to the line break before the next delimiter line; it is taken as it is, whatever its
//! `Content-Transfer-Encoding` says. Splitting is resumable: what a step costs is bounded by the bytes it looks at.

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::profile::Step;

/// Parts of one form. SDKs send one to three; a body of nothing but delimiters must not cost more than its bytes.
pub(super) const PARTS_MAX: usize = 1000;

/// Bytes of the header lines of one part.
pub(super) const PART_HEADER_BYTES_MAX: usize = 16 << 10;

/// Bytes of a boundary: RFC 2046 allows 70. The search goes back by that much at every step.
const BOUNDARY_BYTES_MAX: usize = 1 << 10;

/// Blanks behind a boundary in its line: proxies add one or two.
const BLANKS_MAX: usize = 100;

/// Work of one step, in units of a byte searched, a nanosecond at most.
const STEP_WORK: usize = 512 << 10;
/// A line that begins like a delimiter.
const CANDIDATE_WORK: usize = 100;
/// A byte of a part's header.
const HEADER_BYTE_WORK: usize = 8;

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
    /// Content of the first part of this name.
    pub(super) fn part(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, content)| content)
    }
}

/// A body being split.
#[derive(Debug)]
pub(super) struct FormPass {
    body: Bytes,
    /// Of a line break and what follows it in a delimiter line: it cannot overlap itself, so no byte is matched twice.
    finder: Finder<'static>,
    /// Where the search goes on.
    at: usize,
    open: Option<OpenPart>,
    parts_count: usize,
    form: Form,
}

/// A part whose end is not found yet.
#[derive(Debug)]
struct OpenPart {
    name: Option<String>,
    content_start: usize,
}

impl FormPass {
    /// Begins on a body.
    pub(super) fn new(content_type: &str, body: Bytes) -> Result<Self, FormError> {
        let boundary = parameter(content_type, "boundary")
            .filter(|boundary| (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()))
            .ok_or(FormError::NoBoundary)?;
        let finder = Finder::new(format!("\n--{boundary}").as_bytes()).into_owned();
        Ok(Self { body, finder, at: 0, open: None, parts_count: 0, form: Form::default() })
    }

    /// Goes on for about half a millisecond.
    pub(super) fn step(&mut self) -> Result<Step, FormError> {
        let mut work = 0;
        if self.at == 0 && self.body.starts_with(&self.finder.needle()[1..]) {
            // The first line has no line break before it.
            if self.delimiter(0, self.finder.needle().len() - 1, &mut work)? == Some(Step::Done) {
                return Ok(Step::Done);
            }
        }
        while work < STEP_WORK {
            let window =
                self.body.len().min(self.at + STEP_WORK - work + self.finder.needle().len());
            let Some(found) = self.finder.find(&self.body[self.at..window]) else {
                if window == self.body.len() {
                    return Err(match self.open {
                        None => FormError::NoFirstDelimiter,
                        Some(_) => FormError::NotClosed,
                    });
                }
                // All but the last bytes, in which a delimiter line may have begun.
                self.at = window - (self.finder.needle().len() - 1);
                return Ok(Step::More);
            };
            work += found + CANDIDATE_WORK;
            let line_break = self.at + found;
            self.at = line_break + 1;
            let behind = line_break + self.finder.needle().len();
            let start = line_break - usize::from(self.body[..line_break].ends_with(b"\r"));
            if self.delimiter(start, behind, &mut work)? == Some(Step::Done) {
                return Ok(Step::Done);
            }
        }
        Ok(Step::More)
    }

    /// The parts, once [`Self::step`] was done.
    pub(super) fn finish(self) -> Form {
        self.form
    }

    /// Heap bytes held beside the body.
    pub(super) fn bytes_held(&self) -> usize {
        self.form.0.capacity() * size_of::<(String, Bytes)>() + PART_HEADER_BYTES_MAX
    }

    /// Ends the open part at `start` and begins the next one, where what stands from there to `behind`, the end of a boundary,
    /// belongs to a delimiter line; `None` where the line goes on otherwise.
    fn delimiter(
        &mut self,
        start: usize,
        behind: usize,
        work: &mut usize,
    ) -> Result<Option<Step>, FormError> {
        let Some((end, closes)) = end_of_delimiter(&self.body, behind) else {
            return Ok(None);
        };
        if let Some(OpenPart { name, content_start }) = self.open.take()
            && let Some(name) = name
        {
            // Of an empty part the line break that ends the header also begins the delimiter.
            let content = self.body.slice(content_start..start.max(content_start));
            self.form.0.push((name, content));
        }
        if closes {
            return Ok(Some(Step::Done));
        }
        if self.parts_count == PARTS_MAX {
            return Err(FormError::TooManyParts);
        }
        self.parts_count += 1;
        let content_start = end_of_header(&self.body, end)?;
        *work += (content_start - end) * HEADER_BYTE_WORK;
        let name = part_name(&self.body[end..content_start]);
        self.open = Some(OpenPart { name, content_start });
        self.at = content_start - 1; // see above: the header's last line break may begin a delimiter
        Ok(Some(Step::More))
    }
}

/// Behind the line break of a delimiter line, and whether it closes the form; `None` when the line goes on otherwise.
fn end_of_delimiter(body: &[u8], behind: usize) -> Option<(usize, bool)> {
    if body[behind..].starts_with(b"--") {
        return Some((behind + 2, true)); // what follows is the epilogue
    }
    let blanks = &body[behind..body.len().min(behind + BLANKS_MAX)];
    let blanks = blanks.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
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

    /// The form, and the number of steps it took.
    fn split(content_type: &str, body: Bytes) -> Result<(Form, usize), FormError> {
        let mut pass = FormPass::new(content_type, body)?;
        let mut steps = 1;
        while pass.step()? == Step::More {
            steps += 1;
        }
        Ok((pass.finish(), steps))
    }

    fn part(body: &str, name: &str) -> Result<Option<String>, FormError> {
        let form = split(TYPE, Bytes::copy_from_slice(body.as_bytes()))?.0;
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
        for boundary in [String::new(), "x".repeat(BOUNDARY_BYTES_MAX + 1)] {
            let content_type = format!("multipart/form-data; boundary={boundary}");
            assert_eq!(split(&content_type, Bytes::new()), Err(FormError::NoBoundary));
        }
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
            let form = split(TYPE, body.clone().into()).unwrap().0;
            for (i, content) in contents.iter().enumerate() {
                assert_eq!(form.part(&format!("p{i}")).unwrap(), content.as_slice());
            }
            body.truncate(usize::from(*cut));
            let _ = split(TYPE, body.into());
        });
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        bolero::check!().with_type().for_each(|(content_type, body): &(String, Vec<u8>)| {
            let _ = split(content_type, body.clone().into());
            let _ = split(TYPE, body.clone().into());
            let _ = split(TYPE, [b"--XX\r\n", body.as_slice(), b"\r\n--XX--"].concat().into());
        });
    }

    /// A form was split in one go: with boundary `-` dashes matched at every byte, some seconds for the largest body.
    #[test]
    fn a_body_of_near_misses_is_split_in_steps() {
        let content_type = "multipart/form-data; boundary=-";
        let header = "---\nContent-Disposition: form-data; name=a\n\n";
        let blanks = format!("\n---{}", " ".repeat(2 * BLANKS_MAX));
        for near_miss in ["-", "\n", "\n---x", &blanks] {
            let filler = near_miss.repeat((8 << 20) / near_miss.len());
            let body = format!("{header}x{filler}x\n-----");
            let content = body[header.len()..body.len() - "\n-----".len()].to_owned();
            let (form, steps) = split(content_type, body.into()).unwrap();
            assert!(form.part("a").unwrap() == content.as_bytes(), "{near_miss:?}");
            assert!(steps >= 8, "{near_miss:?}: {steps} steps");
        }
    }

    /// A delimiter line is found wherever the end of a step cuts it.
    #[test]
    fn a_delimiter_across_two_steps_is_found() {
        let header = "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n";
        for len in STEP_WORK - 600..STEP_WORK + 10 {
            let body = format!("{header}{}\r\n--XX--", "x".repeat(len));
            let (form, _) = split(TYPE, body.into()).unwrap();
            assert_eq!(form.part("a").unwrap().len(), len);
        }
    }
}
