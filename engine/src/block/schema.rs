//! The tables of a block and their columns: names, types and encodings, in one place for writer, reader and check.

use std::sync::{Arc, LazyLock};

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type};
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type as SchemaType};

use super::write::Level;

/// From this version on two profiles may share rows of `samples`.
pub(super) const SHARING_VERSION: u16 = 3;

/// From this version on a stack has its depth where it had its parent.
pub(super) const DEPTH_VERSION: u16 = 3;

/// A table of a block, in the order in which they are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// One row a profile of a series.
    Profiles,
    /// One row a stack of a profile of a series.
    Samples,
    /// One row a node of a stack tree.
    Stacktraces,
    /// One row a line of a location.
    Locations,
    /// One row a function.
    Functions,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 5] =
        [Self::Profiles, Self::Samples, Self::Stacktraces, Self::Locations, Self::Functions];

    /// Its file in the block's directory.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Profiles => "profiles.parquet",
            Self::Samples => "samples.parquet",
            Self::Stacktraces => "stacktraces.parquet",
            Self::Locations => "locations.parquet",
            Self::Functions => "functions.parquet",
        }
    }

    /// Its columns, in order.
    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Profiles => PROFILES,
            Self::Samples => SAMPLES,
            Self::Stacktraces => STACKTRACES,
            Self::Locations => LOCATIONS,
            Self::Functions => FUNCTIONS,
        }
    }

    /// Its columns in a block of a version. Columns keep their places: later versions add at the end, or replace.
    pub(super) fn columns_of(self, version: u16) -> &'static [Column] {
        match self {
            Self::Profiles if version < SHARING_VERSION => &PROFILES[..profiles::SAMPLES_OF],
            Self::Samples if version < SHARING_VERSION => &SAMPLES[..samples::SECOND_VALUE],
            Self::Stacktraces if version < DEPTH_VERSION => STACKTRACES_WITH_PARENTS,
            _ => self.columns(),
        }
    }

    /// Rows of a row group at most: what a reader of one partition may have to decode of others, and what a writer holds
    /// compressed before it comes out.
    pub(super) fn row_group_rows_max(self) -> u64 {
        match self {
            Self::Samples => 256 << 10,
            Self::Stacktraces => 128 << 10,
            Self::Profiles => 64 << 10,
            Self::Locations | Self::Functions => 32 << 10,
        }
    }

    /// How hard its pages are compressed.
    pub(super) fn level(self) -> Level {
        match self {
            Self::Profiles | Self::Samples => Level::Fast,
            Self::Stacktraces | Self::Locations | Self::Functions => Level::Small,
        }
    }

    /// Parquet's schema of it.
    pub(super) fn schema(self) -> SchemaDescPtr {
        Arc::clone(&SCHEMAS[self as usize])
    }

    /// What its file says beside its pages.
    pub(super) fn properties() -> WriterPropertiesPtr {
        Arc::clone(&PROPERTIES)
    }
}

/// Physical type, with its meaning where Parquet has a name for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `INT32`, unsigned.
    U32,
    /// `INT64`.
    I64,
    /// `INT64`, unsigned.
    U64,
    /// `INT64`, nanoseconds since 1970 UTC.
    Time,
    /// `BYTE_ARRAY` of UTF-8.
    Text,
}

/// How values are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coding {
    /// `DELTA_BINARY_PACKED`: for numbers that follow each other.
    Delta,
    /// `RLE_DICTIONARY`: for values that recur; `PLAIN` in a row group that has too many.
    Dictionary,
    /// `DELTA_BYTE_ARRAY`: for texts that begin alike.
    Prefix,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) coding: Coding,
    pub(super) is_optional: bool,
}

const fn column(name: &'static str, kind: Kind, coding: Coding) -> Column {
    Column { name, kind, coding, is_optional: false }
}

const fn optional(name: &'static str, kind: Kind, coding: Coding) -> Column {
    Column { name, kind, coding, is_optional: true }
}

/// Places of columns in [`PROFILES`].
pub(crate) mod profiles {
    pub(crate) const SERIES_ID: usize = 1;
    pub(crate) const TIME: usize = 5;
    pub(crate) const TOTAL: usize = 6;
    pub(crate) const SAMPLES_START: usize = 7;
    pub(crate) const SAMPLES_COUNT: usize = 8;
    pub(crate) const SAMPLES_OF: usize = 9;
}

const PROFILES: &[Column] = &[
    column("profile_id", Kind::U32, Coding::Delta),
    column("series_id", Kind::U32, Coding::Delta),
    column("service_name", Kind::Text, Coding::Dictionary),
    column("profile_type", Kind::Text, Coding::Dictionary),
    column("labels", Kind::Text, Coding::Dictionary),
    column("time", Kind::Time, Coding::Dictionary),
    column("total", Kind::I64, Coding::Dictionary),
    column("samples_start", Kind::U64, Coding::Delta),
    column("samples_count", Kind::U32, Coding::Delta),
    column("samples_of", Kind::U32, Coding::Delta),
];

/// Places of columns in [`SAMPLES`].
pub(crate) mod samples {
    pub(crate) const STACKTRACE_ID: usize = 1;
    pub(crate) const VALUE: usize = 2;
    pub(crate) const SECOND_VALUE: usize = 3;
}

