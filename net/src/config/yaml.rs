//! YAML as settings need it: a tree of texts, lists and maps whose every key knows its line.
//!
//! Scalars stay texts, because a setting reads its value from YAML as it does from the command line ([`super::Flag::set`]). Aliases
//! and merge keys (`<<`) are resolved here: files of overrides share their blocks with them.
//!
//! Bounds: a document has [`DOCUMENT_BYTES_MAX`] bytes, nests `DEPTH_MAX` deep and weighs `WEIGHT_MAX` once aliases are
//! resolved, so that a short file cannot grow into a large tree.
//!
//! Not here: which keys there are ([`super::settings`]).

use std::collections::HashMap;
use std::fmt;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, Tag};

/// Longest document, bytes. A file of overrides has some hundred bytes a tenant.
pub const DOCUMENT_BYTES_MAX: usize = 8 << 20;

/// Deepest nesting. The deepest setting of Pyroscope lies 6 deep, rules in lists a few deeper.
const DEPTH_MAX: usize = 32;

/// Most that a document weighs with its aliases resolved: [`NODE_WEIGHT`] for every node, and the bytes of its text.
const WEIGHT_MAX: usize = 64 << 20;

/// Bytes a node takes at most, besides its text.
const NODE_WEIGHT: usize = size_of::<Entry>();

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Line, from 1.
    pub line: u32,
    /// What stands there.
    pub value: Value,
}

/// What a YAML document holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `~`, `null` or nothing.
    Null,
    /// Any other text that is neither list nor map; what it means depends on who asks.
    Scalar(String),
    /// Values in order.
    List(Vec<Node>),
    /// Keys in order, each once.
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The key's line, from 1.
    pub line: u32,
    /// Its value.
    pub value: Node,
}

impl Value {
    /// What it is, for error texts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar(_) => "a value",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// Why a document cannot be used, and the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct YamlError {
    /// Line, from 1.
    pub line: u32,
    /// Lowercase, without the line.
    pub reason: String,
}

impl YamlError {
    /// An error at a line.
    pub fn new(line: u32, reason: impl fmt::Display) -> Self {
        Self { line, reason: reason.to_string() }
    }
}

/// Reads a document; an empty one is [`Value::Null`].
pub fn read(text: &str) -> Result<Node, YamlError> {
    if text.len() > DOCUMENT_BYTES_MAX {
        let reason = format!("the document is longer than {DOCUMENT_BYTES_MAX} bytes");
        return Err(YamlError::new(1, reason));
    }
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;
    let mut tree = Tree::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| scan_error(&error))?;
        tree.take(event, line_of(span.start.line()))?;
    }
    Ok(tree.root.unwrap_or(Node { line: 1, value: Value::Null }))
}

fn line_of(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX).max(1)
}

fn scan_error(error: &ScanError) -> YamlError {
    YamlError::new(line_of(error.marker().line()), error.info())
}

/// A list or map whose end has not come yet.
struct Open {
    line: u32,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map(Map),
}

#[derive(Default)]
struct Map {
    entries: Vec<Entry>,
    /// Lines of the keys so far.
    lines: HashMap<String, u32>,
    /// The key whose value comes next.
    key: Option<(String, u32)>,
    /// What `<<` brings in.
    merged: Vec<Entry>,
}

