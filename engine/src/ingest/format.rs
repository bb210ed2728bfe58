//! Which parser a body goes to: the first rule that matches wins.

/// A parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A pprof message, plain or gzip'd.
    Pprof,
    /// A multipart form with a pprof in its part `profile`.
    PprofForm,
    /// `root;leaf 3` a line.
    Folded,
    /// `root;leaf` a line, each counting 1.
    Lines,
    /// Known to Pyroscope, not read here yet.
    NotBuilt(&'static str),
}

impl Format {
    /// Chooses by the `format` parameter (compared exactly), the content type, and where both are silent the first bytes.
    pub(super) fn of(format: &str, content_type: &str, body: &[u8]) -> Self {
        let is_form = content_type.contains("multipart/form-data");
        match (format, content_type) {
            ("trie", _) | (_, "binary/octet-stream+trie") => Self::NotBuilt("trie"),
            ("tree", _) | (_, "binary/octet-stream+tree") => Self::NotBuilt("tree"),
            ("lines", _) => Self::Lines,
            ("jfr", _) => Self::NotBuilt("jfr"),
            // Old SDKs say `format=pprof` of a form as well; no pprof begins with two dashes.
            ("pprof", _) if is_form && body.starts_with(b"--") => Self::PprofForm,
            ("pprof", _) => Self::Pprof,
            ("speedscope", _) => Self::NotBuilt("speedscope"),
            _ if is_form => Self::PprofForm,
            // Text never begins like gzip: a pprof whose sender gives no format.
            _ if crate::gzip::has_magic(body) => Self::Pprof,
            _ => Self::Folded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_wins() {
        const FORM: &str = "multipart/form-data; boundary=x";
        let cases: [(&str, &str, &[u8], Format); 15] = [
            ("trie", FORM, b"", Format::NotBuilt("trie")),
            ("", "binary/octet-stream+trie", b"", Format::NotBuilt("trie")),
            ("pprof", "binary/octet-stream+tree", b"", Format::NotBuilt("tree")),
            ("lines", FORM, b"", Format::Lines),
            ("jfr", FORM, b"--x", Format::NotBuilt("jfr")),
            ("pprof", "", b"\n\x04", Format::Pprof),
            ("pprof", FORM, b"--x\r\n", Format::PprofForm),
            ("pprof", FORM, b"\x1f\x8b", Format::Pprof),
            ("speedscope", "application/json", b"{}", Format::NotBuilt("speedscope")),
            ("", FORM, b"--x\r\n", Format::PprofForm),
            ("groups", FORM, b"--x\r\n", Format::PprofForm),
            ("", "text/plain", b"a;b 1", Format::Folded),
            ("", "", b"\x1f\x8b\x08", Format::Pprof),
            ("collapsed", "", b"a 1", Format::Folded),
            ("PPROF", "", b"a 1", Format::Folded),
        ];
        for (format, content_type, body, chosen) in cases {
            assert_eq!(Format::of(format, content_type, body), chosen, "{format} {content_type}");
        }
    }
}