const SAMPLES: &[Column] = &[
    column("profile_id", Kind::U32, Coding::Delta),
    column("stacktrace_id", Kind::U32, Coding::Delta),
    column("value", Kind::I64, Coding::Dictionary),
    column("second_value", Kind::I64, Coding::Dictionary),
];

/// Places of columns in [`STACKTRACES`].
pub(super) mod stacktraces {
    /// Of version 1 and 2: [`super::STACKTRACES_WITH_PARENTS`].
    pub(in super::super) const PARENT_ID: usize = 1;
    pub(in super::super) const DEPTH: usize = 1;
    pub(in super::super) const LOCATION_ID: usize = 2;
}

const STACKTRACES: &[Column] = &[
    column("stacktrace_id", Kind::U32, Coding::Delta),
    column("depth", Kind::U32, Coding::Delta),
    optional("location_id", Kind::U32, Coding::Delta),
];

const STACKTRACES_WITH_PARENTS: &[Column] = &[
    column("stacktrace_id", Kind::U32, Coding::Delta),
    optional("parent_id", Kind::U32, Coding::Delta),
    optional("location_id", Kind::U32, Coding::Delta),
];

/// Places of columns in [`LOCATIONS`].
pub(super) mod locations {
    pub(in super::super) const LOCATION_ID: usize = 0;
    pub(in super::super) const LINE_INDEX: usize = 1;
    pub(in super::super) const FUNCTION_ID: usize = 2;
    pub(in super::super) const LINE: usize = 3;
    pub(in super::super) const ADDRESS: usize = 4;
    pub(in super::super) const MAPPING_FILE: usize = 5;
    pub(in super::super) const MAPPING_BUILD_ID: usize = 6;
    pub(in super::super) const MAPPING_START: usize = 7;
    pub(in super::super) const MAPPING_LIMIT: usize = 8;
    pub(in super::super) const MAPPING_OFFSET: usize = 9;
    pub(in super::super) const FLAGS: usize = 10;
}

const LOCATIONS: &[Column] = &[
    column("location_id", Kind::U32, Coding::Delta),
    column("line_index", Kind::U32, Coding::Delta),
    optional("function_id", Kind::U32, Coding::Delta),
    column("line", Kind::I64, Coding::Delta),
    column("address", Kind::U64, Coding::Delta),
    column("mapping_file", Kind::Text, Coding::Dictionary),
    column("mapping_build_id", Kind::Text, Coding::Dictionary),
    column("mapping_start", Kind::U64, Coding::Dictionary),
    column("mapping_limit", Kind::U64, Coding::Dictionary),
    column("mapping_offset", Kind::U64, Coding::Dictionary),
    column("flags", Kind::U32, Coding::Dictionary),
];

/// Bits of `flags` in [`LOCATIONS`].
pub(super) mod flags {
    pub(in super::super) const IS_FOLDED: u32 = 1;
    pub(in super::super) const HAS_MAPPING: u32 = 2;
    pub(in super::super) const HAS_FUNCTIONS: u32 = 4;
    pub(in super::super) const HAS_FILENAMES: u32 = 8;
    pub(in super::super) const HAS_LINE_NUMBERS: u32 = 16;
    pub(in super::super) const HAS_INLINE_FRAMES: u32 = 32;
}

/// Places of columns in [`FUNCTIONS`].
pub(super) mod functions {
    pub(in super::super) const NAME: usize = 1;
    pub(in super::super) const SYSTEM_NAME: usize = 2;
    pub(in super::super) const FILE: usize = 3;
    pub(in super::super) const START_LINE: usize = 4;
}

const FUNCTIONS: &[Column] = &[
    column("function_id", Kind::U32, Coding::Delta),
    column("name", Kind::Text, Coding::Prefix),
    optional("system_name", Kind::Text, Coding::Prefix),
    column("file", Kind::Text, Coding::Dictionary),
    column("start_line", Kind::I64, Coding::Delta),
];

/// Made once: a schema is a tree of names.
static SCHEMAS: LazyLock<[SchemaDescPtr; 5]> = LazyLock::new(|| {
    Table::ALL.map(|table| Arc::new(SchemaDescriptor::new(Arc::new(schema(table.columns())))))
});

/// The page index is left out: our reader has its own, and readers that look for places of pages are rare.
static PROPERTIES: LazyLock<WriterPropertiesPtr> = LazyLock::new(|| {
    let properties = WriterProperties::builder()
        .set_created_by("pyrite".to_owned())
        .set_offset_index_disabled(true);
    Arc::new(properties.build())
});

fn schema(columns: &[Column]) -> SchemaType {
    let fields = columns.iter().map(|column| {
        let repetition =
            if column.is_optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let (physical, logical) = match column.kind {
            Kind::U32 => (Type::INT32, Some(LogicalType::integer(32, false))),
            Kind::I64 => (Type::INT64, None),
            Kind::U64 => (Type::INT64, Some(LogicalType::integer(64, false))),
            Kind::Time => (Type::INT64, Some(LogicalType::timestamp(true, TimeUnit::NANOS))),
            Kind::Text => (Type::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let field = SchemaType::primitive_type_builder(column.name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build();
        Arc::new(field.expect("the types of columns go together"))
    });
    SchemaType::group_type_builder("schema")
        .with_fields(fields.collect())
        .build()
        .expect("a group of named columns is a schema")
}
