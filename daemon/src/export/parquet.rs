//! Apache Parquet: one row a command.
//!
//! Does not belong here: the columns.

use std::{io::Write, sync::Arc};

use anyhow::{Context as _, Result};
use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::Type,
};

use super::{
    Sink,
    columns::{COLUMNS, Cell, Kind},
    item::{Exported, micros},
};

/// Rows and bytes of texts after which a row group is written: what is held in memory.
const ROWS: usize = 8192;
const BYTES: usize = 16 << 20;

/// Writes it.
pub(crate) struct Parquet<W: Write + Send> {
    out: SerializedFileWriter<W>,
    columns: Vec<Buffer>,
    rows: usize,
    bytes: usize,
}

/// The values of a column that are not NULL, and for each row whether it has one.
struct Buffer {
    values: Values,
    there: Vec<i16>,
}

enum Values {
    Text(Vec<ByteArray>),
    Number(Vec<i64>),
    Real(Vec<f64>),
    Flag(Vec<bool>),
}

impl<W: Write + Send> Parquet<W> {
    pub(crate) fn new(out: W) -> Result<Self> {
        let version = format!("chaperone {}", env!("CARGO_PKG_VERSION"));
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(version)
            .build();
        let out = SerializedFileWriter::new(out, Arc::new(schema()?), Arc::new(properties))?;
        let columns = COLUMNS.iter().map(|column| Buffer::new(column.kind)).collect();
        Ok(Self { out, columns, rows: 0, bytes: 0 })
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.out.next_row_group()?;
        for buffer in &mut self.columns {
            let column = group.next_column()?.context("the schema has fewer columns")?;
            buffer.write(column)?;
        }
        group.close()?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

impl<W: Write + Send> Sink for Parquet<W> {
    fn put(&mut self, exported: &Exported) -> Result<()> {
        let Exported::Command(item) = exported else { return Ok(()) };
        for (column, buffer) in COLUMNS.iter().zip(&mut self.columns) {
            let cell = (column.value)(item);
            if let Cell::Text(text) = &cell {
                self.bytes += text.len();
            }
            buffer.push(cell);
        }
        self.rows += 1;
        if self.rows >= ROWS || self.bytes >= BYTES { self.flush() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.flush()?;
        let mut out = self.out.into_inner()?;
        Ok(out.flush()?)
    }
}

impl Buffer {
    fn new(kind: Kind) -> Self {
        let values = match kind {
            Kind::Text => Values::Text(Vec::new()),
            Kind::Time | Kind::Number => Values::Number(Vec::new()),
            Kind::Real => Values::Real(Vec::new()),
            Kind::Flag => Values::Flag(Vec::new()),
        };
        Self { values, there: Vec::new() }
    }

    fn push(&mut self, cell: Cell<'_>) {
        let there = match (&mut self.values, cell) {
            (Values::Text(values), Cell::Text(text)) => {
                values.push(text.as_bytes().to_vec().into());
                true
            }
            // A time.
            (Values::Number(values), Cell::Text(text)) => {
                let time = micros(&text);
                values.extend(time);
                time.is_some()
            }
            (Values::Number(values), Cell::Number(number)) => {
                values.push(number.cast_signed());
                true
            }
            (Values::Real(values), Cell::Real(number)) => {
                values.push(number);
                true
            }
            (Values::Flag(values), Cell::Flag(flag)) => {
                values.push(flag);
                true
            }
            _ => false,
        };
        self.there.push(i16::from(there));
    }

    fn write(&mut self, column: SerializedColumnWriter<'_>) -> Result<()> {
        match &mut self.values {
            Values::Text(values) => write::<ByteArrayType>(column, values, &self.there)?,
            Values::Number(values) => write::<Int64Type>(column, values, &self.there)?,
            Values::Real(values) => write::<DoubleType>(column, values, &self.there)?,
            Values::Flag(values) => write::<BoolType>(column, values, &self.there)?,
        }
        self.there.clear();
        Ok(())
    }
}

fn write<T: DataType>(
    mut column: SerializedColumnWriter<'_>,
    values: &mut Vec<T::T>,
    there: &[i16],
) -> Result<()> {
    column.typed::<T>().write_batch(values, Some(there), None)?;
    values.clear();
    Ok(column.close()?)
}

fn schema() -> Result<Type> {
    let fields = COLUMNS.iter().map(|column| {
        let (physical, logical) = match column.kind {
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
            Kind::Number => (Physical::INT64, None),
            Kind::Real => (Physical::DOUBLE, None),
            Kind::Flag => (Physical::BOOLEAN, None),
        };
        let field = Type::primitive_type_builder(column.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()?;
        Ok(Arc::new(field))
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    Ok(Type::group_type_builder("commands").with_fields(fields).build()?)
}

#[cfg(test)]
mod tests {
    use parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::Field,
    };

    use super::*;
    use crate::export::tests::{HOSTILE, item};

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        let mut sink = Box::new(Parquet::new(&mut out).expect("a schema"));
        for statement in HOSTILE {
            sink.put(&Exported::Command(Box::new(item(statement)))).expect("written");
        }
        sink.finish().expect("written");
        let read = SerializedFileReader::new(bytes::Bytes::from(out)).expect("a file");
        let rows: Vec<_> =
            read.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
        let cell = |row: &parquet::record::Row, wanted: &str| {
            row.get_column_iter().find(|(name, _)| *name == wanted).map(|(_, field)| field.clone())
        };
        let statements: Vec<_> = rows.iter().filter_map(|row| cell(row, "statement")).collect();
        assert_eq!(statements, HOSTILE.map(|text| Field::Str(text.into())));
        assert_eq!(cell(&rows[0], "time"), Some(Field::TimestampMicros(1_777_636_800_000_001)));
        assert_eq!(cell(&rows[0], "outcome"), Some(Field::Long(8)));
        assert_eq!(cell(&rows[0], "tag"), Some(Field::Null));
    }
}