/// The tree as it grows, event by event.
#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    root: Option<Node>,
    /// Finished nodes that have an anchor.
    anchors: HashMap<usize, Node>,
    weight: usize,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, line: u32) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_string = is_string_by_tag(tag.as_deref(), line)?;
                let is_null = style == ScalarStyle::Plain
                    && !is_string
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null { Value::Null } else { Value::Scalar(text.into_owned()) };
                self.add(Node { line, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                is_string_by_tag(tag.as_deref(), line)?;
                self.begin(Open { line, anchor, content: Content::List(Vec::new()) })
            }
            Event::MappingStart(_, anchor, tag) => {
                is_string_by_tag(tag.as_deref(), line)?;
                self.begin(Open { line, anchor, content: Content::Map(Map::default()) })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Open { line, anchor, content } =
                    self.open.pop().expect("the parser ends what it began");
                let value = match content {
                    Content::List(nodes) => Value::List(nodes),
                    Content::Map(map) => Value::Map(map.finish()),
                };
                self.add(Node { line, value }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(YamlError::new(line, "an alias stands inside what it names"));
                };
                let (weight, depth) = measure(node);
                let node = Node { line, value: node.value.clone() };
                self.weigh(weight, line)?;
                self.check_depth(depth, line)?;
                self.add(node, 0)
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(YamlError::new(line, "a second document begins here; one is expected"))
            }
            // Bounds and comments; `Options` asks for no other event.
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), YamlError> {
        self.check_depth(1, open.line)?;
        self.open.push(open);
        Ok(())
    }

    /// Whether something `depth` deep may stand here.
    fn check_depth(&self, depth: usize, line: u32) -> Result<(), YamlError> {
        if self.open.len() + depth > DEPTH_MAX {
            return Err(YamlError::new(line, format!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(())
    }

    /// Takes a finished node in: as a key, as a value, or as the document.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        let line = node.line;
        self.weigh(NODE_WEIGHT + text_bytes(&node), line)?;
        if anchor != 0 {
            self.weigh(measure(&node).0, line)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(nodes)) => nodes.push(node),
            Some(Content::Map(map)) => match map.key.take() {
                None => map.begin(node)?,
                Some((key, line)) => map.add(key, line, node)?,
            },
        }
        Ok(())
    }

    fn weigh(&mut self, bytes: usize, line: u32) -> Result<(), YamlError> {
        self.weight += bytes;
        if self.weight > WEIGHT_MAX {
            let reason = "the document is too large once its aliases are resolved";
            return Err(YamlError::new(line, reason));
        }
        Ok(())
    }
}

impl Map {
    fn begin(&mut self, key: Node) -> Result<(), YamlError> {
        let Value::Scalar(text) = key.value else {
            let reason = format!("expected a key, found {}", key.value.kind());
            return Err(YamlError::new(key.line, reason));
        };
        if let Some(first) = self.lines.insert(text.clone(), key.line) {
            let reason = format!("the key {text:?} is given twice, first on line {first}");
            return Err(YamlError::new(key.line, reason));
        }
        self.key = Some((text, key.line));
        Ok(())
    }

    fn add(&mut self, key: String, line: u32, value: Node) -> Result<(), YamlError> {
        if key != "<<" {
            self.entries.push(Entry { key, line, value });
            return Ok(());
        }
        let maps = match value.value {
            Value::List(nodes) => nodes,
            _ => vec![value],
        };
        for map in maps {
            let Value::Map(entries) = map.value else {
                let reason = format!("<< merges maps, found {}", map.value.kind());
                return Err(YamlError::new(map.line, reason));
            };
            self.merged.extend(entries);
        }
        Ok(())
    }

    /// The map's own keys and those merged in that it lacks; the first of several merged ones counts.
    fn finish(mut self) -> Vec<Entry> {
        for entry in self.merged {
            if !self.lines.contains_key(&entry.key) {
                self.lines.insert(entry.key.clone(), entry.line);
                self.entries.push(entry);
            }
        }
        self.entries
    }
}

/// Whether a tag makes a text of what would be null without it. Tags that ask for more than YAML's own types are refused.
fn is_string_by_tag(tag: Option<&Tag>, line: u32) -> Result<bool, YamlError> {
    let Some(tag) = tag else { return Ok(false) };
    match tag.core_suffix() {
        Some("binary") | None => {
            Err(YamlError::new(line, format!("the tag {} means nothing here", tag.original())))
        }
        Some(suffix) => Ok(suffix == "str"),
    }
}

fn text_bytes(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(text) => text.len(),
        _ => 0,
    }
}

/// Weight and depth of a tree. Recursion ends at [`DEPTH_MAX`], aliases included.
fn measure(node: &Node) -> (usize, usize) {
    let parts: Vec<(usize, usize)> = match &node.value {
        Value::Null | Value::Scalar(_) => return (NODE_WEIGHT + text_bytes(node), 0),
        Value::List(nodes) => nodes.iter().map(measure).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| {
                let (weight, depth) = measure(&entry.value);
                (entry.key.len() + weight, depth)
            })
            .collect(),
    };
    let weight = parts.iter().map(|(weight, _)| weight).sum::<usize>();
    (NODE_WEIGHT + weight, 1 + parts.iter().map(|(_, depth)| *depth).max().unwrap_or(0))
}

#[cfg(test)]
mod tests;
