//! What the end of an application name says of a text profile: `shop.alloc_space` is `memory`, in bytes.

/// Profile name, sample type and unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextType {
    /// Value of `__name__`.
    pub name: &'static str,
    /// Sample type.
    pub kind: &'static str,
    /// Unit of the values.
    pub unit: &'static str,
}

/// The type of an application without a dot.
const SUFFIX_DEFAULT: &str = "cpu";

/// Suffix, profile name, sample type, unit.
#[rustfmt::skip]
const TYPES: [(&str, &str, &str, &str); 25] = [
    ("cpu",                        "process_cpu", "samples",                    "count"),
    ("itimer",                     "process_cpu", "samples",                    "count"),
    ("wall",                       "wall",        "samples",                    "count"),
    ("inuse_objects",              "memory",      "inuse_objects",              "count"),
    ("inuse_space",                "memory",      "inuse_space",                "bytes"),
    ("alloc_objects",              "memory",      "alloc_objects",              "count"),
    ("alloc_space",                "memory",      "alloc_space",                "bytes"),
    ("goroutines",                 "goroutine",   "goroutines",                 "count"),
    ("mutex_count",                "mutex",       "contentions",                "count"),
    ("mutex_duration",             "mutex",       "delay",                      "nanoseconds"),
    ("block_count",                "block",       "contentions",                "count"),
    ("block_duration",             "block",       "delay",                      "nanoseconds"),
    ("lock_count",                 "block",       "contentions",                "count"),
    ("lock_duration",              "block",       "delay",                      "nanoseconds"),
    ("alloc_in_new_tlab_objects",  "memory",      "alloc_in_new_tlab_objects",  "count"),
    ("alloc_in_new_tlab_bytes",    "memory",      "alloc_in_new_tlab_bytes",    "bytes"),
    ("alloc_outside_tlab_objects", "memory",      "alloc_outside_tlab_objects", "count"),
    ("alloc_outside_tlab_bytes",   "memory",      "alloc_outside_tlab_bytes",   "bytes"),
    ("live",                       "memory",      "live",                       "count"),
    ("exceptions",                 "exceptions",  "samples",                    "count"),
    ("seconds",                    "wall",        "samples",                    "count"),
    ("nanoseconds",                "wall",        "samples",                    "count"),
    ("microseconds",               "wall",        "samples",                    "count"),
    ("milliseconds",               "wall",        "samples",                    "count"),
    ("bytes",                      "memory",      "samples",                    "bytes"),
];

/// The application without its suffix, and the suffix's type; the suffix itself when it is none.
pub(super) fn split(app: &str) -> Result<(&str, TextType), &str> {
    let (app, suffix) = app.rsplit_once('.').unwrap_or((app, SUFFIX_DEFAULT));
    TYPES
        .iter()
        .find(|row| row.0 == suffix)
        .map(|&(_, name, kind, unit)| (app, TextType { name, kind, unit }))
        .ok_or(suffix)
}

impl TextType {
    /// Name of the time that a sample stands for, where samples are taken at a rate.
    pub(super) fn sampled_time(self) -> Option<&'static str> {
        match self.name {
            "process_cpu" => Some("cpu"),
            "wall" => Some("wall"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_dot_splits_the_type_off() {
        let cases = [
            ("my.app.cpu", Ok(("my.app", "process_cpu", "samples", "count"))),
            ("plain", Ok(("plain", "process_cpu", "samples", "count"))),
            ("m.alloc_space", Ok(("m", "memory", "alloc_space", "bytes"))),
            ("m.mutex_duration", Ok(("m", "mutex", "delay", "nanoseconds"))),
            ("m.lock_count", Ok(("m", "block", "contentions", "count"))),
            ("m.milliseconds", Ok(("m", "wall", "samples", "count"))),
            ("m.bytes", Ok(("m", "memory", "samples", "bytes"))),
            ("my.app", Err("app")),
            ("my.", Err("")),
        ];
        for (text, expected) in cases {
            let got = split(text).map(|(app, t)| (app, t.name, t.kind, t.unit));
            assert_eq!(got, expected, "{text}");
        }
    }
}
