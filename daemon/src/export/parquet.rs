//! Apache Parquet, a group of rows at a time.
//!
//! Does not belong here: which columns there are.

use std::{io::Write, mem, sync::Arc};

use anyhow::Result;
use parquet::{
    basic::{Compression, LogicalType, Repetition, Type as Physical},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::Type,
};

use super::{
    columns::{COLUMNS, Cell, Kind},
    item::Item,
};

/// Rows, and bytes of texts, after which a group ends: it is in memory until then.
const ROWS: usize = 16 << 10;
const BYTES: usize = 16 << 20;

pub(crate) struct Table<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    group: Vec<Vec<Cell>>,
    bytes: usize,
}

impl<W: Write + Send> Table<W> {
    pub(crate) fn new(out: W) -> Result<Self> {
        let fields = COLUMNS.iter().map(|column| {
            let (physical, logical) = match column.kind {
                Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
                Kind::Integer => (Physical::INT64, None),
                Kind::Real => (Physical::DOUBLE, None),
                Kind::Boolean => (Physical::BOOLEAN, None),
            };
            let field = Type::primitive_type_builder(column.name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(logical)
                .build()?;
            Ok(Arc::new(field))
        });
        let fields = fields.collect::<Result<Vec<_>>>()?;
        let schema = Type::group_type_builder("commands").with_fields(fields).build()?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
        Ok(Self { writer, group: Vec::new(), bytes: 0 })
    }

    pub(crate) fn row(&mut self, item: &Item) -> Result<()> {
        let row: Vec<Cell> = COLUMNS.iter().map(|column| (column.value)(item)).collect();
        self.bytes += row.iter().map(size).sum::<usize>();
        self.group.push(row);
        if self.group.len() >= ROWS || self.bytes >= BYTES { self.flush() } else { Ok(()) }
    }

    pub(crate) fn finish(mut self) -> Result<W> {
        self.flush()?;
        Ok(self.writer.into_inner()?)
    }

    fn flush(&mut self) -> Result<()> {
        let rows = mem::take(&mut self.group);
        self.bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        let mut place = 0;
        while let Some(mut column) = group.next_column()? {
            let cells = rows.iter().filter_map(|row| row.get(place));
            match COLUMNS[place].kind {
                Kind::Text => write::<ByteArrayType>(
                    &mut column,
                    cells.map(|cell| match cell {
                        Cell::Text(text) => text.as_deref().map(ByteArray::from),
                        _ => None,
                    }),
                ),
                Kind::Integer => write::<Int64Type>(
                    &mut column,
                    cells.map(|cell| match cell {
                        Cell::Integer(number) => *number,
                        _ => None,
                    }),
                ),
                Kind::Real => write::<DoubleType>(
                    &mut column,
                    cells.map(|cell| match cell {
                        Cell::Real(number) => *number,
                        _ => None,
                    }),
                ),
                Kind::Boolean => write::<BoolType>(
                    &mut column,
                    cells.map(|cell| match cell {
                        Cell::Boolean(is) => Some(*is),
                        _ => None,
                    }),
                ),
            }?;
            column.close()?;
            place += 1;
        }
        group.close()?;
        Ok(())
    }
}

/// A level of 1 is a value, of 0 none.
fn write<T: DataType>(
    column: &mut SerializedColumnWriter<'_>,
    cells: impl Iterator<Item = Option<T::T>>,
) -> Result<()> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    for cell in cells {
        levels.push(i16::from(cell.is_some()));
        values.extend(cell);
    }
    column.typed::<T>().write_batch(&values, Some(&levels), None)?;
    Ok(())
}

fn size(cell: &Cell) -> usize {
    match cell {
        Cell::Text(Some(text)) => text.len(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::Field,
    };

    use super::{
        super::item::tests::{HOSTILE, hostile, item},
        *,
    };

    #[test]
    fn what_is_written_is_read_in_groups_that_are_bounded() {
        let mut table = Table::new(Vec::new()).expect("a table");
        table.row(&hostile()).expect("written");
        let mut large = item();
        large.finished.part.response = Some("x".repeat(BYTES));
        table.row(&large).expect("written");
        assert_eq!(table.group.len(), 0, "a group ended");
        table.row(&item()).expect("written");
        let file = table.finish().expect("finished");
        let reader = SerializedFileReader::new(bytes::Bytes::from(file)).expect("Parquet");
        assert_eq!(reader.num_row_groups(), 2);
        let rows: Vec<_> =
            reader.get_row_iter(None).expect("rows").map(|r| r.expect("a row")).collect();
        let value = |row: usize, name: &str| {
            let mut columns = rows[row].get_column_iter();
            columns.find(|(column, _)| *column == name).expect("a column").1.clone()
        };
        assert_eq!(rows.len(), 3);
        assert_eq!(value(0, "statement"), Field::Str(HOSTILE.into()));
        assert_eq!(value(2, "outcome"), Field::Long(44));
        assert_eq!(value(2, "script"), Field::Null);
        assert_eq!(value(2, "duration_ms"), Field::Double(1.5));
    }
}
